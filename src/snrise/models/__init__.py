"""Weights by name: built-in models, each named by its file in this package, and those at the Hub."""

import difflib
from importlib import resources
from pathlib import Path

from snrise._errors import SnriseError, invalid
from snrise.hub import WEIGHTS, HubName, fetch, is_hub_name

__all__ = ["beside", "located", "models", "no_checkpoint", "pinned"]

FOLDER = Path(str(resources.files("snrise"))) / "models"


def models() -> dict[str, Path]:
    """The built-in models, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def located(path: Path) -> Path:
    """The path itself, or the file of weights that it names: of a built-in model, or `hub:USER/NAME[@REVISION]`.

    An existing path takes precedence.

    Raises:
        SnriseError: for a name at the Hub that cannot be had.
    """
    if path.exists():
        return path
    if not is_hub_name(path):
        return models().get(str(path), path)
    return fetch(str(path), (WEIGHTS,)).folder / WEIGHTS


def pinned(path: Path) -> str | None:
    """The name at the Hub that a path is, with the commit that it means now; None for other paths."""
    return str(fetch(str(path), (WEIGHTS,)).name) if is_hub_name(path) and not path.exists() else None


def beside(path: Path) -> Path:
    """The path that what is made of weights is named after: it has a name, and is not at the Hub.

    >>> beside(Path("hub:somebody/flags@v1")), beside(Path("runs/flags"))
    (PosixPath('flags'), PosixPath('runs/flags'))
    """
    if path.exists() or not is_hub_name(path):
        return path if path.name else path.resolve()
    return Path(HubName.parse(str(path)).repository.rpartition("/")[2])


def no_checkpoint(path: Path) -> SnriseError:
    """The error for a path without weights."""
    names = list(models())
    close = [] if path.exists() else difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    built_in = f", or a built-in model: {', '.join(names)}" if names else ""
    fix = f"did you mean {close[0]}?" if close else "train one: snrise train"
    allowed = f"a run's folder, a checkpoint, exported weights, hub:USER/NAME{built_in}"
    return invalid(str(path), "no checkpoint", allowed, fix)
