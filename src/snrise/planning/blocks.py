"""Blocks of a network whose parameters are gathered at a time where they are sharded."""

from torch import nn

from snrise.planning.ledger import bytes_of

__all__ = ["blocks", "gathered"]


def blocks(network: nn.Module) -> list[nn.Module]:
    """The members of the innermost lists of modules, each of which would be gathered by itself.

    >>> network = nn.Sequential(nn.ModuleList([nn.Linear(2, 2), nn.ModuleList([nn.Linear(3, 3)])]), nn.Linear(4, 4))
    >>> blocks(network)
    [Linear(in_features=2, out_features=2, bias=True), Linear(in_features=3, out_features=3, bias=True)]
    """
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return [block for each in lists for block in each if not any(len(inner) for inner in _lists(block))]


def gathered(network: nn.Module) -> int:
    """The most bytes of whole parameters and gradients at a time, where they are sharded.

    The largest block's parameters and gradients, the parameters of another of its size, gathered ahead, and all that
    belongs to no block, which PyTorch keeps from the forward to the backward pass (`reshard_after_forward` of
    `torch.distributed.fsdp.fully_shard`).
    """
    each = blocks(network)
    inside = {id(p) for block in each for p in block.parameters()}
    rest = [p for p in network.parameters() if id(p) not in inside]
    parameters = max((bytes_of(block.parameters()) for block in each), default=0)
    gradients = max((bytes_of(p for p in block.parameters() if p.requires_grad) for block in each), default=0)
    return bytes_of(rest) + bytes_of(p for p in rest if p.requires_grad) + 2 * parameters + gradients


def _lists(module: nn.Module) -> list[nn.ModuleList]:
    return [inner for inner in module.modules() if isinstance(inner, nn.ModuleList)]
