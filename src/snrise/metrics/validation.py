"""The loss on held-out images by noise level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from snrise._errors import require
from snrise._typing import Images, LogSnr
from snrise.denoisers import Denoiser
from snrise.metrics.estimates import (
    ByImage,
    check_generators,
    check_images,
    check_logsnrs,
    joined,
    mean_and_error,
    white_noise,
)
from snrise.process import diffuse

__all__ = ["LossByLogsnr", "eps_loss", "loss_by_logsnr"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LossByLogsnr(ByImage):
    """The ε-loss of each image at each λ: `losses` [n levels], means over its pixels."""

    losses: Float64[Tensor, "n levels"]

    @property
    def mean(self) -> Float64[Tensor, " levels"]:
        """Mean over images at each λ."""
        return mean_and_error(self.losses)[0]

    @property
    def standard_error(self) -> Float64[Tensor, " levels"]:
        """Standard error of each mean; NaN for one image."""
        return mean_and_error(self.losses)[1]

    def __str__(self) -> str:
        rows = zip(self.logsnrs.tolist(), self.mean.tolist(), self.standard_error.tolist(), strict=True)
        head = [f"ε-loss of {len(self.losses):,} images", f"{'λ':>8}  {'loss':>8}  {'±':>8}"]
        return "\n".join(head + [f"{logsnr:8.2f}  {mean:8.5f}  {error:8.5f}" for logsnr, mean, error in rows])


def eps_loss(denoise: Denoiser, x: Images, eps: Images, logsnr: LogSnr) -> Float64[Tensor, " b"]:
    """‖ε̂ − ε‖² = SNR·‖x̂ − x‖², the mean over each image's pixels; Su 2024, §8.4.

    No ε̂ is computed, so nothing is divided by a small σ. What is left is the rounding of z and x̂: in float32 6e-8·√SNR
    of the root of the loss, 1e-4 at λ = 15. The denoiser is told λ in float32 at least.
    """
    logsnr = logsnr.to(x.device, torch.promote_types(x.dtype, torch.float32))
    z = diffuse(x, eps, logsnr, denoise.process).to(x.dtype)
    error = (denoise(z, logsnr).double() - x.double()).square().mean(dim=(1, 2, 3))
    return (logsnr.double().exp() * error).cpu()


def loss_by_logsnr(
    denoise: Denoiser,
    images: Tensor,
    logsnrs: Tensor,
    generators: Sequence[torch.Generator],
    *,
    batch: int = 64,
) -> LossByLogsnr:
    """The ε-loss of images [n c h w] in [−1, 1] at each of `logsnrs` [levels], which increase and are finite.

    Each image draws its noise once, from its own generator, and has it at every λ: with the generators of the same
    seed, two networks are compared on the same noisy images. Where a denoiser belongs to labels, measure a batch at a
    time and put the results together with `joined`.

    Raises:
        SnriseError: for images outside [−1, 1], λ that do not increase or are infinite, not one generator an image.

    >>> from snrise.denoisers import gaussian
    >>> images = torch.zeros(4, 3, 8, 8)
    >>> own = [torch.Generator().manual_seed(i) for i in range(4)]
    >>> print(loss_by_logsnr(gaussian(torch.tensor(0.0), torch.tensor(0.0)), images, torch.tensor([-9.0, 9.0]), own))
    ε-loss of 4 images
           λ      loss         ±
       -9.00   0.00000   0.00000
        9.00   0.00000   0.00000
    """
    where = "loss_by_logsnr"
    check_images(where, images)
    check_logsnrs(where, logsnrs, least=1)
    check_generators(where, generators, len(images))
    require(batch >= 1, f"{where}.batch", batch, "a whole number above 0")
    levels = logsnrs.double().cpu()
    cuts = [slice(first, first + batch) for first in range(0, len(images), batch)]
    return joined([_loss_of_batch(denoise, images[cut], levels, generators[cut]) for cut in cuts])


@torch.no_grad()
def _loss_of_batch(
    denoise: Denoiser, x: Images, levels: Tensor, generators: Sequence[torch.Generator]
) -> LossByLogsnr:
    eps = white_noise(x, generators)
    losses = [eps_loss(denoise, x, eps, level.expand(len(x))) for level in levels]
    return LossByLogsnr(logsnrs=levels, losses=torch.stack(losses, dim=1))
