"""Images larger than those that a network was trained on."""

import torch
from torch.nn.functional import interpolate

from snrise._errors import require
from snrise._typing import Images, LogSnr
from snrise.denoisers.base import EVERYWHERE, Denoiser, check_interval, inside
from snrise.pooling import pool, pooled_logsnr
from snrise.process import finite, per_image


def upsampled(
    denoise: Denoiser, factor: int, *, scale: float = 1.0, interval: tuple[float, float] = EVERYWHERE
) -> Denoiser:
    r"""Images `factor` times as large as the network knows: x̂ + scale·U(x̂_low − D x̂), D pooling and U repeating pixels.

    x̂_low is what it says of the pooled image D z = αDx + (σ/s)ε', whose log-SNR is λ' = λ + 2 log s and which, times
    α(λ')/α(λ), is a noisy image of the process. At scale 1, D of the result is x̂_low: coarse structure from the size
    that the network was trained at, fine structure from x̂. The cost is 1/s² more. Upsample guidance, Hwang et al. 2024
    (arXiv 2404.01709), who write it for ε under VP: ε̂ + U(ε̂_low/s − D ε̂), which is the same.

    A scale below 1, or an interval of λ outside of which nothing is added, softens it, as they do for latent images.
    """
    require(factor >= 2, "upsampled.factor", factor, "a whole number, 2 or more")
    check_interval("upsampled", interval)
    process = denoise.process

    def upsample(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        within = inside(logsnr, interval)
        if not bool(within.any()):
            return x
        lower = pooled_logsnr(logsnr, factor)
        gain = process.log_alpha(pooled_logsnr(finite(logsnr), factor)) - process.log_alpha(finite(logsnr))
        low = denoise(pool(z, factor) * per_image(gain.exp().to(z.dtype), z), lower)
        change = interpolate(low - pool(x, factor), scale_factor=factor, mode="nearest")
        return torch.where(per_image(within, x), x + scale * change, x)

    return Denoiser(upsample, process)
