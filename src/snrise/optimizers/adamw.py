"""AdamW."""

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from snrise._errors import require
from snrise.cpu import FusedAdamW
from snrise.optimizers.base import groups, trained
from snrise.precision import Precision


@final
@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW, fused; weight decay on matrices and kernels only. Betas and eps of Hoogeboom et al. 2023."""

    eps: float = 1e-12

    def __post_init__(self) -> None:
        require(self.eps > 0, "AdamW.eps", self.eps, "a number above 0")

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer:
        return FusedAdamW(
            groups(trained(network), betas, weight_decay), lr=0.0, betas=betas, eps=self.eps, fused=True
        )
