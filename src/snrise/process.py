r"""The diffusion process: λ → (α, σ), z = αx + σε, and everything that follows from it without a schedule.

The SNR is the schedule's; how α and σ are scaled for a given SNR is this page's. All of it is written in terms of
log α, in log space, so that it holds for any λ from −∞ to ∞.

>>> import torch
>>> alpha, sigma = VariancePreserving().alpha_sigma(torch.tensor([0.0, float("inf")]))
>>> alpha**2 + sigma**2
tensor([1.0000, 1.0000])
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

from snrise._errors import require
from snrise._typing import Images, LogSnr, Scalars, StrEnum

__all__ = [
    "PROCESSES", "Prediction", "Process", "Relaxed", "Straight", "Target", "VarianceExploding", "VariancePreserving",
    "diffuse", "finite", "per_image", "posterior_mean", "posterior_variance", "sde",
]

#: Where a formula divides by α or σ, λ counts as at most this far from 0 (σ/α = 1e±13: nothing in float32 images).
LOGSNR_LIMIT = 60.0


def finite(logsnr: Scalars) -> Scalars:
    """λ within ±60, so that zero terminal SNR and a clean end stay numbers in formulas that divide by α or σ."""
    return logsnr.clamp(-LOGSNR_LIMIT, LOGSNR_LIMIT)


def per_image(values: Shaped[Tensor, " b"], images: Tensor) -> Tensor:
    """[b] -> [b 1 1 1], to multiply images with."""
    return values.reshape(-1, *[1] * (images.ndim - 1))


def combined(a: Shaped[Tensor, " b"], x: Images, b: Shaped[Tensor, " b"], y: Images) -> Images:
    """ax + by of each image, in two passes."""
    return (per_image(a, x) * x).addcmul_(per_image(b, y), y)


class Process(ABC):
    """How α and σ are scaled at a given λ. A member defines log α and its slope; σ = α e^{−λ/2} always."""

    @abstractmethod
    def log_alpha(self, logsnr: Scalars) -> Scalars:
        """Log α at λ (any shape)."""

    @abstractmethod
    def log_sigma(self, logsnr: Scalars) -> Scalars:
        """Log σ at λ: log α − λ/2, in a form that holds at ±∞."""

    @abstractmethod
    def log_alpha_slope(self, logsnr: Scalars) -> Scalars:
        """d log α / dλ."""

    @final
    def alpha_sigma(self, logsnr: Scalars) -> tuple[Scalars, Scalars]:
        """α and σ at λ, each of λ's shape and dtype."""
        return self.log_alpha(logsnr).exp(), self.log_sigma(logsnr).exp()


@final
@dataclass(frozen=True)
class VariancePreserving(Process):
    """α² + σ² = 1: α² = sigmoid(λ), σ² = sigmoid(−λ). Ho et al. 2020; Su 2024, §1.3, §2.4, §7.3."""

    def log_alpha(self, logsnr: Scalars) -> Scalars:
        return 0.5 * logsigmoid(logsnr)

    def log_sigma(self, logsnr: Scalars) -> Scalars:
        return 0.5 * logsigmoid(-logsnr)

    def log_alpha_slope(self, logsnr: Scalars) -> Scalars:
        return 0.5 * torch.sigmoid(-logsnr)


@final
@dataclass(frozen=True)
class VarianceExploding(Process):
    """α = 1, σ = e^{−λ/2}: σ is ∞ at λ = −∞, so schedules for it need a finite noisy end.

    Song et al. 2021; Su 2024, §9.2.
    """

    def log_alpha(self, logsnr: Scalars) -> Scalars:
        return torch.zeros_like(logsnr)

    def log_sigma(self, logsnr: Scalars) -> Scalars:
        return -0.5 * logsnr

    def log_alpha_slope(self, logsnr: Scalars) -> Scalars:
        return torch.zeros_like(logsnr)


