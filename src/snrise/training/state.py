"""The state of a run: one dataclass is all that a checkpoint holds."""

from dataclasses import dataclass

import torch
from torch import nn

from snrise.training.ema import Ema

__all__ = ["TrainState"]


@dataclass(kw_only=True)
class TrainState:
    """A network with its average and optimizer, and how far it has come.

    Nothing else is needed to go on: noise, dropout and the order of the data are functions of (seed, position).

    powers: further averages of other widths, from which `averages` makes those of any; none unless asked for.
    step: optimizer steps taken. images_seen: images that the weights have learnt from. position: images taken from the
    data, which is more by those of steps that were dropped. faults: steps that were dropped.
    """

    network: nn.Module
    ema: Ema
    optimizer: torch.optim.Optimizer
    powers: tuple[Ema, ...] = ()
    step: int = 0
    images_seen: int = 0
    position: int = 0
    faults: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device
