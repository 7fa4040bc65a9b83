import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snrise._errors import SnriseError
from snrise.config import RunConfig, parse
from snrise.documents import DEFAULT_RECIPE, differences, load, override, read_document, recipes, resolve
from tiny import DOCUMENT


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "run.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def plain_run():
    return {
        "name": "a", "data": {"resolution": [16, 16]}, "training": {"images": 8},
        "network": {"kind": "uvit", "levels": [{"channels": 8, "blocks": 1}]},
    }


def test_the_default_recipe_exists():
    assert DEFAULT_RECIPE in recipes()
    assert load(DEFAULT_RECIPE).name == DEFAULT_RECIPE
    assert all(read_document(name)["name"] == name for name in recipes())


def test_a_file_is_read(file):
    assert load(file(DOCUMENT), ["training.batch=4"]).training.batch == 4


@pytest.mark.parametrize(("content", "message"), [
    ("", "got 'NoneType'; allowed: settings, each `name: value`"),
    ("3", "got 'int'"),
    ("- a\n- b", "got 'list'"),
    ("just text", "got 'str'"),
    ("a: [1, 2", "not YAML: while parsing"),
    ("a: b: c", "not YAML: mapping values are not allowed here"),
    ("\ta: 1", "not YAML: while scanning"),
    ("a: 1\nb: 2\na: 3", "not YAML: setting 'a' stands twice"),
    ("a: {b: 1, b: 2}", "not YAML: setting 'b' stands twice"),
    ("a: &x [1]\nb: *x", "not YAML: alias *x is not allowed; write the value out"),
    ("a: &x {b: *x}", "not YAML: alias *x is not allowed"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "not YAML: 'utf-8' codec can't decode"),
    (b"name: \xff", "not YAML: 'utf-8' codec can't decode"),
    (b"\x00\x01", "not YAML: unacceptable character"),
    ("a: !!python/object/apply:os.getcwd []", "not YAML: could not determine a constructor"),
    ("a: 2024-13-45", "not YAML: ValueError: month must be in 1..12"),
    ("a: 0b_", "not YAML: ValueError"),
    ("a: !!map [1]", "not YAML: Type"),
    ("a: !!int", "not YAML: IndexError"),
    ("a: 2024-01-01T99:00:00", "not YAML: ValueError"),
    ("a: !!bool maybe", "not YAML: KeyError"),
    ("a: !!timestamp never", "not YAML: AttributeError"),
    ("a: " + "9" * 5000, "not YAML: ValueError: Exceeds the limit"),
    ("a: " + "[" * 5000, "not YAML: RecursionError"),
    ("? [1]\n: 2", "not YAML: the name of a setting is text, not [1]"),
    ("a: {3: 1}", "not YAML: the name of a setting is text, not 3"),
    ("yes: 1", "not YAML: the name of a setting is text, not True"),
    ("--- \na: 1\n--- \nb: 2", "not YAML: expected a single document"),
])
def test_what_is_no_settings_is_told_in_a_line(file, content, message):
    path = file(content)
    with pytest.raises(SnriseError, match=f"^{re.escape(path)}: {re.escape(message)}") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_names_the_nearest(tmp_path):
    with pytest.raises(SnriseError, match=r"^recipe: no such recipe or file 'emoji-23'; did you mean 'emoji-.*'\?"):
        load("emoji-23")
    for name in ("", "a\0b", str(tmp_path), str(tmp_path / "none.yaml"), "a" * 5000):
        with pytest.raises(SnriseError, match=r"no such recipe or file|cannot be read: File name too long"):
            load(name)


@pytest.mark.parametrize(("assignment", "path", "value"), [
    ("name=b", ("name",), "b"), ("training.batch=4", ("training", "batch"), 4), ("log.every=2", ("log", "every"), 2),
    ("training.learning_rate=1e-3", ("training", "learning_rate"), 0.001),
    ("training.learning_rate=2E5", ("training", "learning_rate"), 200000.0),
    ("a.b.c.d=[1, {e: 2}]", ("a", "b", "c", "d"), [1, {"e": 2}]), ("name=", ("name",), None), ("a=x=y", ("a",), "x=y"),
    ("data.resolution.1=24", ("data", "resolution", 1), 24), ("data.flip=true", ("data", "flip"), True),
    ("network.levels.0.channels=16", ("network", "levels", 0, "channels"), 16),
    ("network.levels.0={channels: 4}", ("network", "levels", 0), {"channels": 4}), ("a='1'", ("a",), "1"),
    ("training=3", ("training",), 3),
])
def test_an_override_changes_one_setting(assignment, path, value):
    document, expected = plain_run(), plain_run()
    override(document, assignment)
    place = document
    for key in path:
        place = place[key]
    assert place == value
    assert type(place) is type(value)
    setting = assignment.partition("=")[0]
    changes = [key for key, _, _ in differences(expected, document)]
    assert changes
    # Lists of numbers differ as a whole; all else lies at the setting, under it, or over it.
    assert all(f"{key}.".startswith(f"{setting}.") or f"{setting}.".startswith(f"{key}.") for key in changes)


