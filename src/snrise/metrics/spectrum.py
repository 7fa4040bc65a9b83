"""Power by octave of spatial frequency: what blurs and patch grids do to samples, which features do not see."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from snrise._errors import require

__all__ = ["SpectralDistance", "grid_excess", "octave_names", "radial_power", "spectral_distance"]

#: Upper edges of octaves in cycles a pixel, from above: the corner of the square beyond Nyquist, then halves.
NYQUIST = 0.5
#: Below a mean power of so much, in units of (1/255)² a pixel, there is nothing but rounding.
FLOOR = 1 / 12


class SpectralDistance(NamedTuple):
    """Decibels of samples over data by octave, lowest frequencies first, and their root mean square."""

    distance: float
    decibels: Float64[Tensor, " octaves"]
    names: Sequence[str]


def radial_power(images: Shaped[Tensor, "n c h w"]) -> Float64[Tensor, " octaves"]:
    """Mean |FFT|² a pixel of images in units of uint8 levels, over images, channels and the frequencies of an octave.

    Octaves of |f| in cycles a pixel: …, 1/8 to 1/4, 1/4 to 1/2, and the corners beyond; the mean (f = 0) is left out.
    White noise of variance 1 has a power of 1 in each. Sides need not be equal.

    >>> noise = 10 * torch.randn(64, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    >>> (radial_power(noise) / 100).round()
    tensor([1., 1., 1., 1., 1.], dtype=torch.float64)
    """
    height, width = images.shape[-2:]
    require(min(height, width) >= 4, "radial_power.images", (height, width), "sides of 4 pixels or more")
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None].double(), torch.fft.rfftfreq(width).double())
    octave = _octaves(frequency, min(height, width))
    count = int(octave.max()) + 1
    # Only half of the plane is there; a column stands for its mirror image too, but for the first and an even last.
    twice = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    weights = torch.where(octave >= 0, twice.expand_as(frequency), 0.0)
    total = torch.zeros(frequency.shape, dtype=torch.float64)
    for part in torch.split(images, 64):
        total += torch.fft.rfft2(part.double()).abs().square().sum(dim=(0, 1)).cpu()
    power = total / (len(images) * images.shape[1] * height * width)
    bins = octave.clamp(min=0).flatten()
    sums, sizes = (torch.zeros(count, dtype=torch.float64).index_add_(0, bins, v.flatten())
                   for v in (power * weights, weights))
    return sums / sizes


def octave_names(octaves: int) -> list[str]:
    """What to call the octaves of `radial_power`.

    >>> octave_names(4)
    ['1/16-1/8', '1/8-1/4', '1/4-1/2', 'corners']
    """
    lower = [f"1/{2 ** (i + 1)}-1/{2**i}" for i in range(octaves - 1, 0, -1)]
    return [*lower, "corners"]


def spectral_distance(
    samples: Float64[Tensor, " octaves"], reference: Float64[Tensor, " octaves"]
) -> SpectralDistance:
    """Compare two results of `radial_power`; a blur is negative at high frequencies, a patch grid positive.

    Powers below that of rounding to 8 bits count as that, so that flat images compare.

    >>> spectral_distance(torch.tensor([4.0, 1.0], dtype=torch.float64), torch.tensor([4.0, 10.0], dtype=torch.float64))
    SpectralDistance(distance=7.07..., decibels=tensor([  0., -10.], dtype=torch.float64), names=['1/4-1/2', 'corners'])
    """
    same = len(samples) == len(reference)
    require(same, "spectral_distance", f"{len(samples)} and {len(reference)} octaves", "images of the same size")
    decibels = 10 * (samples.clamp(min=FLOOR).log10() - reference.clamp(min=FLOOR).log10())
    return SpectralDistance(float(decibels.square().mean().sqrt()), decibels, octave_names(len(decibels)))


def grid_excess(images: Shaped[Tensor, "n c h w"], factor: int) -> float:
    """Power at the frequencies of a grid of factor×factor patches, relative to that of their neighbours: 1 is no grid.

    Of grey images, the mean over both axes and all multiples of the grid's frequency up to Nyquist.
    """
    height, width = images.shape[-2:]
    fits = factor >= 2 and height % factor == width % factor == 0
    require(fits, "grid_excess.factor", factor, f"a divisor of {height} and {width}, 2 or more")
    grey = images.double().mean(1)
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True)).abs().square().mean(0)
    ratios = []
    for profile in (power[:, 1:].mean(1), power[1:].mean(0)):  # over the other axis, its mean left out
        side = len(profile)
        for k in range(1, factor // 2 + 1):
            at = k * side // factor
            ratios.append(float(profile[at] / (0.5 * (profile[at - 1] + profile[(at + 1) % side]))))
    return sum(ratios) / len(ratios)


def _octaves(frequency: Tensor, side: int) -> Tensor:
    """The octave of each frequency, 0 the lowest there is; −1 for the mean. One period a side is in the lowest."""
    lowest = math.floor(math.log2(1 / side) + 1e-9)
    exact = torch.where(frequency > 0, frequency, 1.0).log2()
    octave = (exact + 1e-9).floor().long() - lowest
    octave = torch.where(frequency >= NYQUIST, -1 - lowest, octave)
    return torch.where(frequency > 0, octave.clamp(min=0), -1)
