"""The variational bound of the likelihood, in bits per dimension, with its parts by noise level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Float64, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import softplus

from snrise._errors import require
from snrise._typing import Images, Scalars
from snrise.denoisers import Denoiser
from snrise.metrics.estimates import (
    ByImage,
    Estimate,
    check_generators,
    check_images,
    check_logsnrs,
    check_pixels,
    estimate,
    in_batches,
    mean_and_error,
    white_noise,
)
from snrise.metrics.validation import eps_loss

__all__ = [
    "ContinuousTime", "DiscreteTime", "Time", "VariationalBound", "diffusion_loss", "prior_loss", "reconstruction_loss",
    "variational_bound",
]

#: From one level of uint8 to the next, where 0…255 are −1…1.
LEVEL = 2 / 255
#: exp(−40) = 4e-18 is nothing beside 1 in float64.
NEGLIGIBLE = 40.0
#: Rows of the printed table.
ROWS = 16


@runtime_checkable
class Time(Protocol):
    """The quadrature of the diffusion loss over λ: where each bin is evaluated, and its weight."""

    def __call__(
        self, logsnrs: Float64[Tensor, " edges"], generators: Sequence[torch.Generator]
    ) -> tuple[Float64[Tensor, "b bins draws"], Float64[Tensor, " bins"]]: ...


@final
@dataclass(frozen=True, kw_only=True)
class ContinuousTime:
    """½∫ ‖ε̂ − ε‖² dλ, each bin's part without bias from λ drawn uniformly in it; Kingma et al. 2021, eq. 16-18.

    Each bin is cut into as many equal strata as there are draws, one in each: over the bins, and over all λ, this is
    the low-variance sampling of Kingma et al. 2021, app. I.1, for every image by itself.
    """

    draws: int = 1

    def __post_init__(self) -> None:
        require(self.draws >= 1, "ContinuousTime.draws", self.draws, "a whole number above 0")

    def __call__(
        self, logsnrs: Float64[Tensor, " edges"], generators: Sequence[torch.Generator]
    ) -> tuple[Float64[Tensor, "b bins draws"], Float64[Tensor, " bins"]]:
        widths, shape = logsnrs.diff(), (len(logsnrs) - 1, self.draws)
        own = [torch.rand(shape, generator=g, device=g.device, dtype=torch.float64).cpu() for g in generators]
        part = (torch.arange(self.draws) + torch.stack(own)) / self.draws
        return logsnrs[:-1, None] + widths[:, None] * part, widths


@final
@dataclass(frozen=True)
class DiscreteTime:
    """½Σ (e^{λ_s − λ_t} − 1)‖ε̂ − ε‖² at λ_t: a step from t to s for each bin; Kingma et al. 2021, eq. 13-14.

    The bound of ancestral sampling (η = 1, γ = 0) along this very grid, which is looser than that of continuous time.
    """

    def __call__(
        self, logsnrs: Float64[Tensor, " edges"], generators: Sequence[torch.Generator]
    ) -> tuple[Float64[Tensor, "b bins draws"], Float64[Tensor, " bins"]]:
        return logsnrs[:-1, None].expand(len(generators), -1, 1), torch.expm1(logsnrs.diff())


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class VariationalBound(ByImage):
    """An upper bound of each image's −log p(x), in bits per dimension, and its terms.

    logsnrs: the edges of the bins of λ [bins + 1]. priors, reconstructions: [n]. diffusions: by bin, [n bins].
    """

    priors: Float64[Tensor, " n"]
    diffusions: Float64[Tensor, "n bins"]
    reconstructions: Float64[Tensor, " n"]

    @property
    def per_image(self) -> Float64[Tensor, " n"]:
        """The bound of each image."""
        return self.priors + self.diffusions.sum(dim=1) + self.reconstructions

    @property
    def total(self) -> Estimate:
        """The mean bound."""
        return estimate(self.per_image)

    @property
    def prior(self) -> Estimate:
        """The information on the image that is left at the noisy end."""
        return estimate(self.priors)

    @property
    def diffusion(self) -> Estimate:
        """The cost of all noise levels in between."""
        return estimate(self.diffusions.sum(dim=1))

    @property
    def reconstruction(self) -> Estimate:
        """The cost of the pixels' levels, given the clean end."""
        return estimate(self.reconstructions)

    @property
    def by_logsnr(self) -> Float64[Tensor, " bins"]:
        """The mean cost of each bin; their sum is `diffusion`."""
        return self.diffusions.mean(dim=0)

    def __str__(self) -> str:
        head = f"{self.total} bits per dimension or fewer, {len(self.priors):,} images"
        parts = [f"{name:<16}{getattr(self, name)}" for name in ("prior", "diffusion", "reconstruction")]
        bins = self.diffusions.shape[1]
        cuts = torch.linspace(0, bins, min(bins, ROWS) + 1).round().long().tolist()
        rows = [f"{'from λ':>8}{'to λ':>8}  {'bits':>7}  {'±':>7}"]
        for a, b in pairwise(cuts):
            mean, error = mean_and_error(self.diffusions[:, a:b].sum(dim=1))
            rows.append(f"{self.logsnrs[a]:8.2f}{self.logsnrs[b]:8.2f}  {mean:7.4f}  {error:7.4f}")
        return "\n".join([head, *parts, *rows])


