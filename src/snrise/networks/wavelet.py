"""The reversible 5/3 wavelet as a stem: fewer pixels, more channels, nothing lost."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from snrise._errors import require
from snrise.networks.base import check_sides

__all__ = ["Wavelet"]

#: Per level, the norms of the low and the high filter that lead from the image to that level along one axis. Those of
#: level 1 are [−1 2 6 2 −1]/8 and [−1 2 −1]/2; of level l, the low filter of l − 1 with these stretched by 2^(l − 1).
_NORMS = tuple((math.sqrt(low), math.sqrt(high)) for low, high in (
    (46 / 64, 3 / 2), (445 / 1024, 171 / 128), (7849 / 32768, 3603 / 4096)))


@dataclass(frozen=True)
class Wavelet:
    """The 5/3 wavelet (Le Gall & Tabatabai 1988), lifted (Sweldens 1996): 1 to 3 levels, all bands in one tensor.

    As the stem of a network: Hoogeboom et al. 2023, sec. 3.2. Separable; mirrored at the borders about the outermost
    pixel. Every band is divided by the norm of its filter, so that white noise of variance 1 has variance 1 in each of
    them (but for a few cells at the borders): the network sees noise of one size in all bands. Noise in neighbouring
    cells is weakly correlated, as the filters are not orthogonal; a constant grows in the low band by 1.39, 2.30 or
    4.17 at 1, 2 or 3 levels.

    Channels, of an image with c, from coarse to fine:

    - c of the low band;
    - then for each level l = levels, …, 1 its details, 3c·r² with r = 2^(levels − l): the details [3c h/2^l w/2^l] are
      brought to the lowest resolution as `pixel_unshuffle(…, r)` orders them. Detail band k of colour i, in row p and
      column q of each r×r square, is number ((k·c + i)·r + p)·r + q of its level; k = 0 is high across the width
      (vertical edges), 1 high across the height, 2 high across both.

    >>> wavelet = Wavelet(levels=2)
    >>> bands = wavelet.analysis(torch.ones(1, 3, 512, 512))
    >>> bands.shape
    torch.Size([1, 48, 128, 128])
    >>> bool(bands[:, 3:].any())
    False
    >>> torch.allclose(wavelet.synthesis(bands), torch.ones(1, 3, 512, 512))
    True
    """

    levels: int

    def __post_init__(self) -> None:
        require(self.levels in range(1, len(_NORMS) + 1), "Wavelet.levels", self.levels, "1, 2 or 3")

    @property
    def divisor(self) -> int:
        """The image's height and width must be multiples of this, the downsampling factor of the bands."""
        return 1 << self.levels

    def channels(self, image_channels: int) -> int:
        """The number of channels of the bands.

        >>> Wavelet(levels=2).channels(3)
        48
        """
        return image_channels * self.divisor**2

    def analysis(self, x: Tensor) -> Tensor:
        """The bands of an image: [b c h w] -> [b c·4^levels h/2^levels w/2^levels], in the image's precision."""
        check_sides((x.shape[2], x.shape[3]), self.divisor, where="Wavelet.image")
        c = x.shape[1]
        bands: list[Tensor] = []
        for level, (low, high) in enumerate(_NORMS[:self.levels], 1):
            quarters = _split(_split(x, 3), 2)
            x, one, both = quarters[:, :c], quarters[:, c:3 * c], quarters[:, 3 * c:]
            side = 1 << (self.levels - level)
            bands = [pixel_unshuffle(one / (low * high), side), pixel_unshuffle(both / high**2, side), *bands]
        return torch.cat([x / low**2, *bands], dim=1)

    def synthesis(self, bands: Tensor) -> Tensor:
        """The image of the bands: [b c·4^levels h w] -> [b c h·2^levels w·2^levels]; undoes `analysis` to rounding."""
        step = self.channels(1)
        require(bands.shape[1] % step == 0, "Wavelet.bands", f"{bands.shape[1]} channels", f"a multiple of {step}")
        c = bands.shape[1] // step
        x, start = bands[:, :c] * _NORMS[self.levels - 1][0]**2, c
        for level in range(self.levels, 0, -1):
            low, high = _NORMS[level - 1]
            side = 1 << (self.levels - level)
            end = start + 3 * c * side**2
            details, start = pixel_shuffle(bands[:, start:end], side), end
            one, both = details[:, :2 * c] * (low * high), details[:, 2 * c:] * high**2
            x = _merge(_merge(torch.cat([x, one, both], dim=1), 2), 3)
        return x


def _split(x: Tensor, dim: int) -> Tensor:
    """One lifting step along a spatial axis, not normalised: [b c … 2n …] -> [b 2c … n …], low bands, then high."""
    even, odd = torch.unflatten(x, dim, (x.shape[dim] // 2, 2)).unbind(dim + 1)
    high = torch.sub(odd, even + _next(even, dim), alpha=0.5)
    return torch.cat([torch.add(even, _previous(high, dim) + high, alpha=0.25), high], dim=1)


def _merge(bands: Tensor, dim: int) -> Tensor:
    """Undo `_split`."""
    low, high = bands.chunk(2, dim=1)
    even = torch.sub(low, _previous(high, dim) + high, alpha=0.25)
    odd = torch.add(high, even + _next(even, dim), alpha=0.5)
    return torch.stack([even, odd], dim=dim + 1).flatten(dim, dim + 1)


def _next(even: Tensor, dim: int) -> Tensor:
    """The even pixel after each odd one; the mirror of the last."""
    return torch.cat([even.narrow(dim, 1, even.shape[dim] - 1), even.narrow(dim, even.shape[dim] - 1, 1)], dim=dim)


def _previous(odd: Tensor, dim: int) -> Tensor:
    """The odd pixel before each even one; the mirror of the first."""
    return torch.cat([odd.narrow(dim, 0, 1), odd.narrow(dim, 0, odd.shape[dim] - 1)], dim=dim)
