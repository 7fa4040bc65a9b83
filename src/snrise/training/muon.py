"""Muon: momentum steps whose matrices are made orthogonal. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snrise._errors import require
from snrise.training.adamw import AdamW, in_memory_order

__all__ = ["Muon", "orthogonalized"]

#: Coefficients of the quintic iteration that drives all singular values towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix with singular values near 1 (0.7 to 1.2), by Newton-Schulz steps in bfloat16: [m n].

    >>> torch.manual_seed(0) and orthogonalized(torch.randn(8, 32)).float().svd().S.max().item() < 1.3
    True
    """
    a, b, c = QUINTIC
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(AdamW):
    """Muon for the parameter groups with `"muon": True`, AdamW for the others, as one optimizer.

    A Muon step is Nesterov momentum, orthogonalized: lr·√max(1, rows/columns) times a matrix near orthogonal, whatever
    the gradient's size. A convolution's kernel counts as a matrix [out, rest].
    """

    def __init__(self, params: Any, *, momentum: float = 0.95, **adamw: Any) -> None:
        require(0 <= momentum < 1, "Muon.momentum", momentum, "a number in [0, 1)")
        self.momentum = momentum
        super().__init__(params, **adamw)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step along the gradients that are there; those of Muon's groups are used up by it."""
        for group in self.param_groups:
            for p in group["params"] if group.get("muon") else ():
                if p.grad is not None:
                    self._update(p, group)
                    p.grad = None
        super().step(closure)

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(p)}
        state["step"] += 1
        weight, grad, momentum = map(in_memory_order, (p, p.grad, state["momentum"]))
        momentum.lerp_(grad, 1 - self.momentum)
        update = orthogonalized(grad.lerp(momentum, self.momentum).reshape(len(p), -1))
        scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.reshape(weight.shape).to(p.dtype), alpha=-group["lr"] * scale)
