"""Ancestral sampling, from DDIM's deterministic steps to DDPM's and the noisier ones of simple diffusion."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from snrise._errors import require
from snrise._typing import Images, Scalars
from snrise.denoisers import Denoiser
from snrise.samplers.noise import Generators
from snrise.samplers.steps import ancestral_step, check_grid, walk

__all__ = ["Ancestral", "Ddim"]


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral:
    """z_s = mean + η·std·noise: η from 0 (DDIM) to 1 (DDPM); γ from the small variance to the large one, in log.

    η = 1, γ = 0 is Ho et al. 2020; η = 1, γ = 0.2 is Hoogeboom et al. 2023; η < 1, γ = 0 is Song et al. 2020, eq. 16.
    """

    eta: float = 1.0
    gamma: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "Ancestral.eta", self.eta, "a number in [0, 1]")
        require(0 <= self.gamma <= 1, "Ancestral.gamma", self.gamma, "a number in [0, 1]")

    def evaluations(self, steps: int) -> int:
        """One a step."""
        return steps

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """Yield z at logsnrs[0], then after each step. z is at logsnrs[0] already.

        `logsnrs` [steps + 1] increases. The last step adds the noise that belongs to the last λ, if any.
        """
        check_grid(logsnrs)
        yield z
        for t, s in walk(logsnrs, z):
            x = denoise(z, t)
            z = ancestral_step(z, x, t, s, generator, eta=self.eta, gamma=self.gamma, process=denoise.process)
            yield z


@final
@dataclass(frozen=True, kw_only=True)
class Ddim:
    """z_s = α_s x̂ + σ_s ε̂: deterministic, first order. Song et al. 2020, eq. 12; Su 2024, §8.

    It is Euler's method for EDM's equation (see `Heun`), and DPM-Solver++ of order 1.
    """


    def evaluations(self, steps: int) -> int:
        """One a step."""
        return steps

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """As `Ancestral`; the generator is not used."""
        return Ancestral(eta=0.0)(denoise, z, logsnrs, generator)
