"""The likelihood of the probability-flow ODE: the exact log-density of the model that DDIM samples from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from snrise._errors import require
from snrise._typing import Images
from snrise.denoisers import Denoiser
from snrise.metrics.estimates import (
    ByImage,
    Estimate,
    check_float,
    check_generators,
    check_logsnrs,
    check_pixels,
    estimate,
    in_batches,
)
from snrise.process import VP

__all__ = [
    "Basis", "FlowLikelihood", "Probes", "Rademacher", "flow_likelihood", "flow_log_density", "heun_step", "rk4_step",
]

#: (z, λ) -> dz/dλ and its divergence [b].
Drift: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
#: (drift, z, from λ, to λ) -> z there, and the integral of the divergence on the way [b].
Step: TypeAlias = Callable[[Drift, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@runtime_checkable
class Probes(Protocol):
    """Directions p [k b c h w] with E Σ_k p pᵀ = I, so that Σ_k p·Jp is the trace of J, or has it as its mean."""

    def __call__(self, x: Images, generators: Sequence[torch.Generator]) -> Tensor: ...


@final
@dataclass(frozen=True, kw_only=True)
class Rademacher:
    """`count` vectors of random signs per image: unbiased. Hutchinson 1989; Song et al. 2021, app. D.2."""

    count: int = 1

    def __post_init__(self) -> None:
        require(self.count >= 1, "Rademacher.count", self.count, "a whole number above 0")

    def __call__(self, x: Images, generators: Sequence[torch.Generator]) -> Tensor:
        shape = (self.count, *x.shape[1:])
        signs = [2 * torch.randint(2, shape, generator=g, device=g.device) - 1 for g in generators]
        return torch.stack(signs, dim=1).to(x) / math.sqrt(self.count)


@final
@dataclass(frozen=True)
class Basis:
    """The unit vectors: the exact trace, at the cost of one gradient per value of an image."""

    def __call__(self, x: Images, generators: Sequence[torch.Generator]) -> Tensor:
        size = x[0].numel()
        return torch.eye(size).to(x).reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)


def heun_step(drift: Drift, z: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Heun's step, second order: two calls."""
    h = end - start
    k1, d1 = drift(z, start)
    k2, d2 = drift(z + h * k1, end)
    return z + h / 2 * (k1 + k2), h / 2 * (d1 + d2)


def rk4_step(drift: Drift, z: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """The classical Runge-Kutta step, fourth order: four calls."""
    h = end - start
    k1, d1 = drift(z, start)
    k2, d2 = drift(z + h / 2 * k1, start + h / 2)
    k3, d3 = drift(z + h / 2 * k2, start + h / 2)
    k4, d4 = drift(z + h * k3, end)
    return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)


def flow_log_density(
    denoise: Denoiser,
    images: Tensor,
    logsnrs: Tensor,
    generators: Sequence[torch.Generator],
    *,
    probes: Probes = Rademacher(),
    step: Step = rk4_step,
) -> Float64[Tensor, " b"]:
    r"""log p(x) in nats of each whole image [n c h w], by the flow from the last of `logsnrs` down to the first.

    In VP's z, dz/dλ = ½α(x̂ − αz), and log p(z) changes by −½(α tr ∂x̂/∂z − α²d) a unit of λ on its way; at the noisy
    end it is that of N(0, 1). Song et al. 2021, sec. 4.3. Under another process the denoiser gets z in its scaling, and
    the flow is the same. The density is that of images blurred by noise of the last λ, e^{−λ/2} a pixel.

    The state keeps the dtype of the images; the grid [steps + 1] is increasing and finite.

    Raises:
        SnriseError: for λ that do not increase or are infinite, not one generator an image, a denoiser whose output has
            no gradient.

    >>> from snrise.denoisers import gaussian
    >>> grid, own = torch.linspace(-20, 10, 61, dtype=torch.float64), [torch.Generator().manual_seed(0)]
    >>> denoise = gaussian(torch.tensor(0.5), torch.tensor(0.1))
    >>> density = flow_log_density(denoise, torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64), grid, own).item()
    >>> print(f"{density:.3f} {-2 * math.log(2 * math.pi * 0.1):.3f}")
    0.929 0.929
    """
    check_float("flow_log_density", images)
    check_logsnrs("flow_log_density", logsnrs, least=2)
    check_generators("flow_log_density", generators, len(images))
    drift = _flow(denoise, probes(images, generators))
    levels = logsnrs.double().to(images.device).flip(0)
    alpha, _ = VP.alpha_sigma(levels[0])
    z, change = alpha * images, torch.zeros(len(images), dtype=torch.float64, device=images.device)
    for start, end in pairwise(levels):
        z, moved = step(drift, z, start, end)
        change = change + moved
    size = z[0].numel()
    at_noise = -0.5 * (z.double().flatten(1).square().sum(dim=1) + size * math.log(2 * math.pi))
    return (at_noise + change + size * alpha.log()).cpu()


