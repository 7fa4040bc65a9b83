"""Pages as programs: their blocks of Python, and their commands with a few small settings added."""

import re
import shlex
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from snrise.cli import app

ROOT = Path(__file__).parents[1]

#: What makes a training command of a page short; nothing that it says itself is changed.
SMALL = [
    "training.images=32", "log.grid=4", "sampling.steps=2",
    *(f"network.levels.{i}.channels={channels}" for i, channels in enumerate((16, 32))),
]
#: The same of an autoencoder.
SMALL_CODEC = [
    "training.images=8", "training.batch=4", "training.crop=32", "log.grid=4", "objective.critic_channels=4",
    "autoencoder.width=4", "autoencoder.blocks=1", "autoencoder.attention=false",
]


def page(path: str) -> str:
    """The text of a page of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def program(text: str) -> str:
    """Its Python, in which a line has the number that it has on the page."""
    parts, inside = [], False
    for line in text.splitlines():
        inside = line == "```python" or (inside and line != "```")
        parts.append(line if inside and line != "```python" else "")
    return "\n".join(parts) + "\n"


def commands(text: str) -> list[list[str]]:
    """The arguments of each `snrise` of its blocks of shell."""
    lines = "".join(blocks(text, "sh")).splitlines()
    pattern = r"(?<![\w/])(?:\.venv/bin/)?snrise\s[^&]*"
    return [shlex.split(part)[1:] for line in lines for part in re.findall(pattern, line)]


def pictures(text: str) -> list[str]:
    """The addresses of its pictures."""
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)


def shortened(arguments: list[str]) -> list[str]:
    """The same with small settings; of options given twice, the last counts."""
    small = SMALL
    if "--grow" in arguments:  # the network is that of the run before, and one level more
        small = [*(part for part in small if not part.startswith("network.")), "network.level.blocks=1"]
    if "--budget" in arguments:
        small = [*(part for part in small if not part.startswith("training.images=")), "--budget", "1s"]
    match arguments:
        case ["train-codec", *_]:
            return [*arguments, *SMALL_CODEC]
        case ["train", *_]:
            return [*arguments, *small]
        case ["sample", *_]:
            return [*arguments, "--steps", "2"]
        case ["evaluate" | "sweep", *_]:
            return [*arguments, "-n", "8"]
        case ["compare", *rest]:
            arms = [" ".join([part, *SMALL]) if " " in part else part for part in rest]
            return ["compare", *arms, "--images", "32", "--seeds", "1", "-n", "8", "--points", "1"]
        case ["plan", *_]:
            return [*arguments, "--seconds", "0.2"]
        case _:
            return arguments


def invoke(arguments: list[str]) -> None:
    """Run a command, which has to succeed."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)


def photographs(folder: Path) -> Path:
    """A folder with two sub-folders of small pictures."""
    for i, name in enumerate(("a", "b")):
        (folder / name).mkdir(parents=True)
        for j in range(12):
            Image.new("RGB", (40 + i, 30), (200, 10 * i, 20 * j)).save(folder / name / f"{j}.jpg")
    return folder
