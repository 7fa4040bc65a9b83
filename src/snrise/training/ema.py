"""An exponential moving average of the weights, with its half-life in images."""

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snrise._errors import require

__all__ = ["Ema", "decay"]

#: Early on the half-life is at most this share of the images seen, so that the start is forgotten. Karras et al. 2024.
RAMP = 0.05


def decay(half_life: float, images_seen: int, batch: int) -> float:
    """What a step keeps of the average: ½^(batch/half-life), the half-life growing to its value with the images seen.

    >>> decay(half_life=1000, images_seen=10**6, batch=1000)
    0.5
    """
    half_life = min(half_life, RAMP * images_seen)
    return 0.0 if half_life <= 0 else 0.5 ** (batch / half_life)


class Ema:
    """The average of a network's parameters beside the network, in float32 whatever the parameters are in."""

    def __init__(self, network: nn.Module, half_life: float) -> None:
        require(half_life >= 0, "Ema.half_life", half_life, "a number of images, 0 (no average) or more")
        self.half_life = half_life
        self.parameters = {name: p.detach().float().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, batch: int) -> None:
        """Take in the weights after a step of `batch` images."""
        current = [p.detach().float() for p in network.parameters()]
        torch._foreach_lerp_(list(self.parameters.values()), current, 1 - decay(self.half_life, images_seen, batch))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the average by saved tensors."""
        for name, mine in self.parameters.items():
            mine.copy_(tensors[name])

    @contextmanager
    def applied_to(self, network: nn.Module) -> Any:
        """The network with the averaged weights, and its own again afterwards."""
        own = {name: p.data for name, p in network.named_parameters()}
        try:
            for name, p in network.named_parameters():
                p.data = self.parameters[name].to(p.dtype)
            yield network
        finally:
            for name, p in network.named_parameters():
                p.data = own[name]
