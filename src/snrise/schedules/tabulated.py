"""Schedules from a table of β or ᾱ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Scalars
from snrise.schedules.base import Schedule, logsnr_of, smaller_angle


@final
@dataclass(frozen=True)
class Tabulated(Schedule):
    """λ at equal steps of t, from a table of α² or β; between the entries the angle of (α, σ) turns at a constant rate.

    Entry n of N stands at t = n/(N−1). An entry may be ±∞ (α² = 1 or 0). Make one with `from_alphas_cumprod` or
    `from_betas`.

    >>> Tabulated.from_betas(torch.linspace(1e-4, 0.02, 1000))(torch.tensor([0.0, 1.0]))
    tensor([  9.2102, -10.1176])
    """

    logsnrs: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        require(len(self.logsnrs) >= 2, "Tabulated", f"{len(self.logsnrs)} entries", "2 entries or more")
        for n, (a, b) in enumerate(zip(self.logsnrs[:-1], self.logsnrs[1:], strict=True)):
            if not a > b:
                raise invalid(f"Tabulated[{n + 1}]", b, f"a log-SNR below the entry before it, {a!r}")

    @classmethod
    def from_alphas_cumprod(cls, values: Sequence[float] | Tensor) -> "Tabulated":
        """From α² = ∏(1−β), as diffusers' `alphas_cumprod`: λ = log a − log(1 − a)."""
        a = _table("Tabulated.from_alphas_cumprod", values)
        return cls(tuple((torch.log(a) - torch.log1p(-a)).tolist()))

    @classmethod
    def from_betas(cls, values: Sequence[float] | Tensor) -> "Tabulated":
        """From the β of each step: log α² = Σ log(1−β); Su 2024, §1.1, §10.2."""
        log_a = torch.log1p(-_table("Tabulated.from_betas", values)).cumsum(0)
        return cls(tuple((log_a - torch.log(-torch.expm1(log_a))).tolist()))

    def _knots(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Every entry's angle and its complement, in float64."""
        small, is_angle = smaller_angle(torch.tensor(self.logsnrs, dtype=torch.float64, device=like.device))
        other = 0.5 * math.pi - small
        return torch.where(is_angle, small, other), torch.where(is_angle, other, small)

    def _angles(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The angle and its complement at t, and d angle/dt."""
        angles, complements = self._knots(t)
        last = len(self.logsnrs) - 1
        position = t.double() * last
        n = position.detach().floor().long().clamp(0, last - 1)
        part = position - n
        # Each counts up from the knot where it is smaller.
        angle = angles[n] + part * (angles[n + 1] - angles[n])
        complement = complements[n + 1] + (1 - part) * (complements[n] - complements[n + 1])
        return angle, complement, (angles[n + 1] - angles[n]) * last

    def __call__(self, t: Scalars) -> Scalars:
        angle, complement, _ = self._angles(t)
        return logsnr_of(angle, complement).to(t.dtype)

    def derivative(self, t: Scalars) -> Scalars:
        angle, complement, slope = self._angles(t)
        return (-2 * slope / (torch.sin(angle) * torch.sin(complement))).to(t.dtype)

    def inverse(self, logsnr: Scalars) -> Scalars:
        angles, complements = self._knots(logsnr)
        small, is_angle = smaller_angle(logsnr.double())
        angle = torch.where(is_angle, small, 0.5 * math.pi - small)
        n = (torch.searchsorted(angles, angle.detach(), right=True) - 1).clamp(0, len(self.logsnrs) - 2)
        by_angle = (small - angles[n]) / (angles[n + 1] - angles[n])
        by_complement = (complements[n] - small) / (complements[n] - complements[n + 1])
        part = torch.where(is_angle, by_angle, by_complement)
        return ((n + part) / (len(self.logsnrs) - 1)).clamp(0, 1).to(logsnr.dtype)


def _table(where: str, values: Sequence[float] | Tensor) -> Tensor:
    """One dimension of float64 numbers in [0, 1]."""
    table = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    require(table.ndim == 1, where, f"{table.ndim} dimensions", "one dimension")
    outside = ((table < 0) | (table > 1) | table.isnan()).nonzero()
    if len(outside):
        n = int(outside[0, 0])
        raise invalid(f"{where}[{n}]", table[n].item(), "a number in [0, 1]")
    return table
