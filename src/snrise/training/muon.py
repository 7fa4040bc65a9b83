"""Muon: momentum steps whose matrices are made orthogonal. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snrise._errors import require
from snrise.training.adamw import AdamW, in_memory_order
from snrise.training.precision import Precision, product_dtype

__all__ = ["Muon", "orthogonalized"]

#: Coefficients of the quintic iteration that drives all singular values towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
#: From so many times as many columns as rows on, steps are cheaper on Gram matrices.
WIDE = 2


def orthogonalized(matrix: Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> Tensor:
    """About the nearest matrix with singular values near 1 (0.7 to 1.2), by Newton-Schulz steps in a dtype: [m n].

    >>> torch.manual_seed(0) and orthogonalized(torch.randn(8, 32)).svd().S.max().item() < 1.3
    True
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide.to(dtype)
    x = x / (x.norm() + 1e-7)
    # Gram matrices square the singular values: of bfloat16's 8 bits, 4 would be left.
    by_gram = dtype is not torch.bfloat16 and x.shape[1] >= WIDE * x.shape[0]
    x = _polynomial(x @ x.T, steps) @ x if by_gram else _iterated(x, steps)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _iterated(x: Tensor, steps: int) -> Tensor:
    """Steps of x ← (a + bG + cG²) x with G = x xᵀ."""
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(gram: Tensor, steps: int) -> Tensor:
    """The matrix that so many steps multiply x by, of G = x xᵀ alone: all its factors are polynomials of G.

    A step makes S = a + bG + cG², and SGS of G: 8m³ operations, where x itself, [m n], would take 4m²n + 2m³.
    """
    a, b, c = QUINTIC
    whole: Tensor | None = None
    for k in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor if whole is None else factor @ whole
        if k < steps - 1:
            gram = factor @ (gram @ factor)
    return torch.eye(len(gram)).to(gram) if whole is None else whole


class Muon(AdamW):
    """Muon for the parameter groups with `"muon": True`, AdamW for the others, as one optimizer.

    A Muon step is Nesterov momentum, orthogonalized: lr·√max(1, rows/columns) times a matrix near orthogonal, whatever
    the gradient's size. A convolution's kernel counts as a matrix [out, rest]. `precision` is that of its products.
    """

    def __init__(
        self, params: Any, *, momentum: float = 0.95, precision: Precision = Precision.AUTO, **adamw: Any
    ) -> None:
        require(0 <= momentum < 1, "Muon.momentum", momentum, "a number in [0, 1)")
        self.momentum, self.precision = momentum, precision
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
        dtype = product_dtype(p.device, self.precision)
        update = orthogonalized(grad.lerp(momentum, self.momentum).reshape(len(p), -1), dtype)
        scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update.reshape(weight.shape).to(p.dtype), alpha=-group["lr"] * scale)
