"""How the command line reads sizes and names of files."""

import re
from pathlib import Path

from snrise._errors import invalid, unknown
from snrise._typing import Size
from snrise.plots import SUFFIXES

__all__ = ["check_chart", "parse_size"]


def parse_size(text: str, where: str) -> Size:
    """(height, width) of `512` or `256x384`, height first.

    >>> parse_size("256x384", "--resolution")
    (256, 384)
    """
    match = re.fullmatch(r"\s*(\d+)\s*(?:[xX×]\s*(\d+)\s*)?", text)
    if match is None or int(match[1]) == 0 or (match[2] is not None and int(match[2]) == 0):
        raise invalid(where, text, "a side in pixels, or HEIGHTxWIDTH", "such as 512 or 256x384")
    height = int(match[1])
    return height, height if match[2] is None else int(match[2])


def check_chart(path: Path) -> None:
    """Raise, before anything is computed, unless a chart can have this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise unknown(f"--out {path}", path.suffix, SUFFIXES, "picture format")