@final
@dataclass(frozen=True)
class Relaxed(Process):
    """α² + ρσ² = 1: α² = SNR/(SNR+ρ), σ² = 1/(SNR+ρ). ρ = 1 preserves the variance, ρ = 0 lets it explode.

    Su 2024, §9.3. `rho` is a number, or a function λ -> ρ(λ) that torch can differentiate. At ρ = 0 all of
    `VarianceExploding` applies.
    """

    rho: float | Callable[[Tensor], Tensor] = 1.0

    def __post_init__(self) -> None:
        if not callable(self.rho):
            require(0 <= self.rho < math.inf, "Relaxed.rho", self.rho, "a number, 0 or more, or a function of λ")

    def log_rho(self, logsnr: Scalars) -> Scalars:
        """Log ρ(λ)."""
        if callable(self.rho):
            return torch.log(self.rho(finite(logsnr)))
        return torch.full_like(logsnr, math.log(self.rho) if self.rho > 0 else -math.inf)

    def _excess(self, logsnr: Tensor) -> Tensor:
        """λ − log ρ(λ): what stands where λ does under VP. ∞ at ρ = 0, also where λ is −∞."""
        if callable(self.rho):
            return finite(logsnr) - self.log_rho(logsnr)
        return logsnr - math.log(self.rho) if self.rho > 0 else torch.full_like(logsnr, math.inf)

    def log_alpha(self, logsnr: Scalars) -> Scalars:
        return 0.5 * logsigmoid(self._excess(logsnr))

    def log_sigma(self, logsnr: Scalars) -> Scalars:
        # log 1/(SNR + ρ), whichever of the two is larger taken out first.
        larger = torch.maximum(logsnr, self.log_rho(logsnr))
        return -0.5 * (larger - logsigmoid(self._excess(logsnr).abs()))

    def log_alpha_slope(self, logsnr: Scalars) -> Scalars:
        slope = 0.5 * torch.sigmoid(-self._excess(logsnr))
        if not callable(self.rho):
            return slope
        with torch.enable_grad():
            at = finite(logsnr).detach().requires_grad_()
            (rho_slope,) = torch.autograd.grad(self.log_rho(at).sum(), at, allow_unused=True)
        return slope if rho_slope is None else slope * (1 - rho_slope)


@final
@dataclass(frozen=True)
class Straight(Process):
    """α + σ = 1, the straight path of rectified flow: α = sigmoid(λ/2), σ = sigmoid(−λ/2). Liu et al. 2022."""

    def log_alpha(self, logsnr: Scalars) -> Scalars:
        return logsigmoid(0.5 * logsnr)

    def log_sigma(self, logsnr: Scalars) -> Scalars:
        return logsigmoid(-0.5 * logsnr)

    def log_alpha_slope(self, logsnr: Scalars) -> Scalars:
        return 0.5 * torch.sigmoid(-0.5 * logsnr)


#: Every process by the name that a config gives it.
PROCESSES: dict[str, type[Process]] = {
    "vp": VariancePreserving, "ve": VarianceExploding, "relaxed": Relaxed, "straight": Straight,
}

VP = VariancePreserving()


def difference(a: Tensor, b: Tensor) -> Tensor:
    """a − b, with ∞ − ∞ = 0 for equal infinities, forward and backward."""
    same = (a == b) & a.isinf()
    return torch.where(same, 0.0, a) - torch.where(same, 0.0, b)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a·b, with 0·∞ = 0 for a zero a, forward and backward."""
    return a * torch.where((a == 0) & b.isinf(), 0.0, b)


def diffuse(x: Images, eps: Images, logsnr: LogSnr, process: Process = VP) -> Images:
    """z = αx + σε; Su 2024, §1.1.

    >>> x, eps = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    >>> diffuse(x, eps, torch.tensor([0.0, 20.0]))[:, 0, 0, 0]
    tensor([0.7071, 1.0000])
    """
    alpha, sigma = process.alpha_sigma(logsnr)
    return combined(alpha, x, sigma, eps)


class Prediction(StrEnum):
    """What a network predicts: the image x, the noise ε, v = αε − σx, or the straight path's velocity u = ε − x."""

    X = "x"
    EPS = "eps"
    V = "v"
    U = "u"


