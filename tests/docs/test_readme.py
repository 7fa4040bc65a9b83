"""The README and the tour of the command line run: Python as one program, commands with a few small settings added."""

from pathlib import Path

import pytest

from snrise.metrics import FEATURES
from tiny import POOLED
from written import ROOT, blocks, commands, invoke, page, photographs, pictures, program, shortened

README, GUIDE = "README.md", "docs/guide.md"
#: What the tour runs.
TOUR = {
    "train", "sample", "schedule", "show", "evaluate", "sweep", "compare", "plan", "train-codec", "evaluate-codec",
}


@pytest.mark.slow
def test_the_tours_python_runs() -> None:
    text = program(page(GUIDE))
    assert "for_resolution" in text
    names: dict[str, object] = {}
    exec(compile(text, GUIDE, "exec"), names)
    assert tuple(names["images"].shape) == (4, 3, 64, 96)  # type: ignore[attr-defined]
    assert names["scheduler"].betas.max() == 1  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("path", [README, GUIDE])
def test_its_commands_run(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "path" / "to" / "photos")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    for arguments in commands(page(path)):
        invoke(shortened(arguments))
    if path == README:
        assert (tmp_path / "samples-3.png").is_file()
    else:
        assert {arguments[0] for arguments in commands(page(path))} == TOUR
        assert (tmp_path / "runs" / "emoji-32" / "samples-1.png").is_file()
        assert len(list((tmp_path / "pictures").glob("*.png"))) == 8


@pytest.mark.parametrize("path", [README, GUIDE])
def test_its_pictures_exist(path: str) -> None:
    assert pictures(page(path))
    for picture in pictures(page(path)):
        assert ((ROOT / path).parent / picture).is_file(), picture


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len(page(README).split()) < 700
    assert len(commands(page(README))) == 2


def test_ci_runs_its_test_command() -> None:
    (block,) = (block for block in blocks(page(README), "sh") if "pytest" in block)
    ci = page(".ci/run")
    command = block.strip().splitlines()[-1]
    assert command in ci.splitlines()
    assert ci.index(command) < ci.index("-m slow")
