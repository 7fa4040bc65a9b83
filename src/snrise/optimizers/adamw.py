"""AdamW that takes tensors as they lie in memory."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["FusedAdamW", "in_memory_order"]


def in_memory_order(x: Tensor) -> Tensor:
    """A kernel that is channels-last in memory, [o i h w], as the contiguous view [o h w i]; else the tensor itself."""
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return x.permute(0, 2, 3, 1) if last else x


class FusedAdamW(torch.optim.AdamW):
    """PyTorch's AdamW, to the bit. Its fused CPU kernel would copy each channels-last kernel, gradient and average."""

    def _init_group(self, group: dict[str, Any], *lists: Any) -> Any:
        found = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        for tensors in lists:
            if isinstance(tensors, list):
                tensors[:] = map(in_memory_order, tensors)
        return found
