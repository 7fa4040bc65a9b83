"""The state of a run: one dataclass is all that a checkpoint holds."""

from dataclasses import dataclass

import torch
from torch import nn

from snrise.config import Training
from snrise.experiment import Experiment
from snrise.training.ema import Ema, Power

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

    @classmethod
    def of(cls, experiment: Experiment) -> "TrainState":
        """An experiment at its beginning. It trains the experiment's own network, in place."""
        return cls.begun(experiment, experiment.network)

    @classmethod
    def begun(cls, how: Training, network: nn.Module) -> "TrainState":
        """A network at the beginning of its training."""
        optimizer = how.optimizer(
            network, betas=how.betas, weight_decay=how.weight_decay, precision=how.precision
        )
        powers = tuple(Ema(network, Power(width)) for width in how.averages)
        return cls(network=network, ema=Ema(network, how.ema_half_life), optimizer=optimizer, powers=powers)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device
