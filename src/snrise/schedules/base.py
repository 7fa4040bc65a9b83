"""What a schedule is, and the angles that several of them are made of."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from snrise._errors import require
from snrise._typing import Scalars


class Schedule(ABC):
    """λ as a strictly decreasing function of t in [0, 1], differentiable and invertible."""

    @abstractmethod
    def __call__(self, t: Scalars) -> Scalars:
        """λ(t)."""

    @abstractmethod
    def derivative(self, t: Scalars) -> Scalars:
        """dλ/dt, negative."""

    @abstractmethod
    def inverse(self, logsnr: Scalars) -> Scalars:
        """The t in [0, 1] at which the schedule reaches λ."""


def density(schedule: Schedule, logsnr: Scalars) -> Scalars:
    """p(λ) = −dt/dλ of λ(t) with t uniform in [0, 1]; 0 outside the schedule's range.

    >>> from snrise.schedules import Cosine
    >>> density(Cosine(), torch.tensor([0.0, 99.0]))
    tensor([0.1593, 0.0000])
    """
    with torch.no_grad():
        ends = schedule(torch.tensor([1.0, 0.5, 0.0], dtype=logsnr.dtype, device=logsnr.device))
        # Where t stands at an end with an infinite slope, the density is 0.
        inside = (logsnr >= ends[0]) & (logsnr <= ends[2]) & schedule.derivative(schedule.inverse(logsnr)).isfinite()
    return torch.where(inside, -1 / schedule.derivative(schedule.inverse(torch.where(inside, logsnr, ends[1]))), 0.0)


# tan(angle) = σ/α under VP, so λ = −2 log tan(angle); an angle and its complement to a right angle are kept
# apart, both positive, so that neither end loses digits.


def smaller_angle(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """atan(e^{−|λ|/2}) in [0, π/4]: the smaller of the angle and its complement; and if it is the angle (λ > 0)."""
    return torch.atan(torch.exp(-0.5 * logsnr.abs())), logsnr > 0


def logsnr_of(angle: Tensor, complement: Tensor) -> Tensor:
    """λ = −2 log tan(angle)."""
    return 2 * (torch.log(torch.sin(complement)) - torch.log(torch.sin(angle)))


def angle_of(logsnr: float) -> float:
    """atan(e^{−λ/2}) of a number."""
    return math.atan(math.exp(-0.5 * logsnr)) if logsnr > -1400 else math.pi / 2


def check_limits(where: str, low: float, high: float, bounded: bool = False) -> None:
    """Raise unless low < high, and both are finite if they must be."""
    if bounded:
        for name, value in (("logsnr_min", low), ("logsnr_max", high)):
            require(math.isfinite(value), f"{where}.{name}", value, "a finite number", "use -15 and 15")
    require(low < high, f"{where}.logsnr_min", low, f"a number below logsnr_max={high}")