def _flow(denoise: Denoiser, probes: Tensor) -> Drift:
    """dz/dλ of VP's z, and its divergence as estimated by the probes."""

    def drift(z: Tensor, logsnr: Tensor) -> tuple[Tensor, Tensor]:
        (alpha, _), (own_alpha, _) = VP.alpha_sigma(logsnr), denoise.process.alpha_sigma(logsnr)
        logsnrs = logsnr.to(torch.promote_types(z.dtype, torch.float32)).expand(len(z))
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            x = denoise(own_alpha / alpha * at, logsnrs)
            allowed = "one that autograd can differentiate"
            require(x.requires_grad, "flow_log_density.denoise", "a denoiser without a gradient", allowed)
            slopes = [torch.autograd.grad(x, at, probe, retain_graph=True)[0] for probe in probes]
        trace = (probes * torch.stack(slopes)).double().sum(dim=(0, 2, 3, 4))
        return 0.5 * alpha * (x.detach() - alpha * z), 0.5 * alpha * (trace - alpha * z[0].numel())

    return drift


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class FlowLikelihood(ByImage):
    """−log₂ p(x) of each image in bits per dimension, [n], by the flow along `logsnrs`."""

    bits: Float64[Tensor, " n"]

    @property
    def total(self) -> Estimate:
        """The mean."""
        return estimate(self.bits)

    def __str__(self) -> str:
        return f"{self.total} bits per dimension by the flow, {len(self.bits):,} images, {len(self.logsnrs) - 1} steps"


def flow_likelihood(
    denoise: Denoiser,
    images: Tensor,
    logsnrs: Tensor,
    generators: Sequence[torch.Generator],
    *,
    probes: Probes = Rademacher(),
    step: Step = rk4_step,
    batch: int = 64,
) -> FlowLikelihood:
    """Bits per dimension of images [n c h w], uint8, with noise uniform over a level added to each pixel.

    The negative log-density of pixels so dequantised is itself an upper bound of that of the levels (Theis et al. 2016,
    sec. 3.1). Each evaluation within a step is one call of the denoiser, with a vector-Jacobian product for each probe.

    Raises:
        SnriseError: as `flow_log_density`, and for images other than uint8.

    >>> from snrise.denoisers import gaussian
    >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    >>> own = [torch.Generator().manual_seed(i) for i in range(2)]
    >>> denoise = gaussian(torch.tensor(0.0), torch.tensor(0.33))
    >>> flow = flow_likelihood(denoise, images, torch.linspace(-15, 13, 41), own)
    >>> 8 < flow.total.value < 9
    True
    """
    where = "flow_likelihood"
    check_pixels(where, images)

    def measure(pixels: Tensor, own: Sequence[torch.Generator]) -> FlowLikelihood:
        inside = torch.stack([torch.rand(pixels.shape[1:], generator=g, device=g.device) for g in own])
        x = (pixels + inside.to(pixels.device) - 0.5) / 127.5 - 1
        nats = -flow_log_density(denoise, x, logsnrs, own, probes=probes, step=step)
        # A level of 255 is 1/127.5 wide.
        bits = (nats / x[0].numel() + math.log(127.5)) / math.log(2)
        return FlowLikelihood(logsnrs=logsnrs.double().cpu(), bits=bits)

    return in_batches(where, images, generators, batch, measure)
