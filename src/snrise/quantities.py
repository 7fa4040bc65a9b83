"""Parsing and formatting of sizes, counts and durations."""

import re

from snrise._errors import invalid
from snrise._typing import Size

__all__ = ["duration", "parse_count", "parse_size", "parse_time", "speed"]


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


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(41.3), duration(95), duration(1620), duration(9400)
    ('41 s', '95 s', '27 min', '2.6 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def speed(rate: float, unit: str = "images") -> str:
    """Units a second, in words.

    >>> speed(46.8), speed(0.53), speed(0.0123, "steps")
    ('47 images/s', '0.5 images/s', '0.012 steps/s')
    """
    return f"{rate:.{0 if rate >= 10 else 1 if rate >= 0.1 else 3}f} {unit}/s"
