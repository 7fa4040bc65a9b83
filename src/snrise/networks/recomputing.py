"""Activation checkpointing: recomputation instead of memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed"]


def recomputed(block: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The block with only its inputs kept for the backward pass, which recomputes the activations.

    Outputs and gradients are bitwise the same, dropout included: the RNG state is restored.
    Chen et al. 2016, arXiv 1604.06174.

    >>> x = torch.randn(8, requires_grad=True)
    >>> kept = []
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda _: None):
    ...     out = recomputed(lambda x: x.exp().exp().exp())(x)
    >>> sum(kept)
    8
    """

    def run(*inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return block(*inputs)
        out: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        return out

    return run
