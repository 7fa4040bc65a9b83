"""Parts of images, one an image, that a network is asked about alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

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

    def reduced(self, factor: int, margin: int, size: Sequence[int]) -> "Windows":
        """At a lower resolution, what covers these, and a margin of cells around; all of it within images of a size."""
        rows, columns = (
            min(n, (k + factor - 2) // factor + 1 + 2 * margin)
            for n, k in zip(size, (self.rows, self.columns), strict=True)
        )
        corners = tuple(
            (_held(top // factor - margin, size[0] - rows), _held(left // factor - margin, size[1] - columns))
            for top, left in self.corners
        )
        return Windows(corners, rows, columns)

    def seen_from(self, around: "Windows", factor: int) -> "Windows":
        """These as parts of the parts around them, which are enlarged by a factor."""
        corners = tuple(
            (top - factor * above, left - factor * before)
            for (top, left), (above, before) in zip(self.corners, around.corners, strict=True)
        )
        return Windows(corners, self.rows, self.columns)

    def cut(self, h: Tensor) -> Tensor:
        """The parts: [b … h w] -> [b … rows columns]."""
        return torch.stack([
            image[..., top : top + self.rows, left : left + self.columns]
            for image, (top, left) in zip(h, self.corners, strict=True)
        ])

    def put_back(self, h: Tensor, size: Sequence[int]) -> Tensor:
        """Undoes `cut`, with zeros around: [b … rows columns] -> [b … *size]."""
        return self.put_onto(h.new_zeros(*h.shape[:-2], *size), h)

    def put_onto(self, whole: Tensor, h: Tensor) -> Tensor:
        """The whole images with the parts h in their places: [b … h w]. No gradient goes to what is around."""
        found: Tensor = _PutOnto.apply(whole, h, self)
        return found


class _PutOnto(torch.autograd.Function):
    """One copy of the whole, and backward the parts alone: a slice that is assigned to would copy it for each image."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, h: Tensor, windows: Windows) -> Tensor:
        ctx.windows = windows
        found = whole.clone()
        for image, part, (top, left) in zip(found, h, windows.corners, strict=True):
            image[..., top : top + windows.rows, left : left + windows.columns] = part
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.windows.cut(grad), None


def _drawn(most: int, count: int) -> list[int]:
    """Whole numbers from 0 to the most; where numbers are only imagined, 0."""
    drawn = torch.randint(0, most + 1, (count,), device="cpu")
    return [0] * count if isinstance(drawn, FakeTensor) else drawn.tolist()


def _held(value: int, most: int) -> int:
    return max(0, min(value, most))
