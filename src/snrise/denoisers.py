"""From a network to a denoiser: a function of z [b c h w] and λ [b] that returns x̂, of a process. Wrappers, no flags.

>>> from snrise.process import Prediction
>>> network = lambda z, logsnr, labels=None: torch.zeros_like(z)
>>> denoise = clipped(from_network(network, Prediction.X))
>>> denoise(torch.ones(2, 3, 8, 8), torch.zeros(2)).shape
torch.Size([2, 3, 8, 8])
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from snrise._errors import require
from snrise._typing import Images, Labels, LogSnr, Network
from snrise.pooling import pool, pooled_logsnr
from snrise.process import VP, Prediction, Process, Target, finite, per_image

__all__ = [
    "Denoiser", "clipped", "dynamically_clipped", "from_network", "gaussian", "guided", "guided_within", "ideal",
    "rescaled", "upsampled",
]

EVERYWHERE = (-math.inf, math.inf)


@final
@dataclass(frozen=True)
class Denoiser:
    """A function (z [b c h w], λ [b]) -> x̂ [b c h w], and the process that z is of: samplers and metrics read it here.

    >>> halved = Denoiser(lambda z, logsnr: 0.5 * z, VP)
    >>> halved(torch.ones(1, 1, 1, 1), torch.zeros(1)).item()
    0.5
    """

    function: Callable[[Tensor, Tensor], Tensor]
    process: Process

    def __call__(self, z: Images, logsnr: LogSnr) -> Images:
        return self.function(z, logsnr)


def from_network(
    network: Network, target: Target | Prediction, labels: Labels | None = None, context: Tensor | None = None
) -> Denoiser:
    """The denoiser that a network's prediction means, for images of the given labels and context vectors.

    The target says the process too; a bare `Prediction` is one under the variance-preserving process.
    """
    of = target if isinstance(target, Target) else Target(target)
    told = () if context is None else (context,)

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        return of.to_x(network(z, logsnr, labels, *told).to(z.dtype), z, logsnr)

    return Denoiser(denoise, of.process)


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x̂ held within the range of images."""
    require(low < high, "clipped.low", low, f"a number below high={high}")

    def clip(z: Images, logsnr: LogSnr) -> Images:
        return denoise(z, logsnr).clamp(low, high)

    return Denoiser(clip, denoise.process)


