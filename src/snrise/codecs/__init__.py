"""Codecs: between pictures, RGB as stored and shown, and what is diffused."""

from snrise.codecs.base import Codec
from snrise.codecs.grey import Grey
from snrise.codecs.pixels import Pixels

__all__ = ["CODECS", "Codec", "Grey", "Pixels"]

#: Every codec by the name that a config gives it.
CODECS: dict[str, type[Codec]] = {"pixels": Pixels, "grey": Grey}
