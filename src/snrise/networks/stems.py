"""Stems: downsampling in the first layer, upsampling in the last."""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import invalid
from snrise._typing import Size, StrEnum
from snrise.networks.layers import from_tokens, to_tokens, zero
from snrise.networks.wavelet import Wavelet

__all__ = ["FoldedStem", "PatchStem", "Stem", "Wavelet", "enlarged", "factor_for", "stem"]

Fold: TypeAlias = Callable[[Tensor], Tensor]


class Stem(StrEnum):
    """The kind of the first and last layer.

    `conv`: one convolution over the patch. `unshuffle`: a patch's pixels become channels, then a 3×3 convolution, which
    sees the patches beside. `wavelet`: as `unshuffle`, with the bands of the 5/3 wavelet instead of pixels.
    """

    CONV = "conv"
    UNSHUFFLE = "unshuffle"
    WAVELET = "wavelet"


def factor_for(image: Size, side: int = 32) -> int:
    """The smallest power of two that reduces an image's short side to at most `side` cells.

    >>> factor_for((256, 384))
    8
    """
    return 1 << max(0, -(-min(image) // side) - 1).bit_length()


def unshuffled(x: Tensor, factor: int) -> Tensor:
    """As `F.pixel_unshuffle`, channels-last in memory, in one copy."""
    b, c, h, w = x.shape
    cells = x.reshape(b, c, h // factor, factor, w // factor, factor)
    last = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)
    return last.contiguous(memory_format=torch.channels_last)


def shuffled(h: Tensor, factor: int) -> Tensor:
    """As `F.pixel_shuffle` of what is channels-last in memory, in planes, in one copy."""
    b, _, rows, columns = h.shape
    cells = h.permute(0, 2, 3, 1).reshape(b, rows, columns, -1, factor, factor)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(b, -1, rows * factor, columns * factor).contiguous()


class Patches(nn.Conv2d):
    """A convolution of non-overlapping patches as one matrix product, without a channels-last copy of the image."""

    def forward(self, z: Tensor) -> Tensor:
        patches = unshuffled(z, self.kernel_size[0])
        tokens = F.linear(to_tokens(patches), self.weight.flatten(1), self.bias)
        return from_tokens(tokens, (patches.shape[2], patches.shape[3]))


class PatchStem(nn.Module):
    """A convolution of stride `factor` in, its mirror image out: [b image h w] <-> [b channels h/factor w/factor].

    `factor` 1 is a 3×3 convolution. Hoogeboom et al. 2023, sec. 3.2.
    """

    def __init__(self, image_channels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        if factor == 1:
            self.enter = nn.Conv2d(image_channels, channels, 3, padding=1)
        else:
            self.enter = Patches(image_channels, channels, factor, stride=factor)
        out = image_channels * factor**2
        self.leave = zero(nn.Conv2d(channels, out, 3, padding=1))

    def down(self, z: Tensor) -> Tensor:
        out: Tensor = self.enter(z.contiguous(memory_format=torch.channels_last) if self.factor == 1 else z)
        return out

    def up(self, h: Tensor) -> Tensor:
        return shuffled(self.leave(h), self.factor)


class FoldedStem(nn.Module):
    """What makes channels of a patch without loss, then a 3×3 convolution in; its mirror image out.

    `fold`: [b c h w] -> [b c·factor² h/factor w/factor], and `unfold` back: a pixel shuffle, or the 5/3 wavelet, as in
    Hoogeboom et al. 2023, sec. 3.2.
    """

    def __init__(self, image_channels: int, channels: int, factor: int, fold: Fold, unfold: Fold) -> None:
        super().__init__()
        self.fold, self.unfold, numbers = fold, unfold, image_channels * factor**2
        self.enter = nn.Conv2d(numbers, channels, 3, padding=1)
        self.leave = zero(nn.Conv2d(channels, numbers, 3, padding=1))

    def down(self, z: Tensor) -> Tensor:
        out: Tensor = self.enter(self.fold(z))
        return out

    def up(self, h: Tensor) -> Tensor:
        return self.unfold(self.leave(h))


def enlarged(weight: Tensor, own: Tensor, channels: int) -> Tensor | None:
    """A first or last layer's weight for patches k times as large; None if `own` is not such a layer's.

    The first layer sees a patch pooled by k, times √k, and the last says each number for a block of k×k: what the
    smaller network computed at z, the larger computes at the pooled image times √k. **That is where training begins,
    and no exact continuation**, in three ways. The trunk is told λ, where the pooled image has λ + 2 log k. The pooled
    image times g, 1 ≤ g ≤ k, would be one of the process, g depending on λ (`pooling`), where √k is one number for all.
    And the coarse part of v is not v′ but another combination of v′ and the pooled image.

    Of the weight as it was drawn, `own`, the differences within blocks remain: without them, nothing would be seen or
    said of what is finer, and there would be hardly a gradient towards it. `channels` are those of the image.
    """
    was, now = weight.shape, own.shape
    other = [i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b]
    if len(was) != len(now) or other not in ([0], [1], [2, 3]):
        return None
    # Numbers of a patch lie along the outputs, or along the inputs, of which a kernel of patches is a part.
    numbers, dim = (weight.flatten(1), 1) if other == [2, 3] else (weight, other[0])
    side, k = math.isqrt(numbers.shape[dim] // channels), math.isqrt(own.numel() // weight.numel())
    if k < 2 or numbers.shape[dim] != channels * side**2 or own.numel() != k**2 * weight.numel():
        return None
    outer, inner = numbers.shape[:dim].numel(), numbers.shape[dim + 1 :].numel()
    blocks = own.reshape(outer * channels, side, k, side, k, inner)
    known = numbers.reshape(outer * channels, side, 1, side, 1, inner) / (k**1.5 if dim else 1)
    return (blocks - blocks.mean(dim=(2, 4), keepdim=True) + known).reshape(now)


def check_factor(factor: int, kind: Stem, where: str) -> None:
    """Raise unless a stem of this kind can have this factor."""
    if kind is Stem.WAVELET and factor not in (2, 4, 8):
        raise invalid(where, factor, "2, 4 or 8 for a wavelet", "or use stem_kind=conv")
    if factor < 1:
        raise invalid(where, factor, "a whole number above 0")


def stem(image_channels: int, channels: int, factor: int, kind: Stem) -> PatchStem | FoldedStem:
    """First and last layers that down- and upsample by `factor`."""
    check_factor(factor, kind, "stem.factor")
    match kind:
        case Stem.UNSHUFFLE:
            shuffles = (partial(f, factor=factor) for f in (unshuffled, shuffled))
            return FoldedStem(image_channels, channels, factor, *shuffles)
        case Stem.WAVELET:
            wavelet = Wavelet(factor.bit_length() - 1)
            return FoldedStem(image_channels, channels, factor, wavelet.analysis, wavelet.synthesis)
        case _:
            return PatchStem(image_channels, channels, factor)
