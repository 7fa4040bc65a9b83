"""What an optimizer is, and the parameter groups that all of them make."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from snrise._errors import require
from snrise.precision import Precision


@runtime_checkable
class Optimizer(Protocol):
    """A frozen dataclass: a network -> PyTorch's optimizer of the parameters that are not frozen.

    The learning rate is set before each step: a group's `lr` to the rate times its `lr_scale`.
    """

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer: ...


def trained(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that are not frozen."""
    return (p for p in network.parameters() if p.requires_grad)


def groups(
    parameters: Iterable[nn.Parameter], betas: tuple[float, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Matrices and kernels with weight decay, vectors without."""
    for name, beta in zip(("betas[0]", "betas[1]"), betas, strict=True):
        require(0 <= beta < 1, f"optimizer.{name}", beta, "a number in [0, 1)")
    require(weight_decay >= 0, "optimizer.weight_decay", weight_decay, "a number, 0 or more")
    parameters = list(parameters)
    matrices, vectors = ([p for p in parameters if (p.ndim >= 2) is many] for many in (True, False))
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
