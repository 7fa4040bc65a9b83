"""What the command line checks before anything is computed."""

from pathlib import Path

from snrise._errors import unknown
from snrise.plots import SUFFIXES

__all__ = ["check_chart"]


def check_chart(path: Path) -> None:
    """Raise, before anything is computed, unless a chart can have this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise unknown(f"--out {path}", path.suffix, SUFFIXES, "picture format")
