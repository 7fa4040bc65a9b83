"""A network in shards: each process of a group holds some rows of every parameter. By FSDP2 of PyTorch.

A parameter is a DTensor then, as are its gradient, its average and its moments; their rows are dealt out by the first
dimension, ⌈n/size⌉ to a process. What is computed by elements is computed on the `local` rows.
"""

import math
import sys
from itertools import islice
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Rows", "blocks", "group_of", "in_shards", "is_sharded", "local", "reshard", "rows", "shard"]


def blocks(network: nn.Module) -> list[nn.Module]:
    """The members of the innermost lists of modules, each of which is gathered by itself while it computes.

    >>> network = nn.Sequential(nn.ModuleList([nn.Linear(2, 2), nn.ModuleList([nn.Linear(3, 3)])]), nn.Linear(4, 4))
    >>> blocks(network)
    [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=3, out_features=3, bias=True)]
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return [block for each in lists for block in each if not any(len(inner) for inner in _lists(block))]


def shard(network: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Divide a network's parameters among the processes of the default group, in place: call it in all of them.

    A block is gathered whole before it computes and freed after; what belongs to no block is kept from the forward to
    the backward pass. Gradients are averaged over the processes, in float32. With `dtype`, parameters are gathered in
    it: autocast would cast them to it anyway.

    Kernels that are channels-last in memory become contiguous, since FSDP2 shards no others.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    with torch.no_grad():
        for p in network.parameters():
            p.data = p.data.contiguous()
    for module in (*blocks(network), network):
        fully_shard(module, mp_policy=policy)


def is_sharded(network: nn.Module) -> bool:
    """Whether a network's parameters are in shards: all of them, or none."""
    return any(map(in_shards, islice(network.parameters(), 1)))


def in_shards(tensor: Tensor) -> bool:
    """Whether a tensor is in shards."""
    # Its type takes a second to import; where it is not imported, there is none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def group_of(tensor: Tensor) -> dist.ProcessGroup:
    """The processes that share a tensor in shards."""
    group: dist.ProcessGroup = tensor.device_mesh.get_group()  # type: ignore[attr-defined]
    return group


def reshard(network: nn.Module) -> None:
    """Free what is gathered of a network in shards, so that it is gathered anew: after inference, before a change."""
    for module in network.modules():
        if callable(free := getattr(module, "reshard", None)):
            free()


def local(tensor: Tensor) -> Tensor:
    """The rows of a sharded tensor that this process holds, sharing its memory; any other tensor itself.

    >>> local(torch.ones(3))
    tensor([1., 1., 1.])
    """
    if not in_shards(tensor):
        return tensor
    with torch.no_grad():
        rows: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return rows


def rows(count: int, rank: int, size: int) -> slice:
    """Which of `count` rows are those of process `rank` of `size`; none for the last ones if there are too few.

    >>> [rows(5, rank, 4) for rank in range(4)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None), slice(5, 5, None)]
    """
    each = -(-count // size)
    return slice(min(rank * each, count), min((rank + 1) * each, count))


class Rows(NamedTuple):
    """What a process holds of a tensor, rows or all of it, and the shape of the whole."""

    own: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Rows":
        """Those of a tensor, which may be in shards; they share its memory."""
        return cls(local(tensor).detach(), tuple(tensor.shape))

    @property
    def nbytes(self) -> int:
        """The bytes of the whole."""
        return math.prod(self.shape) * self.own.element_size()


def _lists(module: nn.Module) -> list[nn.ModuleList]:
    return [inner for inner in module.modules() if isinstance(inner, nn.ModuleList)]
