"""The training state: one dataclass, all of which a checkpoint holds."""

from dataclasses import dataclass

import torch
from torch import nn

from snrise.config import Training
from snrise.experiment import Experiment
from snrise.training.ema import Ema, Power

__all__ = ["TrainState"]


@dataclass(kw_only=True)
class TrainState:
    """A network with its average and optimizer, and the counts of steps and images.

    Nothing else is needed to resume: noise, dropout and the order of the data are functions of (seed, position).

    powers: averages of other widths, from which `averages` reconstructs those of any; none by default.
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
        """The initial state of an experiment, whose network is trained in place."""
        return cls.begun(experiment, experiment.network)

    @classmethod
    def begun(cls, training: Training, network: nn.Module) -> "TrainState":
        """The initial state of training a network."""
        optimizer = training.optimizer(
            network, betas=training.betas, weight_decay=training.weight_decay, precision=training.precision
        )
        powers = tuple(Ema(network, Power(width)) for width in training.averages)
        return cls(network=network, ema=Ema(network, training.ema_half_life), optimizer=optimizer, powers=powers)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device
