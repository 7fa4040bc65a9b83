"""Grids of λ for samplers, from the noisy end to the clean end: [steps + 1] in float64.

A grid is called with a schedule and the number of steps.
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch

from snrise._errors import require
from snrise._typing import Scalars
from snrise.schedules import Schedule

__all__ = ["GRIDS", "Grid", "Karras", "Trailing", "UniformLogSnr", "UniformTime", "uniform_logsnr", "uniform_time"]


@runtime_checkable
class Grid(Protocol):
    """A sampler's grid of λ, noisiest first: [steps + 1] in float64."""

    def __call__(self, schedule: Schedule, steps: int, /) -> Scalars: ...


@final
@dataclass(frozen=True)
class UniformTime:
    """λ(t) at t = 1, …, 0 in equal steps.

    >>> from snrise.schedules import Cosine
    >>> uniform_time(Cosine(), 4)
    tensor([-15.0000,  -1.7612,   0.0000,   1.7612,  15.0000], dtype=torch.float64)
    """

    def __call__(self, schedule: Schedule, steps: int) -> Scalars:
        _check_steps(steps, "uniform_time")
        return schedule(torch.linspace(1, 0, steps + 1, dtype=torch.float64))


@final
@dataclass(frozen=True)
class UniformLogSnr:
    """Equal steps in λ between the ends of the schedule, which must be finite. Lu et al. 2022 (arXiv 2206.00927).

    >>> from snrise.schedules import Cosine
    >>> uniform_logsnr(Cosine(), 4)
    tensor([-15.0000,  -7.5000,   0.0000,   7.5000,  15.0000], dtype=torch.float64)
    """

    def __call__(self, schedule: Schedule, steps: int) -> Scalars:
        _check_steps(steps, "uniform_logsnr")
        noisy, clean = _finite_ends(schedule, "uniform_logsnr")
        return torch.linspace(noisy, clean, steps + 1, dtype=torch.float64)


uniform_time = UniformTime()
uniform_logsnr = UniformLogSnr()


@final
@dataclass(frozen=True, kw_only=True)
class Karras:
    """Equal steps in s^{1/ρ}, s = σ/α = e^{−λ/2}, between the ends of the schedule, which must be finite.

    Karras et al. 2022 (arXiv 2206.00364), eq. 5; EDM adds a last step from there to s = 0, λ = ∞.

    >>> from snrise.schedules import Cosine
    >>> Karras()(Cosine(), 4)
    tensor([-15.0000, -11.5095,  -6.8490,   0.1864,  15.0000], dtype=torch.float64)
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        require(0 < self.rho < math.inf, "Karras.rho", self.rho, "a number above 0")

    def __call__(self, schedule: Schedule, steps: int, /) -> Scalars:
        _check_steps(steps, "Karras")
        noisy, clean = (math.exp(-end / (2 * self.rho)) for end in _finite_ends(schedule, "Karras"))
        return -2 * self.rho * torch.linspace(noisy, clean, steps + 1, dtype=torch.float64).log()


@final
@dataclass(frozen=True, kw_only=True)
class Trailing:
    """Every n-th entry of a tabulated schedule, counted from its noisy end, then λ = ∞.

    The grid that diffusers calls "trailing", for models that were trained on the `entries` of a table (t = n/(N−1))
    and on nothing between them. It begins at t = 1 exactly, as zero terminal SNR needs; `uniform_time` does so too,
    but falls between entries, and its last step begins one entry later and ends at the first entry, not at the image.
    Lin et al. 2023 (arXiv 2305.08891), sec. 3.3.

    >>> from snrise.schedules import Tabulated
    >>> Trailing(entries=5)(Tabulated.from_alphas_cumprod([0.99, 0.9, 0.5, 0.1, 0.01]), 2)
    tensor([-4.5951,  2.1972,     inf], dtype=torch.float64)
    """

    entries: int = 1000

    def __post_init__(self) -> None:
        require(self.entries >= 2, "Trailing.entries", self.entries, "a whole number, 2 or more")

    def __call__(self, schedule: Schedule, steps: int, /) -> Scalars:
        good = 1 <= steps <= self.entries
        require(good, "Trailing.steps", steps, f"a whole number from 1 to entries={self.entries}")
        counted = torch.arange(steps, 0, -1, dtype=torch.float64) * (self.entries / steps)
        chosen = schedule((counted.round() - 1) / (self.entries - 1))
        return torch.cat([chosen, chosen.new_full((1,), math.inf)])


#: Every grid by the name that a config gives it.
GRIDS: dict[str, type[Grid]] = {
    "karras": Karras, "trailing": Trailing, "uniform_logsnr": UniformLogSnr, "uniform_time": UniformTime,
}


def _check_steps(steps: int, where: str) -> None:
    require(steps >= 1, f"{where}.steps", steps, "a whole number above 0")


def _finite_ends(schedule: Schedule, where: str) -> tuple[float, float]:
    """λ(1) and λ(0)."""
    noisy, clean = schedule(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    require(
        math.isfinite(noisy) and math.isfinite(clean), f"{where}.schedule", f"λ from {noisy} to {clean}", "finite ends",
        "give it ends: Clipped(base=schedule, logsnr_min=-15, logsnr_max=15); or use uniform_time",
    )
    return noisy, clean
