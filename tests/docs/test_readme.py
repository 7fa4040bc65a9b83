"""The README runs: its Python as one program, its commands with a few small settings added."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from snrise.cli import app
from snrise.metrics import FEATURES
from tiny import POOLED

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: What makes a training command of the README short; nothing that it says itself is changed.
SMALL = [
    "training.images=32", "log.grid=4", "sampling.steps=2",
    *(f"network.levels.{i}.channels={channels}" for i, channels in enumerate((16, 32))),
]


#: The same of an autoencoder.
SMALL_CODEC = [
    "training.images=8", "training.batch=4", "training.crop=32", "log.grid=4", "objective.critic_channels=4",
    "autoencoder.width=4", "autoencoder.blocks=1", "autoencoder.attention=false",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(blocks("sh")).splitlines()
    pattern = r"(?<![\w/])(?:\.venv/bin/)?snrise\s[^&]*"
    return [shlex.split(part)[1:] for line in lines for part in re.findall(pattern, line)]


def shortened(arguments: list[str]) -> list[str]:
    """The same with small settings; of options given twice, the last counts."""
    match arguments:
        case ["train-codec", *_]:
            return [*arguments, *SMALL_CODEC]
        case ["train", *_] if "--grow" in arguments:
            return [*arguments, *(part for part in SMALL if not part.startswith("network.")), "network.level.blocks=1"]
        case ["train", *_] if "--budget" in arguments:
            short = [part for part in SMALL if not part.startswith("training.images=")]
            return [*arguments, *short, "--budget", "1s"]
        case ["train", *_]:
            return arguments + SMALL
        case ["sample", *_]:
            return [*arguments, "--steps", "2"]
        case ["evaluate" | "sweep", *_]:
            return [*arguments, "-n", "8"]
        case ["compare", *rest]:
            small = [" ".join([part, *SMALL]) if " " in part else part for part in rest]
            return ["compare", *small, "--images", "32", "--seeds", "1", "-n", "8", "--points", "1"]
        case _:
            return arguments


def invoke(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)


def test_its_python_runs() -> None:
    program = "".join(blocks("python"))
    assert "for_resolution" in program
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    assert tuple(names["images"].shape) == (4, 3, 64, 96)  # type: ignore[attr-defined]
    assert names["scheduler"].betas.max() == 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "path" / "to" / "photos"
    for i, name in enumerate(("a", "b")):
        (photos / name).mkdir(parents=True)
        for j in range(12):
            Image.new("RGB", (40 + i, 30), (200, 10 * i, 20 * j)).save(photos / name / f"{j}.jpg")
    found = commands()
    assert {arguments[0] for arguments in found} == {
        "train", "sample", "schedule", "show", "evaluate", "sweep", "compare", "plan", "train-codec",
        "evaluate-codec",
    }
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    for arguments in found:
        invoke(shortened(arguments))
    assert (tmp_path / "runs" / "emoji-32" / "samples-1.png").is_file()
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 8


def test_its_pictures_exist() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


def test_ci_runs_its_test_command() -> None:
    (block,) = (block for block in blocks("sh") if "pytest" in block)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    command = block.strip().splitlines()[-1]
    assert command in ci.splitlines()
    assert ci.index(command) < ci.index("-m slow")
