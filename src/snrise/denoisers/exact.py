"""Closed-form denoisers, to test samplers, losses and metrics with."""

import torch
from torch import Tensor

from snrise._typing import Images, LogSnr
from snrise.denoisers.base import Denoiser
from snrise.process import VP, Process, finite, per_image


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
