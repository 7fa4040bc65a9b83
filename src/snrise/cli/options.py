"""How the command line reads sizes, counts, times and names of files."""

import re
from pathlib import Path

from snrise._errors import invalid, unknown
from snrise._typing import Size
from snrise.plots import SUFFIXES

__all__ = ["check_chart", "parse_count", "parse_size", "parse_time"]


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


def parse_count(text: str, where: str) -> int:
    """A number of images: 200k, 1.5M, 64_000.

    >>> parse_count("200k", "--images"), parse_count("1.5M", "--images")
    (200000, 1500000)
    """
    match = re.fullmatch(r"([\d_]+(?:\.\d+)?)\s*([kM]?)", text.strip())
    count = 0 if match is None else round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]])
    if count < 1:
        raise invalid(where, text, "a number of images", "such as 64000, 200k or 1.5M")
    return count


def parse_time(text: str, where: str) -> float:
    """Seconds of 90s, 10m, 2h.

    >>> parse_time("10m", "--budget")
    600.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    seconds = 0.0 if match is None else float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds <= 0:
        raise invalid(where, text, "a time", "such as 90s, 10m or 2h")
    return seconds
