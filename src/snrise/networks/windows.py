"""Parts of images, one an image, that a network is asked about alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """A part of each image: where it begins, and one size for all.

    >>> windows = Windows(((0, 0), (1, 2)), rows=1, columns=2)
    >>> windows.cut(torch.arange(16.0).reshape(2, 1, 2, 4)).flatten().tolist()
    [0.0, 1.0, 14.0, 15.0]
    """

    corners: tuple[tuple[int, int], ...]
    rows: int
    columns: int

    @classmethod
    def drawn(cls, batch: int, side: int, size: Sequence[int]) -> "Windows":
        """Squares of a side, or less where images are narrower, somewhere in images of a size."""
        rows, columns = (min(side, n) for n in size)
        tops, lefts = (_drawn(n - k, batch) for n, k in zip(size, (rows, columns), strict=True))
        return cls(tuple(zip(tops, lefts, strict=True)), rows, columns)

    def halved(self, margin: int, size: Sequence[int]) -> "Windows":
        """At half the side, what covers these, and a margin of cells around; all of it within images of a size."""
        rows, columns = (min(n, k // 2 + 1 + 2 * margin) for n, k in zip(size, (self.rows, self.columns), strict=True))
        corners = tuple(
            (_held(top // 2 - margin, size[0] - rows), _held(left // 2 - margin, size[1] - columns))
            for top, left in self.corners
        )
        return Windows(corners, rows, columns)

    def cut(self, h: Tensor) -> Tensor:
        """The parts: [b c h w] -> [b c rows columns]."""
        return torch.stack([
            image[:, top : top + self.rows, left : left + self.columns]
            for image, (top, left) in zip(h, self.corners, strict=True)
        ])

    def put_back(self, h: Tensor, size: Sequence[int]) -> Tensor:
        """Undoes `cut`, with zeros around: [b c rows columns] -> [b c *size]."""
        down, across = size[0] - self.rows, size[1] - self.columns
        return torch.stack([
            F.pad(part, (left, across - left, top, down - top))
            for part, (top, left) in zip(h, self.corners, strict=True)
        ])


def _drawn(most: int, count: int) -> list[int]:
    """Whole numbers from 0 to the most; where numbers are only imagined, 0."""
    drawn = torch.randint(0, most + 1, (count,), device="cpu")
    return [0] * count if isinstance(drawn, FakeTensor) else drawn.tolist()


def _held(value: int, most: int) -> int:
    return max(0, min(value, most))
