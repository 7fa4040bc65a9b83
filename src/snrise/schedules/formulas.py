"""Schedules with a formula: λ(t), its derivative and its inverse are exact."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from snrise._errors import require
from snrise._typing import Scalars
from snrise.schedules.base import Schedule, angle_of, check_limits, logsnr_of, smaller_angle


@final
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    r"""λ = −2 log tan(a₀ + t(a₁ − a₀)): the angle of (α, σ) turns at a constant rate; Su 2024, §10.1.

    Without limits a₀ = ½π·offset/(1+offset) and a₁ = ½π (Nichol and Dhariwal 2021); a limit moves its end to the angle
    where λ has that value (Hoogeboom et al. 2023, app. A). None is no limit. The larger of offset and limit decides a₀.
    """

    offset: float = 0.0
    logsnr_min: float | None = -15.0
    logsnr_max: float | None = 15.0

    def __post_init__(self) -> None:
        require(0 <= self.offset < math.inf, "Cosine.offset", self.offset, "a number, 0 or more")
        check_limits("Cosine", -math.inf if self.logsnr_min is None else self.logsnr_min,
                     math.inf if self.logsnr_max is None else self.logsnr_max)
        # The offset alone starts at λ = −2 log tan(½π·offset/(1+offset)), and that too must be above logsnr_min.
        require(self._ends()[2] > 0, "Cosine.offset", self.offset,
                f"a number small enough to start above logsnr_min={self.logsnr_min}")

    def _ends(self) -> tuple[float, float, float]:
        """The first angle, the last one's complement, and the angle turned in between."""
        first = 0.5 * math.pi * self.offset / (1 + self.offset)
        if self.logsnr_max is not None:
            first = max(first, angle_of(self.logsnr_max))
        last = 0.0 if self.logsnr_min is None else angle_of(-self.logsnr_min)
        return first, last, 0.5 * math.pi - first - last

    def _angles(self, t: Tensor) -> tuple[Tensor, Tensor]:
        first, last, turn = self._ends()
        return first + t * turn, last + (1 - t) * turn

    def __call__(self, t: Scalars) -> Scalars:
        return logsnr_of(*self._angles(t))

    def derivative(self, t: Scalars) -> Scalars:
        angle, complement = self._angles(t)
        return -2 * self._ends()[2] / (torch.sin(angle) * torch.sin(complement))

    def inverse(self, logsnr: Scalars) -> Scalars:
        first, last, turn = self._ends()
        small, is_angle = smaller_angle(logsnr)
        t = torch.where(is_angle, (small - first) / turn, 1 - (small - last) / turn)
        return t.clamp(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class LinearBeta(Schedule):
    r"""β linear in t: α² = e^{−B}, B = β_min t + ½t²(β_max − β_min), with the β of the whole interval; Su 2024, §10.2.

    λ = −log(e^B − 1). Song et al. 2021, app. B (VP SDE). It ends at λ ≈ −10, not at pure noise.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        require(self.beta_min > 0, "LinearBeta.beta_min", self.beta_min, "a number above 0")
        above = f"a number above beta_min={self.beta_min}"
        require(self.beta_min < self.beta_max < math.inf, "LinearBeta.beta_max", self.beta_max, above)

    def _integral(self, t: Tensor) -> Tensor:
        # t = 0 is left out of the square, where the infinite slope of λ would meet the square's slope of 0.
        square = torch.where(t == 0, 0.0, t) ** 2
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * square

    def __call__(self, t: Scalars) -> Scalars:
        b = self._integral(t)
        return -b - torch.log(-torch.expm1(-b))

    def derivative(self, t: Scalars) -> Scalars:
        return (self.beta_min + t * (self.beta_max - self.beta_min)) / torch.expm1(-self._integral(t))

    def inverse(self, logsnr: Scalars) -> Scalars:
        b = (-logsigmoid(logsnr)).clamp(max=0.5 * (self.beta_min + self.beta_max))
        root = torch.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b)
        return (2 * b / (self.beta_min + root)).clamp(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class UniformLogSnr(Schedule):
    """λ = λ_max + t(λ_min − λ_max): uniform in τ = λ; Su 2024, §7.5."""

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        check_limits("UniformLogSnr", self.logsnr_min, self.logsnr_max, bounded=True)

    def __call__(self, t: Scalars) -> Scalars:
        return self.logsnr_max * (1 - t) + self.logsnr_min * t

    def derivative(self, t: Scalars) -> Scalars:
        return torch.full_like(t, self.logsnr_min - self.logsnr_max)

    def inverse(self, logsnr: Scalars) -> Scalars:
        clipped = logsnr.clamp(self.logsnr_min, self.logsnr_max)
        return (self.logsnr_max - clipped) / (self.logsnr_max - self.logsnr_min)


@final
@dataclass(frozen=True, kw_only=True)
class UniformPower(Schedule):
    r"""SNR^power moves linearly in t between two λ; Su 2024, §7.2.

    power = 1 is the grid τ = SNR, −1 is τ = 1/SNR (σ² linear when α = 1), −1/(2ρ) is Karras et al. 2022, eq. 5
    (σ^{1/ρ} linear); the limit power → 0 is `UniformLogSnr`. Computed in float64: SNR^power spans many decades.
    """

    power: float = 1.0
    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self) -> None:
        require(self.power != 0, "UniformPower.power", self.power, "a number other than 0", "use UniformLogSnr")
        check_limits("UniformPower", self.logsnr_min, self.logsnr_max, bounded=True)
        # Beyond e^±700 the smallest SNR^power is 0 beside the largest.
        most = 700 / (self.logsnr_max - self.logsnr_min)
        require(abs(self.power) <= most, "UniformPower.power", self.power, f"a number in [-{most:.4g}, {most:.4g}]")

    @property
    def _floor(self) -> float:
        """The smallest SNR^power as a share of the largest."""
        return math.exp(-abs(self.power) * (self.logsnr_max - self.logsnr_min))

    def _mix(self, t: Tensor) -> Tensor:
        """SNR^power as a share of its largest value, in float64."""
        wide = t.double()
        return 1 - wide + wide * self._floor if self.power > 0 else wide + (1 - wide) * self._floor

    def __call__(self, t: Scalars) -> Scalars:
        end = self.logsnr_max if self.power > 0 else self.logsnr_min
        return (end + torch.log(self._mix(t)) / self.power).to(t.dtype)

    def derivative(self, t: Scalars) -> Scalars:
        return ((self._floor - 1) / (abs(self.power) * self._mix(t))).to(t.dtype)

    def inverse(self, logsnr: Scalars) -> Scalars:
        within = logsnr.double().clamp(self.logsnr_min, self.logsnr_max)
        # Both signs measured from λ_max, where t is near 0 and has digits to lose.
        share = torch.expm1(self.power * (within - self.logsnr_max)) / (self._floor - 1)
        return (share if self.power > 0 else -self._floor * share).clamp(0, 1).to(logsnr.dtype)


def _probit(t: Tensor) -> Tensor:
    """Φ⁻¹(t), the normal distribution's quantile."""
    out: Tensor = torch.special.ndtri(t)
    return out


@final
@dataclass(frozen=True, kw_only=True)
class LogNormal(Schedule):
    """log σ/α normal with a mean and a deviation: λ = −2(mean + std·Φ⁻¹(t)), to ±∞. Karras et al. 2022, table 1."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        require(self.std > 0, "LogNormal.std", self.std, "a number above 0")

    def __call__(self, t: Scalars) -> Scalars:
        return -2 * (self.mean + self.std * _probit(t))

    def derivative(self, t: Scalars) -> Scalars:
        return -2 * self.std * math.sqrt(2 * math.pi) * torch.exp(0.5 * _probit(t) ** 2)

    def inverse(self, logsnr: Scalars) -> Scalars:
        # Φ by erfc, which keeps its digits where Φ is near 0.
        return 0.5 * torch.erfc((0.5 * logsnr + self.mean) / (self.std * math.sqrt(2)))


@final
@dataclass(frozen=True)
class FlowMatching(Schedule):
    """σ = t on the straight path α + σ = 1: λ = 2 log((1−t)/t); ends at ±∞. Liu et al. 2022.

    Shifted by a factor s it is the time shift t' = st/(1+(s−1)t) of Esser et al. 2024, eq. 23.
    """

    def __call__(self, t: Scalars) -> Scalars:
        return 2 * (torch.log1p(-t) - torch.log(t))

    def derivative(self, t: Scalars) -> Scalars:
        return -2 / (t * (1 - t))

    def inverse(self, logsnr: Scalars) -> Scalars:
        return torch.sigmoid(-0.5 * logsnr)
