"""Optimizers: each is called with a network, and gives one of PyTorch's for the parameters that are not frozen.

>>> from torch import nn
>>> type(AdamW()(nn.Linear(2, 2))).__name__
'FusedAdamW'
"""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import nn

from snrise._errors import require
from snrise.optimizers.making import adamw, muon
from snrise.precision import Precision

__all__ = ["OPTIMIZERS", "AdamW", "Muon", "Optimizer", "adamw", "muon"]


@runtime_checkable
class Optimizer(Protocol):
    """A choice of optimizer. The learning rate is set anew before each step: `lr` of a group times its `lr_scale`."""

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer: ...


@final
@dataclass(frozen=True, kw_only=True)
class AdamW:
    """See `adamw`."""

    eps: float = 1e-12

    def __post_init__(self) -> None:
        require(self.eps > 0, "AdamW.eps", self.eps, "a number above 0")

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer:
        return adamw(network, betas=betas, eps=self.eps, weight_decay=weight_decay)


@final
@dataclass(frozen=True, kw_only=True)
class Muon:
    """See `muon`."""

    scale: float = 20.0

    def __post_init__(self) -> None:
        require(self.scale > 0, "Muon.scale", self.scale, "a number above 0")

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer:
        return muon(network, scale=self.scale, betas=betas, weight_decay=weight_decay, precision=precision)


#: Every optimizer by the name that a config gives it.
OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "muon": Muon}
