"""What a rank gathers of a network whose parameters are sharded."""

from torch import nn

from snrise.planning.ledger import bytes_of
from snrise.sharding import blocks

__all__ = ["gathered"]


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