def prior_loss(x: Images, logsnr: Scalars) -> Float64[Tensor, " b"]:
    """KL(q(z|x) ‖ N(0, α² + σ²)) at the noisy end λ, a scalar, in nats: the mean over the pixels of each image.

    ½(α²x² − α² − log σ²) with VP's α and σ, whatever the process: the prior is VP's N(0, 1), scaled with z. Kingma et
    al. 2021, sec. 3.5.
    """
    logsnr = logsnr.double().to(x.device)
    # −log σ² − α², and not 1 − σ²: what is left of either is the square of a small α².
    left = softplus(logsnr) - torch.sigmoid(logsnr)
    return 0.5 * (torch.sigmoid(logsnr) * x.double().square().mean(dim=(1, 2, 3)) + left).cpu()


def reconstruction_loss(
    pixels: UInt8[Tensor, "*shape"], eps: Shaped[Tensor, "*shape"], logsnr: Scalars
) -> Float64[Tensor, "*shape"]:
    """−log p(x|z), nats a pixel, with p(x|z) ∝ N(z; αx, σ²) over the 256 levels; Kingma et al. 2021, sec. 3.3.

    z = αx + σε at the clean end λ, a scalar. From x, a level that is k away has the likelihood exp(κkε − ½(κk)²), with
    κ the distance of two levels in units of the noise, e^{λ/2}·2/255.
    """
    kappa, eps = LEVEL * math.exp(0.5 * float(logsnr)), eps.double()
    largest = float(eps.abs().max())
    # Where κk > |ε| + √(ε² + 2·40), a level has less than e^−40 of what the image's own has.
    reach = min(255, math.ceil((largest + math.sqrt(largest**2 + 2 * NEGLIGIBLE)) / kappa))
    total = torch.zeros_like(eps)
    for k in (k for k in range(-reach, reach + 1) if k != 0):
        exists = (pixels < 256 - k) if k > 0 else (pixels >= -k)
        total = torch.logaddexp(total, torch.where(exists, kappa * k * eps - 0.5 * (kappa * k) ** 2, -math.inf))
    return total


@torch.no_grad()
def diffusion_loss(
    denoise: Denoiser,
    images: Tensor,
    logsnrs: Tensor,
    generators: Sequence[torch.Generator],
    *,
    time: Time = ContinuousTime(),
) -> Float64[Tensor, "n bins"]:
    """The diffusion loss in nats per dimension of images [n c h w] in [−1, 1], by bin of λ between `logsnrs`.

    The denoiser is called once a bin and draw, on all images, each with its own noise. For the exact denoiser the loss
    of a bin is the growth there of the mutual information of x and z, ½mmse a unit of SNR (Guo et al. 2005).
    """
    check_images("diffusion_loss", images)
    check_logsnrs("diffusion_loss", logsnrs, least=2)
    check_generators("diffusion_loss", generators, len(images))
    levels, weights = time(logsnrs.double().cpu(), generators)
    losses = torch.stack([
        eps_loss(denoise, images, white_noise(images, generators), level)
        for level in levels.flatten(1).unbind(dim=1)
    ], dim=1)
    return 0.5 * weights * losses.reshape(levels.shape).mean(dim=2)


def variational_bound(
    denoise: Denoiser,
    images: Tensor,
    logsnrs: Tensor,
    generators: Sequence[torch.Generator],
    *,
    time: Time = ContinuousTime(draws=4),
    batch: int = 64,
) -> VariationalBound:
    """Prior + diffusion + reconstruction: −log p(x) or more, of images [n c h w], uint8; Kingma et al. 2021, eq. 11.

    `logsnrs` [bins + 1] increases: its ends are λ(1) and λ(0), which the bound depends on, and the rest are the bins.
    In continuous time nothing else of the schedule matters, but its λ at equal times are good bins:
    `samplers.uniform_time`. Every λ(0) gives a bound; a denoiser that does not know that pixels have 256 levels pays
    for each λ beyond 10 or so, where noise no longer hides them. Random numbers are drawn from each image's own
    generator. A bin costs `draws` calls of the denoiser.

    Raises:
        SnriseError: for images other than uint8, λ that do not increase or are infinite, not one generator an image.

    >>> from snrise.denoisers import gaussian
    >>> images = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> own = [torch.Generator().manual_seed(i) for i in range(8)]
    >>> denoise = gaussian(torch.tensor(0.0), torch.tensor(0.33))
    >>> bound = variational_bound(denoise, images, torch.linspace(-8, 13, 9), own)
    >>> bound.total.value > 8  # no code has fewer bits for pixels that are uniform on 256 levels
    True
    """
    where = "variational_bound"
    check_pixels(where, images)
    check_logsnrs(where, logsnrs, least=2)
    edges, bit = logsnrs.double().cpu(), math.log(2)

    def measure(pixels: Tensor, own: Sequence[torch.Generator]) -> VariationalBound:
        x = pixels.float() / 127.5 - 1
        diffusions = diffusion_loss(denoise, x, edges, own, time=time)
        reconstructions = reconstruction_loss(pixels, white_noise(x, own), edges[-1]).mean(dim=(1, 2, 3)).cpu()
        return VariationalBound(
            logsnrs=edges, priors=prior_loss(x, edges[0]) / bit, diffusions=diffusions / bit,
            reconstructions=reconstructions / bit,
        )

    return in_batches(where, images, generators, batch, measure)
