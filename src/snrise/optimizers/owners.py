"""Tensors in shards that are computed with whole: each at its owner, one of the processes."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from snrise.sharding import Rows, rows

__all__ = ["at_owners", "dealt"]


def dealt(costs: Sequence[float], size: int) -> list[int]:
    """The owner of each of several tasks, one of `size`: the dearest first, each to who has the least to do.

    >>> dealt([1, 5, 2, 2], size=2)
    [1, 0, 1, 1]
    """
    loads, owners = [0.0] * size, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = min(range(size), key=lambda owner: loads[owner])
        loads[owners[task]] += costs[task]
    return owners


def at_owners(
    tensors: Sequence[Rows], owners: Sequence[int], compute: Callable[[list[Tensor]], list[Tensor]],
    group: dist.ProcessGroup,
) -> list[Tensor]:
    """This process's rows of what `compute` makes, of the same shapes, of the whole tensors that a process owns.

    Every process of the group gives its rows of all tensors, in the same order, and of one dtype.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    mine = [t for t, owner in zip(tensors, owners, strict=True) if owner == rank]
    counts = [[rows(t.shape[0], source, size) for t in mine] for source in range(size)]
    sent = [[t.own.reshape(-1) for t, owner in zip(tensors, owners, strict=True) if owner == to] for to in range(size)]
    like = tensors[0].own
    found = _exchanged([torch.cat([*parts, like.new_empty(0)]) for parts in sent], [
        sum(_numel(t, part) for t, part in zip(mine, parts, strict=True)) for parts in counts
    ], group)
    pieces = [
        torch.split(flat, [_numel(t, part) for t, part in zip(mine, parts, strict=True)])
        for flat, parts in zip(found, counts, strict=True)
    ]
    wholes = [torch.cat(own).view(t.shape) for t, own in zip(mine, zip(*pieces, strict=True), strict=True)]
    made = compute(wholes) if wholes else []
    back = _exchanged([
        torch.cat([*(whole[part].reshape(-1) for whole, part in zip(made, parts, strict=True)), like.new_empty(0)])
        for parts in counts
    ], [sum(part.numel() for part in parts) for parts in sent], group)
    handed = [iter(torch.split(flat, [part.numel() for part in parts])) for flat, parts in zip(back, sent, strict=True)]
    return [next(handed[owner]).view_as(t.own) for t, owner in zip(tensors, owners, strict=True)]


def _numel(tensor: Rows, part: slice) -> int:
    """The elements in some rows."""
    columns: int = math.prod(tensor.shape[1:])
    return int(part.stop - part.start) * columns


def _exchanged(sent: list[Tensor], sizes: list[int], group: dist.ProcessGroup) -> tuple[Tensor, ...]:
    """What the others send to this process, of so many elements each; `sent` goes to each of them."""
    got = sent[0].new_empty(sum(sizes))
    dist.all_to_all_single(got, torch.cat(sent), sizes, [len(part) for part in sent], group=group)
    return torch.split(got, sizes)
