r"""Weights on the ε-error: loss(λ) = w(λ)·‖ε̂ − ε‖².

One unit serves every prediction: the same weight gives the same loss whether a network predicts x, ε, v or u. A weight
elsewhere stated for the x-error is here divided by the SNR, for the v-error (under VP) multiplied by (SNR+1)/SNR.

λ counts as at most 60 from 0, so a weight is finite at a clean end and at zero terminal SNR.

>>> import torch
>>> MinSnr(gamma=5.0)(torch.tensor([-3.0, 3.0]))
tensor([1.0000, 0.2489])
"""

import math
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch.nn.functional import logsigmoid, softplus

from snrise._errors import require
from snrise._typing import Scalars
from snrise.process import finite

__all__ = [
    "P2", "WEIGHTINGS", "Constant", "Edm", "LogSnr1p", "MinSnr", "Sigmoid", "Snr", "SoftMinSnr", "TruncatedSnr",
    "ULoss", "VLoss", "Weighting", "XLoss",
]


@runtime_checkable
class Weighting(Protocol):
    """λ (any shape) -> the weight of the squared ε-error, of the same shape."""

    def __call__(self, logsnr: Scalars, /) -> Scalars: ...


@final
@dataclass(frozen=True)
class Constant:
    """1: the plain ε-loss. Ho et al. 2020, eq. 14; Su 2024, §6.5 (1)."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.ones_like(logsnr)


@final
@dataclass(frozen=True)
class Snr:
    """SNR; Su 2024, §6.5 (2)."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.exp(finite(logsnr))


@final
@dataclass(frozen=True, kw_only=True)
class TruncatedSnr:
    """min(SNR, limit); Su 2024, §6.5 (3)."""

    limit: float = 5.0

    def __post_init__(self) -> None:
        require(self.limit > 0, "TruncatedSnr.limit", self.limit, "a number above 0")

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.exp(finite(logsnr).clamp(max=math.log(self.limit)))


@final
@dataclass(frozen=True)
class LogSnr1p:
    """log(1 + SNR); Su 2024, §6.5 (4)."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return softplus(finite(logsnr))


@final
@dataclass(frozen=True, kw_only=True)
class MinSnr:
    """min(1, γ/SNR): min-SNR-γ, stated on the x-error as min(SNR, γ). Hang et al. 2023 (arXiv 2303.09556), eq. 8."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        require(self.gamma > 0, "MinSnr.gamma", self.gamma, "a number above 0")

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.exp((math.log(self.gamma) - finite(logsnr)).clamp(max=0))


@final
@dataclass(frozen=True, kw_only=True)
class SoftMinSnr:
    """γ/(γ + SNR) = sigmoid(log γ − λ). Crowson et al. 2024 (arXiv 2401.11605), sec. 4.2."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        require(self.gamma > 0, "SoftMinSnr.gamma", self.gamma, "a number above 0")

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.sigmoid(math.log(self.gamma) - finite(logsnr))


@final
@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """sigmoid(bias − λ), equal to `SoftMinSnr` with bias = log γ. Hoogeboom et al. 2024 (arXiv 2410.19324), sec. 3.1.

    There it multiplies −½dλ/dt too, which makes it a weight per unit of λ: draw λ with `Levels(like=UniformLogSnr(…))`
    for that. Biases of the paper: 0, −1, −3 at 128, 256, 512 px.
    """

    bias: float = 0.0

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.sigmoid(self.bias - finite(logsnr))


@final
@dataclass(frozen=True)
class VLoss:
    """(SNR + 1)/SNR: the plain loss of a v-prediction under VP. Salimans and Ho 2022."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return 1 + torch.exp(-finite(logsnr))


@final
@dataclass(frozen=True)
class XLoss:
    """1/SNR: the plain loss of an x-prediction; Su 2024, §8.4."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return torch.exp(-finite(logsnr))


@final
@dataclass(frozen=True)
class ULoss:
    """((α + σ)/α)² = (1 + SNR^{−½})²: the plain loss of a velocity u = ε − x on the straight path. Liu et al. 2022."""

    def __call__(self, logsnr: Scalars) -> Scalars:
        return (1 + torch.exp(-0.5 * finite(logsnr))).square()


@final
@dataclass(frozen=True, kw_only=True)
class P2:
    """1/(k + SNR)^γ. Choi et al. 2022 (arXiv 2204.00227), eq. 8."""

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        require(self.k > 0, "P2.k", self.k, "a number above 0")

    def __call__(self, logsnr: Scalars) -> Scalars:
        # log(k + SNR) = log k + log(1 + SNR/k)
        return torch.exp(self.gamma * (logsigmoid(math.log(self.k) - finite(logsnr)) - math.log(self.k)))


@final
@dataclass(frozen=True, kw_only=True)
class Edm:
    """1 + 1/(SNR·σ_data²): EDM's (σ² + σ_data²)/(σσ_data)² on the x-error. Karras et al. 2022, table 1."""

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        require(self.sigma_data > 0, "Edm.sigma_data", self.sigma_data, "a number above 0")

    def __call__(self, logsnr: Scalars) -> Scalars:
        return 1 + torch.exp(-finite(logsnr)) / self.sigma_data**2


#: Every weighting by the name that a config gives it.
WEIGHTINGS: dict[str, type[Weighting]] = {
    "constant": Constant, "snr": Snr, "truncated_snr": TruncatedSnr, "logsnr1p": LogSnr1p, "min_snr": MinSnr,
    "soft_min_snr": SoftMinSnr, "sigmoid": Sigmoid, "v_loss": VLoss, "x_loss": XLoss, "u_loss": ULoss, "p2": P2,
    "edm": Edm,
}
