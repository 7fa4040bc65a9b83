"""Ancestral sampling, from DDIM's deterministic steps to DDPM's and the noisier ones of simple diffusion."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Denoiser, Images, Scalars
from snrise.process import VP, Process, per_image, posterior_mean, posterior_variance
from snrise.samplers.noise import Generators, normal_like

__all__ = ["Ancestral", "Ddim"]


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """z_s = mean + η·std·noise: η from 0 (DDIM) to 1 (DDPM); γ from the small variance to the large one, in log.

    η = 1, γ = 0 is Ho et al. 2020; η = 1, γ = 0.2 is Hoogeboom et al. 2023; η < 1, γ = 0 is Song et al. 2020, eq. 16.
    """

    eta: float = 1.0
    gamma: float = 0.0
    process: Process = VP

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "Ancestral.eta", self.eta, "a number in [0, 1]")
        require(0 <= self.gamma <= 1, "Ancestral.gamma", self.gamma, "a number in [0, 1]")

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """Yield z at logsnrs[0], then after each step; one call of the denoiser a step. z is at logsnrs[0] already.

        `logsnrs` [steps + 1] increases. The last step adds the noise that belongs to the last λ, if any.
        """
        check_grid(logsnrs)
        precision = torch.promote_types(z.dtype, torch.float32)
        yield z
        for logsnr_t, logsnr_s in pairwise(logsnrs):
            t, s = (value.expand(len(z)).to(z.device, precision) for value in (logsnr_t, logsnr_s))
            x = denoise(z, t)
            step = posterior_mean(z, x, t, s, eta=self.eta, process=self.process)
            if self.eta > 0:
                variance = posterior_variance(t, s, gamma=self.gamma, process=self.process)
                step = step + per_image(self.eta * variance.sqrt(), z) * normal_like(z, generator)
            z = step.to(z.dtype)
            yield z


@final
@dataclass(frozen=True, kw_only=True)
class Ddim:
    """z_s = α_s x̂ + σ_s ε̂: deterministic, first order. Song et al. 2020, eq. 12; Su 2024, §8."""

    process: Process = VP

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """As `Ancestral`; the generator is not used."""
        return Ancestral(eta=0.0, process=self.process)(denoise, z, logsnrs, generator)


def check_grid(logsnrs: Tensor) -> None:
    """Raise unless λ is one dimension that strictly increases."""
    one_line = logsnrs.ndim == 1 and len(logsnrs) >= 2
    require(one_line, "sampler.logsnrs", tuple(logsnrs.shape), "[steps + 1], 2 values or more")
    if not bool((logsnrs[1:] > logsnrs[:-1]).all()):
        raise invalid("sampler.logsnrs", "values that do not increase", "λ from the noisy end up", "see samplers.grids")
