"""Muon: momentum steps whose matrices are made orthogonal. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from snrise._errors import invalid, require
from snrise.cpu import FusedAdamW, in_memory_order
from snrise.networks.base import Traits
from snrise.optimizers.base import groups, trained
from snrise.optimizers.owners import at_owners, dealt
from snrise.precision import Precision, product_dtype
from snrise.sharding import Rows, group_of, in_shards, local

__all__ = ["Muon", "MuonAndAdamW", "orthogonalized"]

#: Coefficients of the quintic iteration that drives all singular values towards 1.
QUINTIC = (3.4445, -4.7750, 2.0315)
#: From so many times as many columns as rows on, steps are cheaper on Gram matrices.
WIDE = 2


def orthogonalized(matrix: Tensor, dtype: torch.dtype = torch.float32, steps: int = 5) -> Tensor:
    """About the nearest matrix with singular values near 1 (0.7 to 1.2), by Newton-Schulz steps in a dtype.

    [m n], or a stack of matrices [k m n].

    >>> torch.manual_seed(0) and orthogonalized(torch.randn(8, 32)).svd().S.max().item() < 1.3
    True
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = (matrix.mT if tall else matrix).to(dtype)
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True) + 1e-7)
    # Gram matrices square the singular values: of bfloat16's 8 bits, 4 would be left.
    by_gram = dtype is not torch.bfloat16 and x.shape[-1] >= WIDE * x.shape[-2]
    x = _polynomial(x @ x.mT, steps) @ x if by_gram else _iterated(x, steps)
    return x.mT if tall else x


def _iterated(x: Tensor, steps: int) -> Tensor:
    """Steps of x ← (a + bG + cG²) x with G = x xᵀ."""
    a, b, c = QUINTIC
    for _ in range(steps):
        gram = x @ x.mT
        x = _product(x, _product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(gram: Tensor, steps: int) -> Tensor:
    """The matrix that so many steps multiply x by, of G = x xᵀ alone: all its factors are polynomials of G.

    A step makes S = a + bG + cG², and SGS of G: 8m³ operations, where x itself, [m n], would take 4m²n + 2m³.
    """
    a, b, c = QUINTIC
    whole: Tensor | None = None
    for k in range(steps):
        factor = _product(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        whole = factor if whole is None else factor @ whole
        if k < steps - 1:
            gram = factor @ (gram @ factor)
    return torch.eye(gram.shape[-1]).to(gram) if whole is None else whole


def _product(to: Tensor, a: Tensor, b: Tensor, *, beta: float, alpha: float = 1.0) -> Tensor:
    """beta·to + alpha·ab, of matrices or batches of them."""
    return (torch.addmm if to.ndim == 2 else torch.baddbmm)(to, a, b, beta=beta, alpha=alpha)


def of_one_shape(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """Groups to orthogonalise together: on a GPU, where small products are bound by launches, all of one shape."""
    groups: dict[object, list[Tensor]] = {}
    for p in parameters:
        groups.setdefault((p.device, p.dtype, in_memory_order(p).shape) if p.is_cuda else id(p), []).append(p)
    return list(groups.values())


class MuonAndAdamW(FusedAdamW):
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
            given = [p for p in group["params"] if p.grad is not None] if group.get("muon") else []
            if given and in_shards(given[0]):
                self._update(given, group, partial(_steps_at_owners, given))
                continue
            for parameters in of_one_shape(given):
                self._update(parameters, group, _steps)
        super().step(closure)

    def _update(
        self, parameters: list[Tensor], group: dict[str, Any],
        orthogonalize: Callable[[list[Tensor], torch.dtype], list[Tensor]],
    ) -> None:
        """Step with parameters; of those in shards, with the rows of this process."""
        for p in parameters:
            if not self.state[p]:
                self.state[p] |= {"step": torch.zeros(()), "momentum": torch.zeros_like(p)}
            self.state[p]["step"] += 1
        weights = [in_memory_order(local(p)) for p in parameters]
        grads = [in_memory_order(local(p.grad)) for p in parameters if p.grad is not None]
        momenta = [in_memory_order(local(self.state[p]["momentum"])) for p in parameters]
        torch._foreach_lerp_(momenta, grads, 1 - self.momentum)
        directions = list(torch._foreach_lerp(grads, momenta, self.momentum))
        updates = orthogonalize(directions, product_dtype(weights[0].device, self.precision))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, updates, alpha=-group["lr"])
        for p in parameters:
            p.grad = None


def _steps(directions: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The steps of matrices of one shape, times √max(1, rows/columns); kernels are matrices [out, rest]."""
    matrices = [t.reshape(len(t), -1) for t in directions]
    stacked = matrices[0] if len(matrices) == 1 else torch.stack(matrices)
    rows, columns = stacked.shape[-2:]
    steps = orthogonalized(stacked, dtype).reshape(len(directions), *directions[0].shape).to(directions[0].dtype)
    return list(steps.mul_(max(1.0, rows / columns) ** 0.5).unbind())


def _steps_at_owners(parameters: list[Tensor], directions: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The same of matrices in shards, whole, each at its owner: Liu et al. 2025 (arXiv 2502.16982), sec. 2.3."""
    group = group_of(parameters[0])

    def compute(wholes: list[Tensor]) -> list[Tensor]:
        # Kernels as [o h w i], in the order of memory that they have unsharded, so that products are rounded alike.
        ordered = [t.permute(0, 2, 3, 1).contiguous() if t.ndim == 4 else t for t in wholes]
        made = {id(t): step for alike in of_one_shape(ordered)
                for t, step in zip(alike, _steps(alike, dtype), strict=True)}
        return [made[id(t)].permute(0, 3, 1, 2) if t.ndim == 4 else made[id(t)] for t in ordered]

    shapes = [tuple(p.shape) for p in parameters]
    sides = [(shape[0], math.prod(shape[1:])) for shape in shapes]
    owners = dealt([m * n * min(m, n) for m, n in sides], dist.get_world_size(group))
    return at_owners([Rows(*pair) for pair in zip(directions, shapes, strict=True)], owners, compute, group)


@final
@dataclass(frozen=True, kw_only=True)
class Muon:
    """Muon on the matrices and kernels within the network, at `scale` times the learning rate; AdamW on the rest.

    The network's `edges` are left to AdamW, as are vectors: see `networks.Traits`.

    Raises:
        SnriseError: when called, for a network without `edges`.
    """

    scale: float = 20.0

    def __post_init__(self) -> None:
        require(self.scale > 0, "Muon.scale", self.scale, "a number above 0")

    def __call__(
        self, network: nn.Module, *, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        precision: Precision = Precision.AUTO,
    ) -> torch.optim.Optimizer:
        edges = Traits(network).edges
        if edges is None:
            raise invalid(
                "muon.network", type(network).__name__, "a network with the attribute `edges`: the names of the "
                "parameters where image, λ and class enter, and where the image leaves",
                "add it, frozenset() for none, or use adamw",
            )
        inner = [p for name, p in network.named_parameters() if p.requires_grad and p.ndim >= 2 and name not in edges]
        chosen = {id(p) for p in inner}
        rest = groups((p for p in trained(network) if id(p) not in chosen), betas, weight_decay)
        first = {"params": inner, "weight_decay": weight_decay, "muon": True, "lr_scale": self.scale}
        return MuonAndAdamW([first, *rest], lr=0.0, betas=betas, eps=1e-12, fused=True, precision=precision)