@final
@dataclass(frozen=True)
class Target:
    r"""A prediction p = c_x x + c_ε ε under a process, and the way back to x and ε when z = αx + σε is known.

    With D = α c_ε − σ c_x, Cramer's rule gives x = (c_ε z − σp)/D and ε = (αp − c_x z)/D, so an error of the
    prediction is an error α/D times as large in ε, and −σ/D times in x. Su 2024, §6.6, §8.4.

    >>> target = Target(Prediction.V)
    >>> x, eps, logsnr = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1)
    >>> v = target(x, eps, logsnr)
    >>> target.to_x(v, diffuse(x, eps, logsnr), logsnr).item()
    1.0
    """

    prediction: Prediction
    process: Process = VP

    def coefficients(self, logsnr: Scalars) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_x, c_ε, α and σ at λ, all of λ's shape."""
        alpha, sigma = self.process.alpha_sigma(finite(logsnr))
        zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
        match self.prediction:
            case Prediction.X:
                return one, zero, alpha, sigma
            case Prediction.EPS:
                return zero, one, alpha, sigma
            case Prediction.V:
                return -sigma, alpha, alpha, sigma
            case Prediction.U:
                return -one, one, alpha, sigma

    def __call__(self, x: Images, eps: Images, logsnr: LogSnr) -> Images:
        """What a perfect network would say: c_x x + c_ε ε."""
        c_x, c_eps, _, _ = self.coefficients(logsnr)
        return combined(c_x, x, c_eps, eps)

    def gain(self, logsnr: Scalars) -> Scalars:
        """g(λ) with ε̂ − ε = g·(prediction − target): 1 for ε, −α/σ for x, α for v under VP, α/(α+σ) for u."""
        c_x, c_eps, alpha, sigma = self.coefficients(logsnr)
        return alpha / (alpha * c_eps - sigma * c_x)

    def to_x(self, prediction: Images, z: Images, logsnr: LogSnr) -> Images:
        """The image x̂ that a prediction at z means."""
        if self.prediction is Prediction.X:
            return prediction
        c_x, c_eps, alpha, sigma = self.coefficients(logsnr)
        determinant = alpha * c_eps - sigma * c_x
        return combined(c_eps / determinant, z, -sigma / determinant, prediction)

    def to_eps(self, prediction: Images, z: Images, logsnr: LogSnr) -> Images:
        """The noise ε̂ that a prediction at z means."""
        if self.prediction is Prediction.EPS:
            return prediction
        c_x, c_eps, alpha, sigma = self.coefficients(logsnr)
        determinant = alpha * c_eps - sigma * c_x
        return combined(alpha / determinant, prediction, -c_x / determinant, z)


def sde(logsnr: Scalars, logsnr_slope: Scalars, process: Process = VP) -> tuple[Scalars, Scalars]:
    """f = d log α/dt and g² = −σ² dλ/dt of dz = f z dt + g dw, from λ(t) and dλ/dt; Su 2024, §7.6, Kingma et al. 2021.

    Where one factor is 0 and the other infinite, as at an unlimited clean end, the product counts as 0.

    >>> f, g_squared = sde(torch.tensor(0.0), torch.tensor(-4.0))
    >>> f.item(), g_squared.item()
    (-1.0, 2.0)
    """
    _, sigma = process.alpha_sigma(logsnr)
    return product(process.log_alpha_slope(logsnr), logsnr_slope), -product(sigma**2, logsnr_slope)


def posterior_mean(
    z: Images, x: Images, logsnr_t: LogSnr, logsnr_s: LogSnr, *, eta: float = 1.0, process: Process = VP
) -> Images:
    r"""Mean of z_s given z_t and x, for a step from t to a cleaner s.

    α_s x + σ_s √(1 − η²(1−r)) ε with ε = (z − α_t x)/σ_t and r = e^{λ_t−λ_s}. At η = 1 it is the posterior's,
    r(α_s/α_t) z + (1−r) α_s x (Ho et al. 2020, eq. 7; Su 2024, §8.1); at η = 0, DDIM's whole step (Song et al. 2020,
    eq. 12).
    """
    t, s = finite(logsnr_t), finite(logsnr_s)
    # log(1 − η² + η²r), which is −∞ nowhere, so that a first step out of pure noise has a gradient.
    log_kept = torch.logaddexp(_log(1 - eta**2).to(t), _log(eta**2).to(t) + t - s)
    of_z = torch.exp(process.log_sigma(s) - process.log_sigma(t) + 0.5 * log_kept)
    of_x = process.log_alpha(s).exp() - of_z * process.log_alpha(t).exp()
    return combined(of_z, z, of_x, x)


def _log(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64).log()


def posterior_variance(
    logsnr_t: Scalars, logsnr_s: Scalars, *, gamma: float = 0.0, process: Process = VP
) -> Scalars:
    """Variance of z_s given z_t and x: from (1−r)σ_s² at γ = 0 to (1−r)σ_t² at γ = 1, interpolated in log.

    Hoogeboom et al. 2023, sec. 3; Su 2024, §8.1.
    """
    t, s = finite(logsnr_t), finite(logsnr_s)
    log_sigma = (1 - gamma) * process.log_sigma(s) + gamma * process.log_sigma(t)
    return -torch.expm1(t - s) * torch.exp(2 * log_sigma)
