"""Clipping x̂ to the range of images."""

from dataclasses import dataclass
from typing import final

import torch

from snrise._errors import require
from snrise._typing import Images, LogSnr
from snrise.denoisers.base import Denoiser, Wrapper
from snrise.process import per_image


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x̂ held within the range of images."""
    require(low < high, "clipped.low", low, f"a number below high={high}")

    def clip(z: Images, logsnr: LogSnr) -> Images:
        return denoise(z, logsnr).clamp(low, high)

    return Denoiser(clip, denoise.process)


def dynamically_clipped(denoise: Denoiser, percentile: float = 0.995, high: float = 1.0) -> Denoiser:
    """x̂ clipped to ±p and multiplied by high/p, p the percentile of |x̂| in its image, where p is above high.

    What guidance drives out of range does not end in flat colour. Saharia et al. 2022 (arXiv 2205.11487), sec. 2.3.

    >>> from snrise.process import VP
    >>> bright = dynamically_clipped(Denoiser(lambda z, logsnr: 3 * z, VP), percentile=0.5)
    >>> from snrise.process import VP
    >>> bright(torch.tensor([0.1, 0.5, 1.0]).reshape(1, 1, 1, 3), torch.zeros(1)).flatten()
    tensor([0.2000, 1.0000, 1.0000])
    """
    require(0 < percentile <= 1, "dynamically_clipped.percentile", percentile, "a number above 0, up to 1")

    def clip(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        limit = per_image(torch.quantile(x.abs().flatten(1), percentile, dim=1).clamp(min=high), x)
        return x.clamp(-limit, limit) / (limit / high)

    return Denoiser(clip, denoise.process)


@final
@dataclass(frozen=True, kw_only=True)
class Clipped(Wrapper):
    """`clipped` as a wrapper: within guidance, say, as well as after it."""

    low: float = -1.0
    high: float = 1.0

    def __call__(self, denoise: Denoiser, reference: Denoiser | None) -> Denoiser:
        return clipped(denoise, self.low, self.high)
