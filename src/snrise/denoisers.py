"""From a network to a denoiser: a function of z [b c h w] and λ [b] that returns x̂. Wrappers, no flags.

>>> from snrise.process import Prediction
>>> network = lambda z, logsnr, labels=None: torch.zeros_like(z)
>>> denoise = clipped(from_network(network, Prediction.X))
>>> denoise(torch.ones(2, 3, 8, 8), torch.zeros(2)).shape
torch.Size([2, 3, 8, 8])
"""

import math

import torch
from torch import Tensor

from snrise._errors import require
from snrise._typing import Denoiser, Images, Labels, LogSnr, Network
from snrise.process import VP, Prediction, Process, Target, finite, per_image

__all__ = ["clipped", "from_network", "gaussian", "guided", "guided_within", "ideal"]


def from_network(
    network: Network, prediction: Prediction | Target, labels: Labels | None = None, process: Process = VP
) -> Denoiser:
    """The denoiser that a network's prediction means, for images of the given labels."""
    target = prediction if isinstance(prediction, Target) else Target(prediction, process)

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        return target.to_x(network(z, logsnr, labels).to(z.dtype), z, logsnr)

    return denoise


def clipped(denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> Denoiser:
    """x̂ held within the range of images."""
    require(low < high, "clipped.low", low, f"a number below high={high}")

    def clip(z: Images, logsnr: LogSnr) -> Images:
        return denoise(z, logsnr).clamp(low, high)

    return clip


def guided(denoise: Denoiser, reference: Denoiser, scale: float) -> Denoiser:
    """x̂_ref + scale·(x̂ − x̂_ref): scale 1 is no guidance.

    The reference is the network without labels (Ho and Salimans 2022) or a weaker one (Karras et al. 2024).
    """
    return guided_within(denoise, reference, scale, (-math.inf, math.inf))


def guided_within(denoise: Denoiser, reference: Denoiser, scale: float, interval: tuple[float, float]) -> Denoiser:
    """Guidance only for λ in the interval; where no image of a batch is in it, the reference is not computed.

    Kynkäänniemi et al. 2024 (arXiv 2404.07724).
    """
    low, high = interval
    require(low < high, "guided_within.interval", interval, "(lowest λ, highest λ), the first below the second")

    def guide(z: Images, logsnr: LogSnr) -> Images:
        x = denoise(z, logsnr)
        inside = (logsnr >= low) & (logsnr <= high)
        if scale == 1 or not bool(inside.any()):
            return x
        steered = torch.lerp(reference(z, logsnr), x, scale)
        return torch.where(per_image(inside, x), steered, x)

    return guide


def gaussian(mean: Tensor, variance: Tensor, process: Process = VP) -> Denoiser:
    """The exact denoiser of pixels that are independent Gaussians: E[x|z] = m + αs/(α²s + σ²)·(z − αm).

    `mean` and `variance` s broadcast against [b c h w]. A closed form to test samplers and losses with.
    """

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        alpha, sigma = (per_image(a, z) for a in process.alpha_sigma(finite(logsnr)))
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (z - alpha * mean)

    return denoise


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

    return denoise