def dynamically_clipped(denoise: Denoiser, percentile: float = 0.995) -> Denoiser:
    """x̂ clipped to ±p and divided by p, the percentile of |x̂| in its image, where p is above 1: within [−1, 1].

    What guidance drives out of range does not end in flat colour. Saharia et al. 2022 (arXiv 2205.11487), sec. 2.3.

    >>> bright = dynamically_clipped(Denoiser(lambda z, logsnr: 3 * z, VP), percentile=0.5)
    >>> bright(torch.tensor([0.1, 0.5, 1.0]).reshape(1, 1, 1, 3), torch.zeros(1)).flatten()
    tensor([0.2000, 1.0000, 1.0000])
    """
    require(0 < percentile <= 1, "dynamically_clipped.percentile", percentile, "a number above 0, up to 1")

    def clip(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        limit = per_image(torch.quantile(x.abs().flatten(1), percentile, dim=1).clamp(min=1), x)
        return x.clamp(-limit, limit) / limit

    return Denoiser(clip, denoise.process)


def guided(denoise: Denoiser, reference: Denoiser, scale: float, rescale: float = 0.0) -> Denoiser:
    """x̂_ref + scale·(x̂ − x̂_ref): scale 1 is no guidance.

    The reference is the same network without labels (Ho and Salimans 2022, arXiv 2207.12598), or a weaker one with
    the same labels: smaller, or trained for less time (autoguidance; Karras et al. 2024, arXiv 2406.02507). The second
    needs no labels at all, and steers away from the network's errors without steering to one kind of image.
    `rescale` is the φ of `rescaled`, which is applied to the result.
    """
    return guided_within(denoise, reference, scale, EVERYWHERE, rescale)


def guided_within(
    denoise: Denoiser, reference: Denoiser, scale: float, interval: tuple[float, float], rescale: float = 0.0
) -> Denoiser:
    """Guidance only for λ in the interval; where no image of a batch is in it, the reference is not computed.

    Kynkäänniemi et al. 2024 (arXiv 2404.07724).
    """
    _check_interval("guided_within", interval)
    require(
        reference.process == denoise.process, "guided_within.reference", f"a denoiser of {reference.process}",
        f"one of {denoise.process}",
    )
    require(0 <= rescale <= 1, "guided_within.rescale", rescale, "a number in [0, 1]")

    def guide(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        inside = _inside(logsnr, interval)
        if scale == 1 or not bool(inside.any()):
            return x
        steered = torch.lerp(reference(z, logsnr), x, scale)
        return torch.where(per_image(inside, x), rescaled(steered, x, rescale) if rescale else steered, x)

    return Denoiser(guide, denoise.process)


def rescaled(steered: Images, x: Images, phi: float) -> Images:
    """What guidance has made of x̂, with the contrast of x̂ again: steered·(φ·std(x̂)/std(steered) + 1 − φ).

    Lin et al. 2023 (arXiv 2305.08891), eq. 15 and 16, each image by itself. They apply it to what the network
    predicts. Here it is applied to x̂, so that it means the same whatever is predicted; out of pure noise, where it
    matters most, the two are one (v = −x at λ = −∞). An image of one colour has no contrast and stays as it is.
    """
    had, has = (images.std(dim=(1, 2, 3), keepdim=True) for images in (x, steered))
    # A hundredth of a grey level is rounding, and no contrast.
    return steered * torch.where(has > 1e-4, phi * had / has + 1 - phi, 1.0)


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
    _check_interval("upsampled", interval)
    process = denoise.process

    def upsample(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        inside = _inside(logsnr, interval)
        if not bool(inside.any()):
            return x
        lower = pooled_logsnr(logsnr, factor)
        gain = process.log_alpha(pooled_logsnr(finite(logsnr), factor)) - process.log_alpha(finite(logsnr))
        low = denoise(pool(z, factor) * per_image(gain.exp().to(z.dtype), z), lower)
        change = interpolate(low - pool(x, factor), scale_factor=factor, mode="nearest")
        return torch.where(per_image(inside, x), x + scale * change, x)

    return Denoiser(upsample, process)


def _check_interval(where: str, interval: tuple[float, float]) -> None:
    low, high = interval
    require(low < high, f"{where}.interval", interval, "(lowest λ, highest λ), the first below the second")


def _inside(logsnr: LogSnr, interval: tuple[float, float]) -> Tensor:
    return (logsnr >= interval[0]) & (logsnr <= interval[1])


def gaussian(mean: Tensor, variance: Tensor, process: Process = VP) -> Denoiser:
    """The exact denoiser of pixels that are independent Gaussians: E[x|z] = m + αs/(α²s + σ²)·(z − αm).

    `mean` and `variance` s broadcast against [b c h w]. A closed form to test samplers and losses with.
    """

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        alpha, sigma = (per_image(a, z) for a in process.alpha_sigma(finite(logsnr)))
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (z - alpha * mean)

    return Denoiser(denoise, process)


def ideal(data: Images, process: Process = VP) -> Denoiser:
    """The exact denoiser of a finite data set [n c h w]: the mean of its images, weighted by p(image | z).

    Softmax over −‖z − αx_i‖²/2σ². What a network that had learned the training set by heart would say.
    """
    flat = data.flatten(1)
    half_norm = 0.5 * flat.square().sum(dim=1)

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        alpha, sigma = process.alpha_sigma(finite(logsnr))
        # −‖z − αx_i‖²/2σ² without the part that all images share.
        log_chance = (alpha / sigma**2)[:, None] * (z.flatten(1) @ flat.T - alpha[:, None] * half_norm)
        return (torch.softmax(log_chance, dim=1) @ flat).reshape(z.shape)

    return Denoiser(denoise, process)
