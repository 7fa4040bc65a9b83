"""Luminance alone."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._typing import Images, Pictures, Size
from snrise.codecs.base import Codec
from snrise.codecs.pixels import Pixels
from snrise.data import to_uint8

#: Of red, green and blue: ITU-R BT.601, as in Pillow's mode L.
WEIGHTS = (0.299, 0.587, 0.114)


@final
@dataclass(frozen=True)
class Grey(Codec):
    """One channel in −1…1, for digits, scans and other pictures without colour; the network has `image_channels=1`.

    >>> grey = Grey()
    >>> grey.decode(grey.encode(torch.full((1, 3, 1, 1), 51, dtype=torch.uint8))).flatten()
    tensor([51, 51, 51], dtype=torch.uint8)
    """

    @property
    def range(self) -> tuple[float, float]:
        """−1…1."""
        return -1.0, 1.0

    def shape(self, size: Size) -> tuple[int, int, int]:
        """One channel of the picture's size."""
        return 1, *size

    def encode(self, pictures: Pictures) -> Images:
        """The weighted mean of red, green and blue."""
        x = Pixels().encode(pictures)
        return torch.einsum("bchw,c->bhw", x, x.new_tensor(WEIGHTS))[:, None]

    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """Grey as RGB."""
        return to_uint8(x).repeat(1, 3, 1, 1)
