"""DPM-Solver++(2M): a multistep solver with one evaluation a step."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from snrise._errors import require
from snrise._typing import Images, Scalars
from snrise.denoisers import Denoiser
from snrise.samplers.noise import Generators
from snrise.samplers.steps import ancestral_step, check_grid, walk

__all__ = ["DpmSolverPP"]


@final
@dataclass(frozen=True, kw_only=True)
class DpmSolverPP:
    r"""The step of `Ancestral` with x̂ carried on to the middle of the step: x̂ + ½(h/h₋)(x̂ − x̂₋).

    h is the step in λ, h₋ and x̂₋ are those of the step before. η = 0 is DPM-Solver++(2M), Lu et al. 2022 (arXiv
    2211.01095), alg. 2; η = 1 is SDE-DPM-Solver++(2M), ibid. app. A; between them the noise is that of DDIM's η.
    The first step has none before it: x̂ is taken as it is, as in every step at `order` 1, which is `Ddim` at η = 0
    and `Ancestral` with γ = 0 at another η. `lower_order_final` takes it so in the last step too, which is often the
    longest in λ; into λ = ∞ that is the only way.
    """

    order: int = 2
    eta: float = 0.0
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        require(self.order in (1, 2), "DpmSolverPP.order", self.order, "1 or 2")
        require(0 <= self.eta <= 1, "DpmSolverPP.eta", self.eta, "a number in [0, 1]")

    def evaluations(self, steps: int) -> int:
        """One a step."""
        return steps

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """As `Ancestral`."""
        check_grid(logsnrs)
        yield z
        before: Images | None = None
        for (t, s), share in zip(walk(logsnrs, z), self._shares(logsnrs), strict=True):
            x = denoise(z, t).to(t.dtype)
            guess = x if before is None or share == 0 else x + share * (x - before)
            z, before = ancestral_step(z, guess, t, s, generator, eta=self.eta, process=denoise.process), x
            yield z

    def _shares(self, logsnrs: Scalars) -> list[float]:
        """½ h/h₋ of every step; 0 where x̂ is taken as it is, as after a first step of infinite length."""
        h = logsnrs.double().diff()
        shares = torch.zeros_like(h)
        if self.order == 2:
            shares[1:] = 0.5 * h[1:] / h[:-1]
        if self.lower_order_final or h[-1].isinf():
            shares[-1] = 0
        return shares.tolist()
