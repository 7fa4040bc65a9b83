"""Power by octave of spatial frequency: it shows blurs and patch grids, to which features are hardly sensitive."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from snrise._errors import require

__all__ = ["SpectralDistance", "grid_excess", "octave_names", "radial_power", "spectral_distance"]

#: The variance of rounding to whole levels; power below it counts as this much.
FLOOR = 1 / 12


class SpectralDistance(NamedTuple):
    """Decibels of samples over data by octave, lowest frequencies first, and their root mean square."""

    distance: float
    decibels: Float64[Tensor, " octaves"]
    names: Sequence[str]


def radial_power(images: Shaped[Tensor, "n c h w"]) -> Float64[Tensor, " octaves"]:
    """Mean |FFT|² over hw, in squared levels of uint8, over images, channels and the frequencies of an octave.

    Octaves of |f| in cycles a pixel, from that of one period in the longer side: …, 1/8 to 1/4, 1/4 to 1/2 (including
    Nyquist), and then the corners of the plane, up to √½. The mean, f = 0, is excluded. White noise has its variance
    in each. Images are uint8, or floating point −1…1, a unit of which is 127.5 levels; sides may differ.

    The FFT assumes periodic images: where opposite edges differ, the jump adds power that falls as 1/f². It does so for
    samples and data alike, and masks a part of the effect of a blur.

    Raises:
        SnriseError: for sides of less than 4 pixels, or no image.

    >>> noise = 0.1 * torch.randn(64, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    >>> (radial_power(noise) / 12.75**2).round(decimals=1)
    tensor([1., 1., 1., 1., 1., 1.], dtype=torch.float64)
    """
    height, width = images.shape[-2:]
    require(min(height, width) >= 4, "radial_power.images", (height, width), "sides of 4 pixels or more")
    require(images.shape[0] * images.shape[1] >= 1, "radial_power.images", tuple(images.shape), "one image or more")
    # The mean is put before the first octave, and dropped.
    octave = _octaves(height, width).flatten() + 1
    sums, sizes = octave.bincount(_power(images).flatten()), octave.bincount()
    return sums[1:] / sizes[1:]


def octave_names(octaves: int) -> list[str]:
    """Names of the octaves of `radial_power`, in cycles a pixel.

    >>> octave_names(4)
    ['1/16-1/8', '1/8-1/4', '1/4-1/2', 'corners']
    """
    lower = [f"1/{2 ** (i + 1)}-1/{2**i}" for i in range(octaves - 1, 0, -1)]
    return [*lower, "corners"]


def spectral_distance(
    samples: Float64[Tensor, " octaves"], reference: Float64[Tensor, " others"]
) -> SpectralDistance:
    """Compare two results of `radial_power`; a blur is negative at high frequencies, noise and a patch grid positive.

    Powers are clamped from below at that of rounding to 8 bits, so that flat images compare.

    >>> spectral_distance(torch.tensor([4.0, 1.0], dtype=torch.float64), torch.tensor([4.0, 10.0], dtype=torch.float64))
    SpectralDistance(distance=7.07..., decibels=tensor([  0., -10.], dtype=torch.float64), names=['1/4-1/2', 'corners'])
    """
    same = len(samples) == len(reference)
    require(same, "spectral_distance", f"{len(samples)} and {len(reference)} octaves", "images of the same size")
    decibels = 10 * (samples.clamp(min=FLOOR).log10() - reference.clamp(min=FLOOR).log10())
    return SpectralDistance(float(decibels.square().mean().sqrt()), decibels, octave_names(len(decibels)))


def grid_excess(images: Shaped[Tensor, "n c h w"], factor: int) -> float:
    """Power at the frequencies of a grid of factor×factor patches, relative to that of their neighbours: 1 is no grid.

    Images are converted to grey. The mean over both axes and all multiples of the grid's frequency up to Nyquist, for
    at least two patches a side; NaN for flat images. Compare it with the value of real images.
    """
    height, width = images.shape[-2:]
    fits = factor >= 2 and height % factor == width % factor == 0 and min(height, width) > factor
    require(fits, "grid_excess.factor", factor, f"2 or more, a divisor of {height} and {width} and less than both")
    power = _power(images.double().mean(dim=1, keepdim=True))
    ratios = []
    for profile in (power[:, 1:].mean(dim=1), power[1:].mean(dim=0)):  # over the other axis, its mean left out
        at = torch.arange(1, factor // 2 + 1) * (len(profile) // factor)
        ratios.append(profile[at] / (0.5 * (profile[at - 1] + profile[(at + 1) % len(profile)])))
    return float(torch.cat(ratios).mean())


def _power(images: Shaped[Tensor, "n c h w"]) -> Float64[Tensor, "h w"]:
    """Mean |FFT|² over hw of all channels, in squared levels."""
    unit = 127.5 if images.is_floating_point() else 1.0
    parts = [torch.fft.fft2(unit * part.double()).abs().square().sum(dim=(0, 1)) for part in torch.split(images, 64)]
    return torch.stack(parts).sum(dim=0).cpu() / images.numel()


def _octaves(height: int, width: int) -> Int64[Tensor, "h w"]:
    """The octave of each frequency of an FFT, 0 that of one period in the longer side; −1 for f = 0."""
    vertical, horizontal = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    frequency = torch.hypot(vertical[:, None], horizontal)
    lowest = math.floor(-math.log2(max(height, width)))
    # 1 + 1e-12: a power of 2 is the beginning of its octave whatever its last digit; that of Nyquist is the last.
    octave = (frequency * (1 + 1e-12)).log2().floor().clamp(max=-2)
    octave = torch.where(frequency > 0.5 + 1e-12, -1, octave) - lowest
    return torch.where(frequency > 0, octave, -1).long()
