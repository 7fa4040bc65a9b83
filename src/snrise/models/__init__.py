"""Built-in models: exported weights that come with the package, each named by its file."""

import difflib
from importlib import resources
from pathlib import Path

from snrise._errors import SnriseError, invalid

__all__ = ["located", "models", "no_checkpoint"]

FOLDER = Path(str(resources.files("snrise"))) / "models"


def models() -> dict[str, Path]:
    """The built-in models, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}


def located(path: Path) -> Path:
    """The path itself, or the file of the built-in model of that name; an existing path takes precedence."""
    return path if path.exists() else models().get(str(path), path)


def no_checkpoint(path: Path) -> SnriseError:
    """The error for a path without weights."""
    names = list(models())
    close = [] if path.exists() else difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    built_in = f", or a built-in model: {', '.join(names)}" if names else ""
    fix = f"did you mean {close[0]}?" if close else "train one: snrise train"
    return invalid(str(path), "no checkpoint", f"a run's folder, a checkpoint or exported weights{built_in}", fix)
