"""How close images are to those that they are to be: pairs, pixel by pixel."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from snrise._errors import require
from snrise._typing import PerImage

__all__ = ["psnr", "ssim"]

#: The window of SSIM, a Gaussian of 11×11 pixels, and the constants of its two ratios. Wang et al. 2004, sec. III.B.
SIDE, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
PEAK = 255.0


def psnr(images: UInt8[Tensor, "b 3 h w"], originals: UInt8[Tensor, "n 3 y x"]) -> PerImage:
    """Peak signal-to-noise ratio of each image, 10 log₁₀(255² / mean squared error), in dB; ∞ for the same image.

    >>> x = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    >>> psnr(x, x + 16).round(decimals=2)
    tensor([24.0500], dtype=torch.float64)
    """
    _check(images, originals, "psnr")
    error = (images.double() - originals.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(PEAK**2 / error)


def ssim(images: UInt8[Tensor, "b 3 h w"], originals: UInt8[Tensor, "n 3 y x"]) -> PerImage:
    """Structural similarity of each image, up to 1: means over channels, and over places where the window fits.

    Wang et al. 2004, eq. 13, with a Gaussian window of 11×11 pixels and σ = 1.5.

    Raises:
        SnriseError: for images of different sizes, or of less than 11 pixels a side.

    >>> x = torch.arange(3 * 16 * 16).remainder(256).view(1, 3, 16, 16).to(torch.uint8)
    >>> float(ssim(x, x)), float(ssim(x, 255 - x)) < 0
    (1.0, True)
    """
    _check(images, originals, "ssim")
    sides = images.shape[-2:]
    require(min(sides) >= SIDE, "ssim.images", tuple(sides), f"sides of {SIDE} pixels or more")
    x, y = images.double(), originals.double()
    mean_x, mean_y, square_x, square_y, product = (_windowed(t) for t in (x, y, x * x, y * y, x * y))
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    var_x, var_y, covariance = square_x - mean_x**2, square_y - mean_y**2, product - mean_x * mean_y
    ratio = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return (ratio / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean(dim=(1, 2, 3))


def _windowed(x: Tensor) -> Tensor:
    """Weighted means over the window, along both axes in turn."""
    place = torch.arange(SIDE, dtype=x.dtype) - SIDE // 2
    window = (-place.square() / (2 * SIGMA**2)).exp()
    window = window / window.sum()
    channels = x.shape[1]
    for shape in ((1, 1, SIDE, 1), (1, 1, 1, SIDE)):
        x = F.conv2d(x, window.view(shape).expand(channels, -1, -1, -1), groups=channels)
    return x


def _check(images: Tensor, originals: Tensor, where: str) -> None:
    require(images.shape == originals.shape, f"{where}.images", tuple(images.shape), str(tuple(originals.shape)))
