"""Fault detection: where a NaN came from, and which losses are spikes."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from snrise.sharding import local

__all__ = ["Spikes", "first_nonfinite", "nonfinite_gradient", "nonfinite_weight"]


def nonfinite_weight(network: nn.Module) -> str | None:
    """The first parameter that is not finite; of a network in shards, in this process's rows."""
    return next((f"weight {name}" for name, p in network.named_parameters() if not _finite(local(p))), None)


def nonfinite_gradient(network: nn.Module) -> str | None:
    """The first gradient that is not finite, as `nonfinite_weight`; of a network in shards it is of all processes."""
    given = ((name, p.grad) for name, p in network.named_parameters() if p.grad is not None)
    return next((f"gradient of {name}" for name, grad in given if not _finite(local(grad))), None)


def first_nonfinite(network: nn.Module, run: Callable[[], Any]) -> str | None:
    """Where the first NaN or infinity arises while `run` calls the network and, perhaps, backpropagates.

    The first module to finish with a non-finite output, else the first gradient of a parameter; the names are those of
    `named_modules` and `named_parameters`. None if all of them are finite. Gradients in shards are not seen: see
    `nonfinite_gradient`.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> first_nonfinite(network, lambda: network(torch.tensor([[1.0, torch.inf]])))
    'output of 0 (Linear)'
    """
    places: list[str] = []

    def output(place: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, result: None if places or _finite(result) else places.append(place)

    def gradient(place: str) -> Callable[[Tensor], None]:
        return lambda grad: None if places or _finite(grad) else places.append(place)

    handles = [
        m.register_forward_hook(output(f"output of {name or 'the network'} ({type(m).__name__})"))
        for name, m in network.named_modules()
    ]
    handles += [
        p.register_hook(gradient(f"gradient of {name}"))  # type: ignore[no-untyped-call]
        for name, p in network.named_parameters() if p.requires_grad
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return places[0] if places else None


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return all(map(_finite, value)) if isinstance(value, tuple | list) else True


@dataclass
class Spikes:
    """Detects a loss more than `deviations` standard deviations above the mean of about the last `memory` losses.

    >>> spikes = Spikes()
    >>> any(spikes(1 + 0.1 * (i % 2)) for i in range(100)), spikes(2.0)
    (False, True)
    """

    mean: float = 0.0
    variance: float = 0.0
    steps: int = 0
    memory: int = 200
    deviations: float = 8.0
    warmup: int = 50

    def __call__(self, loss: float) -> bool:
        """Whether this loss is a spike; if so, it enters the mean clipped."""
        self.steps += 1
        limit = self.mean + self.deviations * math.sqrt(self.variance)
        spike = self.steps > self.warmup and loss > limit
        share = max(1 / self.steps, 1 / self.memory)
        step = (min(loss, limit) if self.steps > self.warmup else loss) - self.mean
        self.mean += share * step
        self.variance = (1 - share) * (self.variance + share * step * step)
        return spike

    def state(self) -> dict[str, Any]:
        """All numbers, as a checkpoint keeps them."""
        return asdict(self)
