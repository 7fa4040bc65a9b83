"""Pixels, as they are."""

from dataclasses import dataclass
from typing import final

from jaxtyping import UInt8
from torch import Tensor

from snrise._typing import Images, Pictures, Size
from snrise.codecs.base import Codec
from snrise.data import as_float, to_uint8


@final
@dataclass(frozen=True)
class Pixels(Codec):
    """RGB in −1…1: nothing is encoded.

    >>> Pixels().shape((64, 96)), Pixels().range
    ((3, 64, 96), (-1.0, 1.0))
    """

    @property
    def range(self) -> tuple[float, float]:
        """−1…1."""
        return -1.0, 1.0

    def shape(self, size: Size) -> tuple[int, int, int]:
        """Three channels of the picture's size."""
        return 3, *size

    def encode(self, pictures: Pictures) -> Images:
        """uint8 0…255 to −1…1; floats are there already."""
        return as_float(pictures)

    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """−1…1 to the nearest of 0…255."""
        return to_uint8(x)
