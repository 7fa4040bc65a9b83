"""Moving averages of the weights: exponential, with a half-life in images, and of a power of the images seen."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import final

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise.config import WIDEST
from snrise.networks.cost import copied
from snrise.sharding import is_sharded, local, reshard

__all__ = ["Ema", "decay"]

#: Early on the half-life is at most this share of the images seen, so that the start is forgotten. Karras et al. 2024.
RAMP = 0.05


def decay(half_life: float, images_seen: int, batch: int) -> float:
    """The factor of the average in a step, ½^(batch/half-life); the half-life grows to its value with the images seen.

    >>> decay(half_life=1000, images_seen=10**6, batch=1000)
    0.5
    """
    half_life = min(half_life, RAMP * images_seen)
    return 0.0 if half_life <= 0 else 0.5 ** (batch / half_life)


@final
@dataclass(frozen=True)
class Power:
    """The average of θ(τ) weighted by τ^γ, τ the images seen: of constant width relative to the images so far.

    `width` is its standard deviation in τ over the images seen, σ_rel = √(γ+1)/((γ+2)√(γ+3)). Called with the images
    seen and those of a step, it gives the factor of the average in the step, (1 − batch/seen)^(γ+1). Karras et al. 2024
    (arXiv 2312.02696), eq. 2 to 4, 126 and 127.

    >>> round(Power(0.1).gamma, 2), round(Power(0.1)(images_seen=1000, batch=10), 3)
    (6.94, 0.923)
    """

    width: float

    def __post_init__(self) -> None:
        require(0 < self.width < WIDEST, "Power.width", self.width, f"a number above 0, below {WIDEST:.3f}")

    @cached_property
    def gamma(self) -> float:
        """The exponent: the largest root of γ³ + 7γ² + (16 − σ⁻²)γ + 12 − σ⁻², by bisection."""
        low, high = 0.0, self.width**-2
        for _ in range(200):
            gamma = (low + high) / 2
            wide = (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5) > self.width
            low, high = (gamma, high) if wide else (low, gamma)
        return high

    def __call__(self, images_seen: int, batch: int) -> float:
        return float(max(0.0, 1 - batch / max(1, images_seen)) ** (self.gamma + 1))


class Ema:
    """A moving average of a network's parameters, in float32 whatever the parameters are in.

    Exponential with a half-life in images, or a `Power`, which averages the trainable parameters alone.
    """

    def __init__(self, network: nn.Module, half_life: float | Power) -> None:
        self.half_life = half_life
        self.keeps: Callable[[int, int], float]
        if isinstance(half_life, Power):
            self.keeps = half_life
            self.parameters = {n: p.detach().float().clone() for n, p in network.named_parameters() if p.requires_grad}
            return
        require(half_life >= 0, "Ema.half_life", half_life, "a number of images, 0 (no average) or more")
        self.keeps = partial(decay, half_life)
        self.parameters = {name: p.detach().float().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, batch: int) -> None:
        """Update the average after a step of `batch` images."""
        current = [local(p).float() for name, p in network.named_parameters() if name in self.parameters]
        own = [local(average) for average in self.parameters.values()]
        torch._foreach_lerp_(own, current, 1 - self.keeps(images_seen, batch))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load a saved average."""
        for name, mine in self.parameters.items():
            mine.copy_(tensors[name])

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[nn.Module]:
        """Context manager: the network with the averaged weights.

        A copy of it: see `averaged`. Of one in shards, itself, which has its own weights again on exit.
        """
        if not is_sharded(network):
            yield self.averaged(network)
            return
        pairs = [(local(p), local(self.parameters[name])) for name, p in network.named_parameters()]
        kept = [own.clone() for own, _ in pairs]
        try:
            for own, average in pairs:
                own.copy_(average)
            yield network
        finally:
            reshard(network)
            for (own, _), before in zip(pairs, kept, strict=True):
                own.copy_(before)

    def averaged(self, network: nn.Module) -> nn.Module:
        """A copy of the network with the averaged weights, whose memory it shares where the dtypes agree.

        Its buffers are the network's own; the network does not change.
        """
        own = dict(network.named_parameters())
        averages = {id(own[name]): average.to(own[name].dtype) for name, average in self.parameters.items()}
        return copied(network, lambda tensor: averages.get(id(tensor), tensor)).requires_grad_(False)
