"""The training state: one dataclass, all of which a checkpoint holds."""

from dataclasses import dataclass

import torch
from torch import nn

from snrise.config import Optimisation, Training
from snrise.experiment import Experiment
from snrise.training.ema import Ema, Power

__all__ = ["TrainState", "optimizer_of"]


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
        powers = tuple(Ema(network, Power(width)) for width in training.averages)
        average = Ema(network, training.ema_half_life)
        return cls(network=network, ema=average, optimizer=optimizer_of(training, network), powers=powers)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step; a group of parameters may have a multiple of it, its `lr_scale`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)


def optimizer_of(training: Optimisation, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the settings name, of a network's parameters."""
    return training.optimizer(
        network, betas=training.betas, weight_decay=training.weight_decay, precision=training.precision
    )
