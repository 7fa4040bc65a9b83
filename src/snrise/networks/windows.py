"""Windows: one crop of each image, to which a network's computation is restricted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """A window of each image: the top-left corners, and one size for all.

    >>> windows = Windows(((0, 0), (1, 2)), rows=1, columns=2)
    >>> windows.cut(torch.arange(16.0).reshape(2, 1, 2, 4)).flatten().tolist()
    [0.0, 1.0, 14.0, 15.0]
    """

    corners: tuple[tuple[int, int], ...]
    rows: int
    columns: int

    @classmethod
    def drawn(cls, batch: int, side: int, size: Sequence[int]) -> "Windows":
        """Random square windows in images of a size, smaller where images are narrower."""
        rows, columns = (min(side, n) for n in size)
        tops, lefts = (_drawn(n - k, batch) for n, k in zip(size, (rows, columns), strict=True))
        return cls(tuple(zip(tops, lefts, strict=True)), rows, columns)

    def reduced(self, factor: int, margin: int, size: Sequence[int]) -> "Windows":
        """The windows that cover these at a lower resolution, with a margin of cells, within images of a size."""
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
        """These relative to enclosing windows, enlarged by a factor."""
        corners = tuple(
            (top - factor * above, left - factor * before)
            for (top, left), (above, before) in zip(self.corners, around.corners, strict=True)
        )
        return Windows(corners, self.rows, self.columns)

    def cut(self, h: Tensor) -> Tensor:
        """Crop: [b … h w] -> [b … rows columns]."""
        if self._same:
            return h[self._of(*self.corners[0])].contiguous()
        return torch.stack([image[self._of(*corner)] for image, corner in zip(h, self.corners, strict=True)])

    def put_back(self, h: Tensor, size: Sequence[int]) -> Tensor:
        """Undo `cut`, padding with zeros: [b … rows columns] -> [b … *size]."""
        return self.put_onto(h.new_zeros(*h.shape[:-2], *size), h)

    def put_onto(self, whole: Tensor, h: Tensor) -> Tensor:
        """Paste the windows h into whole images [b … h w]; no gradient flows to the surroundings."""
        pasted: Tensor = _PutOnto.apply(whole, h, self)
        return pasted

    @property
    def _same(self) -> bool:
        """Whether all images have the same window, as a plan's have: its batches are too large for loops."""
        return len(set(self.corners)) == 1

    def _of(self, top: int, left: int) -> tuple[Any, ...]:
        """The index of a window."""
        return ..., slice(top, top + self.rows), slice(left, left + self.columns)


class _PutOnto(torch.autograd.Function):
    """Paste with a single copy of the whole, where slice assignment makes one an image; backward gives the windows."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, h: Tensor, windows: Windows) -> Tensor:
        ctx.windows = windows
        out = whole.clone()
        if windows._same:
            out[windows._of(*windows.corners[0])] = h
            return out
        for image, part, corner in zip(out, h, windows.corners, strict=True):
            image[windows._of(*corner)] = part
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.windows.cut(grad), None


def _drawn(most: int, count: int) -> list[int]:
    """Random integers from 0 to a maximum; 0 for fake tensors."""
    drawn = torch.randint(0, most + 1, (count,), device="cpu")
    return [0] * count if isinstance(drawn, FakeTensor) else drawn.tolist()


def _held(value: int, most: int) -> int:
    return max(0, min(value, most))