def test_a_setting_of_a_member_given_by_name():
    document = plain_run() | {"schedule": {"base": "linear_beta"}}
    override(document, "schedule.base.beta_max=30")
    assert document["schedule"]["base"] == {"kind": "linear_beta", "beta_max": 30}
    assert parse(document).schedule.base.beta_max == 30.0


@pytest.mark.parametrize(("assignment", "message"), [
    ("training.batch", "override: got 'training.batch'; allowed: key=value, such as training.batch=16"),
    ("=3", "override: got '=3'"), ("", "override: got ''"),
    ("seed=[1", "config.seed: got '[1'; allowed: a YAML value"),
    ("seed={a: 1, a: 2}", "config.seed: got"), ("seed=2024-13-01", "config.seed: got '2024-13-01'"),
    ("data.resolution.2=3", "config.data.resolution.2: got '2'; allowed: a number from 0 to 1"),
    ("data.resolution.-1=3", "config.data.resolution.-1: got '-1'"),
    ("data.resolution.²=3", "config.data.resolution.²: got '²'"),
    ("network.levels.x.channels=3", "config.network.levels.x: got 'x'; allowed: a number from 0 to 0"),
    ("data.resolution.0.x=3", "config.data.resolution.0: got 16; allowed: settings, to have 'x' among them"),
])
def test_a_wrong_override_is_told(assignment, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}"):
        override(plain_run(), assignment)


@pytest.mark.parametrize(("size", "levels", "stem"), [
    ("[16, 16]", 2, 1), ("[32, 32]", 2, 2), ("[64, 64]", 2, 4), ("[64, 64]", 3, 2), ("[96, 512]", 3, 4),
    ("[256, 256]", 3, 8),
])
def test_an_automatic_stem_follows_resolution_and_levels(size, levels, stem):
    told = f"network.levels=[{', '.join(['{channels: 16, blocks: 1}'] * levels)}]"
    found = load("emoji-32", ["network.stem=auto", f"data.resolution={size}", told])
    assert found.network.stem == stem


@pytest.mark.parametrize("size", ["[0, 0]", "[-4, 16]", "[]", "3", "null", "[a, b]", "{a: 1}"])
def test_an_automatic_stem_of_no_size_is_told_at_the_size(size):
    with pytest.raises(SnriseError, match=r"^config\.data\.resolution"):
        load("emoji-32", ["network.stem=auto", f"data.resolution={size}"])


@pytest.mark.parametrize("document", [{}, {"network": 3}, {"network": {"stem": "auto"}},
                                      {"network": {"stem": "auto"}, "data": None}])
def test_resolve_leaves_what_is_no_settings_to_the_check(document):
    before = repr(document)
    resolve(document)
    assert repr(document) == before


def test_differences():
    a = {"x": 1, "y": {"z": [1, 2], "w": 0}, "only a": None, "kind": {"a": 1}}
    b = {"x": 1, "y": {"z": [1, 3], "w": 0}, "only b": 5, "kind": "a"}
    assert differences(a, b) == [("kind", {"a": 1}, "a"), ("only b", None, 5), ("y.z", [1, 2], [1, 3])]
    assert differences(a, a) == []


def test_differences_within_a_list_of_settings():
    a, b = {"levels": [{"blocks": 1}, {"blocks": 2}]}, {"levels": [{"blocks": 1}, {"blocks": 2, "checkpoint": True}]}
    assert differences(a, b) == [("levels.1.checkpoint", None, True)]
    assert differences(a, {"levels": a["levels"][:1]}) == [("levels", a["levels"], a["levels"][:1])]


PIECES = st.sampled_from(
    ["name: a\n", "data:", " {", "}", "[", "]", ": ", ", ", "- ", "\n", "  ", "&a ", "*a", "!!int ", "!!set ",
     "!!omap ", "!!binary ", "!!timestamp ", "!", "|\n", ">", "'", '"', "#", "<<: ", "? ", "---\n", "...\n", "1e",
     "%YAML 1.1\n", "0x", "0o7_", "1:30", "2024-02-30", ".nan", "~", "\\", "\t", "training: {images: 1}\n",
     "network: uvit\n", "\N{SNOWMAN}"]
)


def load_or_error(path, overrides):
    """The settings, or the text of the one error that may be raised."""
    try:
        return load(path, overrides)
    except SnriseError as error:
        return str(error)


@settings(max_examples=200)
@given(text=st.text(max_size=40) | st.lists(PIECES, max_size=20).map("".join), as_override=st.booleans())
def test_random_text_gives_settings_or_the_one_error(tmp_path_factory, text, as_override):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_text(DOCUMENT if as_override else text, encoding="utf-8", errors="surrogatepass")
    found = load_or_error(str(path), [text] if as_override else [])
    assert isinstance(found, RunConfig) or "\n" not in found
