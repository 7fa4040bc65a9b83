"""Schedules made from schedules."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from snrise._errors import require
from snrise._typing import Scalars
from snrise.process import difference, product
from snrise.schedules.base import Schedule, check_limits


@final
@dataclass(frozen=True, kw_only=True)
class Shifted(Schedule):
    r"""λ(t) = λ_base(t) − 2 log factor: pooled by factor×factor it has the SNR of its base.

    Hoogeboom et al. 2023, sec. 3.1; Su 2024, §4.5, §5. The base's limits move too; `for_resolution(ends="stay")` keeps
    them.
    """

    base: Schedule
    factor: float

    def __post_init__(self) -> None:
        require(0 < self.factor < math.inf, "Shifted.factor", self.factor, "a number above 0")

    @property
    def shift(self) -> float:
        """2 log factor."""
        return 2 * math.log(self.factor)

    def __call__(self, t: Scalars) -> Scalars:
        return self.base(t) - self.shift

    def derivative(self, t: Scalars) -> Scalars:
        return self.base.derivative(t)

    def inverse(self, logsnr: Scalars) -> Scalars:
        return self.base.inverse(logsnr + self.shift)


@final
@dataclass(frozen=True, kw_only=True)
class Clipped(Schedule):
    """The base's λ held within limits: constant, with derivative 0, where the base is beyond one."""

    base: Schedule
    logsnr_min: float = -math.inf
    logsnr_max: float = math.inf

    def __post_init__(self) -> None:
        check_limits("Clipped", self.logsnr_min, self.logsnr_max)

    def __call__(self, t: Scalars) -> Scalars:
        logsnr, inside = self._base(t)
        # The base is not asked again where it may be infinite, so that no infinite slope meets a gradient of 0.
        return torch.where(inside, self.base(torch.where(inside, t, 0.5)), logsnr)

    def derivative(self, t: Scalars) -> Scalars:
        _, inside = self._base(t)
        return torch.where(inside, self.base.derivative(torch.where(inside, t, 0.5)), 0.0)

    @torch.no_grad()
    def _base(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's λ, clipped, and where it is within the limits."""
        logsnr = self.base(t)
        inside = (logsnr >= self.logsnr_min) & (logsnr <= self.logsnr_max)
        return logsnr.clamp(self.logsnr_min, self.logsnr_max), inside

    def inverse(self, logsnr: Scalars) -> Scalars:
        t = self.base.inverse(logsnr.clamp(self.logsnr_min, self.logsnr_max))
        t = torch.where(logsnr > self.logsnr_max, 0.0, t)
        return torch.where(logsnr < self.logsnr_min, 1.0, t)


@final
@dataclass(frozen=True, kw_only=True)
class Interpolated(Schedule):
    r"""λ(t) = (1−t)·λ_clean(t) + t·λ_noisy(t): one schedule at the clean end, another at the noisy end.

    Hoogeboom et al. 2023, sec. 3.1. The usual choice is the less shifted at the clean end (more time for fine detail)
    and the more shifted at the noisy end. The other order need not decrease; `diagnostics.diagnose` says so.
    """

    clean: Schedule
    noisy: Schedule

    def __call__(self, t: Scalars) -> Scalars:
        return _weighted(1 - t, self.clean, t) + _weighted(t, self.noisy, t)

    def derivative(self, t: Scalars) -> Scalars:
        gap = difference(self.noisy(t), self.clean(t))
        return gap + product(1 - t, self.clean.derivative(t)) + product(t, self.noisy.derivative(t))

    def inverse(self, logsnr: Scalars) -> Scalars:
        return _bisect(self, logsnr)


def _weighted(weight: Tensor, schedule: Schedule, t: Tensor) -> Tensor:
    """weight·λ(t), with 0·∞ = 0, forward and backward."""
    with torch.no_grad():
        lost = (weight == 0) & schedule(t).isinf()
    return torch.where(lost, 0.0, weight * schedule(torch.where(lost, 0.5, t)))


@final
@dataclass(frozen=True, kw_only=True)
class ZeroTerminalSnr(Schedule):
    r"""α stretched so that it ends at 0 and starts where the base does: α' = (α − α₁)·α₀/(α₀ − α₁), VP; λ(1) = −∞.

    Lin et al. 2023 (arXiv 2305.08891), alg. 1.
    """

    base: Schedule

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """α(1) of the base, 1 − α(0), and the stretch k = α₀/(α₀ − α₁)."""
        ends = self.base(torch.tensor([0.0, 1.0], dtype=torch.float64, device=like.device))
        (first, last), (first_gap, _) = torch.exp(0.5 * logsigmoid(ends)), _one_minus_alpha(ends)
        return last, first_gap, first / (first - last)

    def _alpha(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """α', 1 − α', the base's λ (0 for an infinite one) and k at t, in float64."""
        last, first_gap, k = self._constants(t)
        base = self.base(t.double())
        base = torch.where(base.isinf(), 0.0, base)
        alpha = k * (torch.exp(0.5 * logsigmoid(base)) - last)
        # Exactly 0 at the end, whatever rounding says there, with the slope it has.
        alpha = torch.where(t >= 1, alpha - alpha.detach(), alpha)
        alpha = torch.where(alpha < 0, 0.0, alpha)
        return alpha, first_gap + k * (_one_minus_alpha(base) - first_gap), base, k

    def __call__(self, t: Scalars) -> Scalars:
        wide = t.double()
        base, ends = self._infinite(wide)
        inner = torch.where(ends, 0.5, wide)
        alpha, gap, _, _ = self._alpha(inner)
        stretched = 2 * torch.log(alpha) - torch.log(gap) - torch.log1p(alpha)
        return torch.where(ends, base, stretched).to(t.dtype)

    def derivative(self, t: Scalars) -> Scalars:
        wide = t.double()
        _, ends = self._infinite(wide)
        alpha, gap, base, k = self._alpha(torch.where(ends, 0.5, wide))
        # dα/dλ = ½ασ² for the base; dλ'/dα' = 2/(α'(1−α'²)).
        alpha_slope = 0.5 * k * torch.exp(0.5 * logsigmoid(base) + logsigmoid(-base))
        ratio = torch.where(ends, 1.0, 2 * alpha_slope / (gap * alpha * (1 + alpha)))
        return (ratio * self.base.derivative(wide)).to(t.dtype)

    def _infinite(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's λ, and where it is infinite: there the stretched schedule is too, with the same slope."""
        base = self.base(t)
        return base, base.isinf()

    def inverse(self, logsnr: Scalars) -> Scalars:
        last, first_gap, k = self._constants(logsnr)
        wide = logsnr.double()
        inner = torch.where(wide.isinf(), 0.0, wide)
        alpha = torch.exp(0.5 * logsigmoid(inner)) / k + last
        gap = first_gap + (_one_minus_alpha(inner) - first_gap) / k
        base = 2 * torch.log(alpha) - torch.log(gap) - torch.log1p(alpha)
        return self.base.inverse(torch.where(wide.isinf(), wide, base)).to(logsnr.dtype)


def _one_minus_alpha(logsnr: Tensor) -> Tensor:
    """1 − α under VP, without cancellation: σ²/(1 + α)."""
    return torch.sigmoid(-logsnr) / (1 + torch.exp(0.5 * logsigmoid(logsnr)))


def _bisect(schedule: Schedule, logsnr: Tensor) -> Tensor:
    """The t at which a decreasing schedule crosses λ, to the last bit of float64, with the gradient dt/dλ."""
    with torch.no_grad():
        target = logsnr.detach().double()
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(60):
            middle = 0.5 * (low + high)
            noisier = schedule(middle) < target
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        t = torch.where(target >= schedule(torch.zeros_like(target)), 0.0, 0.5 * (low + high))
        t = torch.where(target <= schedule(torch.ones_like(target)), 1.0, t)
        slope = torch.nan_to_num(1 / schedule.derivative(t), posinf=0.0, neginf=0.0)
    # The value is t; the gradient is that of the inverse function.
    movement = torch.where(target.isfinite(), logsnr.double(), 0.0) - torch.where(target.isfinite(), target, 0.0)
    return (t + slope * movement).to(logsnr.dtype)
