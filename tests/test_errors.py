import pytest

from snrise._errors import SnriseError, invalid, require, unknown


def test_invalid_says_where_what_allowed_and_fix():
    assert str(invalid("a.b", 3, "a number below 2", "use 1")) == "a.b: got 3; allowed: a number below 2; use 1"
    assert str(invalid("a.b", "x", "y")) == "a.b: got 'x'; allowed: y"


def test_unknown_names_the_nearest():
    assert str(unknown("a", "sigmod", ["snr", "sigmoid"])) == (
        "a: no such name 'sigmod'; did you mean 'sigmoid'? allowed: sigmoid, snr")
    assert str(unknown("a", "zzz", ["snr"], "weight")) == "a: no such weight 'zzz'; allowed: snr"


def test_require():
    require(True, "a", 1, "b")
    with pytest.raises(SnriseError, match=r"^a: got 1; allowed: b$") as raised:
        require(False, "a", 1, "b")
    assert isinstance(raised.value, ValueError)
