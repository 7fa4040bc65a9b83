"""The optimizers, with a group of parameters for each that is treated differently."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from snrise._errors import invalid, require
from snrise.cpu import FusedAdamW
from snrise.networks.base import Traits
from snrise.optimizers.muon import MuonAndAdamW
from snrise.precision import Precision

__all__ = ["adamw", "muon"]


def adamw(
    network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), eps: float = 1e-12, weight_decay: float = 0.0
) -> FusedAdamW:
    """AdamW, fused; weight decay on matrices and kernels only. Betas and eps of Hoogeboom et al. 2023.

    The learning rate is set anew before each step.
    """
    groups = _groups(_trained(network), betas, weight_decay)
    return FusedAdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def _trained(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that are not frozen."""
    return (p for p in network.parameters() if p.requires_grad)


def _groups(
    parameters: Iterable[nn.Parameter], betas: tuple[float, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Matrices and kernels with weight decay, vectors without."""
    for name, beta in zip(("betas[0]", "betas[1]"), betas, strict=True):
        require(0 <= beta < 1, f"adamw.{name}", beta, "a number in [0, 1)")
    require(weight_decay >= 0, "adamw.weight_decay", weight_decay, "a number, 0 or more")
    parameters = list(parameters)
    matrices, vectors = ([p for p in parameters if (p.ndim >= 2) is many] for many in (True, False))
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def muon(
    network: nn.Module, *, scale: float = 20.0, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
    precision: Precision = Precision.AUTO,
) -> MuonAndAdamW:
    """Muon on the matrices and kernels within the network, at `scale` times the learning rate; AdamW on the rest.

    What the network calls its `edges` is left to AdamW, as are vectors.

    Raises:
        SnriseError: for a network that does not say which of its parameters are edges.
    """
    require(scale > 0, "muon.scale", scale, "a number above 0")
    edges = Traits(network).edges
    if edges is None:
        raise invalid(
            "muon.network", type(network).__name__, "a network with the attribute `edges`: the names of the parameters "
            "where image, λ and class enter, and where the image leaves", "add it, frozenset() for none, or use adamw",
        )
    inner = [p for name, p in network.named_parameters() if p.requires_grad and p.ndim >= 2 and name not in edges]
    chosen = {id(p) for p in inner}
    rest = _groups((p for p in _trained(network) if id(p) not in chosen), betas, weight_decay)
    first = {"params": inner, "weight_decay": weight_decay, "muon": True, "lr_scale": scale}
    return MuonAndAdamW([first, *rest], lr=0.0, betas=betas, eps=1e-12, fused=True, precision=precision)
