"""Built-in models are found by name, where no file is in the way."""

from pathlib import Path

import pytest

import snrise
from snrise import models
from snrise._errors import SnriseError
from snrise.config import to_yaml
from snrise.export import export_weights
from snrise.trained import is_run, newest
from snrise.training import save_state
from tiny import config, state_of


@pytest.fixture(autouse=True)
def built_in(tmp_path, monkeypatch):
    """Two built-in models, and a folder to work in."""
    settings = config("data.classes=null")
    extra = {"classes": None, "frequencies": None}
    checkpoint = save_state(state_of(settings, None), tmp_path / "run" / "checkpoints", to_yaml(settings), extra)
    for name in ("tiny-16", "tiny-32"):
        export_weights(checkpoint, tmp_path / "models" / f"{name}.safetensors")
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return checkpoint


def test_a_name_opens(built_in):
    assert list(models.models()) == ["tiny-16", "tiny-32"]
    opened = snrise.load(Path("tiny-16"))
    assert opened.config == snrise.load(built_in).config
    assert newest(Path("tiny-16")) == models.FOLDER / "tiny-16.safetensors"
    assert is_run(Path("tiny-16"))
    assert not is_run(Path("tiny"))


def test_what_exists_comes_first(built_in):
    Path("tiny-16").mkdir()
    assert models.located(Path("tiny-16")) == Path("tiny-16")
    with pytest.raises(SnriseError, match="^tiny-16: got 'no checkpoint'; .*; train one: snrise train$"):
        snrise.load(Path("tiny-16"))
    assert not is_run(Path("tiny-16"))


@pytest.mark.parametrize(("name", "fix"), [("tiny16", "did you mean tiny-16?"), ("photos", "train one: snrise train")])
def test_an_unknown_name_lists_them(name, fix):
    with pytest.raises(SnriseError) as caught:
        snrise.load(Path(name))
    assert str(caught.value) == (
        f"{name}: got 'no checkpoint'; allowed: a run's folder, a checkpoint, exported weights, hub:USER/NAME, or a "
        f"built-in model: tiny-16, tiny-32; {fix}"
    )
