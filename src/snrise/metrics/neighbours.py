"""Nearest neighbours in feature space, and precision, recall, density and coverage by them."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from snrise._errors import require

__all__ = ["Nearest", "Prdc", "nearest", "prdc"]

#: Distances that are held at a time: 64 MB, and a few more of that size.
CHUNK = 2**23
#: Pairs that are subtracted at a time.
PAIRS = 2**13


class Nearest(NamedTuple):
    """Indices and distances of the k nearest neighbours of each feature, nearest first."""

    indices: Int64[Tensor, "n k"]
    distances: Float64[Tensor, "n k"]


class Prdc(NamedTuple):
    """Shares of the samples within the data (precision, density), of the data within the samples (recall, coverage)."""

    precision: float
    recall: float
    density: float
    coverage: float


def nearest(features: Float[Tensor, "n d"], references: Float[Tensor, "m d"], k: int = 1) -> Nearest:
    """The k references nearest to each feature, by Euclidean distance in float64; ties are broken arbitrarily.

    >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[4.0], [1.0], [9.0]])).indices.flatten().tolist()
    [1, 0]
    """
    require(1 <= k <= len(references), "nearest.k", k, f"a whole number from 1 to the {len(references)} references")
    indices, squares = _nearest(features.double(), references.double(), k)
    return Nearest(indices, squares.sqrt())


def prdc(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 5) -> Prdc:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020), of samples `fake`.

    A feature's ball reaches to its k-th nearest neighbour in its own set. Precision is the share of samples within a
    ball of the data, recall that of the data within a ball of the samples; density counts the balls of the data that a
    sample is in, over k; coverage is the share of the data with a sample in its ball. A sample on the edge is in.

    Kynkäänniemi et al. take k = 3 for precision and recall, Naeem et al. k = 5 for all four.

    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = (torch.randn(300, 2, generator=g) for _ in range(2))
    >>> all(share > 0.8 for share in prdc(a, b)), prdc(a, b + 100)
    (True, Prdc(precision=0.0, recall=0.0, density=0.0, coverage=0.0))
    """
    require(k >= 1, "prdc.k", k, "a whole number above 0")
    for name, features in (("real", real), ("fake", fake)):
        require(len(features) > k, f"prdc.{name}", f"{len(features)} samples", f"more than k={k}")
    x, y = fake.double(), real.double()
    # The nearest of a set to one of its own is that one itself, or an equal.
    x_limit, y_limit = (_nearest(points, points, k + 1)[1][:, k] for points in (x, y))
    balls, precise = 0, 0
    covered, recalled = (torch.zeros(len(y), dtype=torch.bool, device=y.device) for _ in range(2))
    for rows, squares in _squares(x, y):
        in_real = _within(squares, y_limit.expand_as(squares), x[rows], y)
        balls += int(in_real.sum())
        precise += int(in_real.any(dim=1).sum())
        covered |= in_real.any(dim=0)
        recalled |= _within(squares, x_limit[rows, None].expand_as(squares), x[rows], y).any(dim=0)
    n, m = len(y), len(x)
    return Prdc(precise / m, int(recalled.sum()) / n, balls / (k * m), int(covered.sum()) / n)


def _nearest(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], k: int
) -> tuple[Int64[Tensor, "n k"], Float64[Tensor, "n k"]]:
    """The k of y that are nearest to each x, and their squared distances, nearest first."""
    close = torch.cat([squares.topk(k, dim=1, largest=False).indices for _, squares in _squares(x, y)])
    pairs = torch.arange(len(x), device=x.device).repeat_interleave(k), close.flatten()
    order = _measured(x, y, *pairs).reshape(close.shape).sort(dim=1)
    return close.gather(1, order.indices), order.values


def _squares(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Iterator[tuple[slice, Float64[Tensor, "_ m"]]]:
    """Squared distances, some rows at a time, by ‖x‖² + ‖y‖² − 2x·y: ten times as fast as differences, but rounded."""
    step, own = max(1, CHUNK // len(y)), y.square().sum(dim=1)
    for first in range(0, len(x), step):
        rows = slice(first, first + step)
        yield rows, torch.addmm(x[rows].square().sum(dim=1, keepdim=True) + own, x[rows], y.T, alpha=-2)


def _within(
    squares: Float64[Tensor, "n m"], limits: Float64[Tensor, "n m"], x: Float64[Tensor, "n d"],
    y: Float64[Tensor, "m d"],
) -> Bool[Tensor, "n m"]:
    """Whether ‖x − y‖² is at most its limit; where rounding may decide, and for equal features, by the difference."""
    inside = squares <= limits
    largest = torch.maximum(x.square().sum(dim=1).max(), y.square().sum(dim=1).max())
    rounding = 4 * x.shape[1] * torch.finfo(torch.float64).eps * largest
    i, j = ((squares - limits).abs() <= rounding).nonzero(as_tuple=True)
    inside[i, j] = _measured(x, y, i, j) <= limits[i, j]
    return inside


def _measured(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], i: Int64[Tensor, " k"], j: Int64[Tensor, " k"]
) -> Float64[Tensor, " k"]:
    """‖x_i − y_j‖² of pairs, to the last digits; the same for x and y in turn."""
    parts = zip(torch.split(i, PAIRS), torch.split(j, PAIRS), strict=True)
    return torch.cat([(x[p] - y[q]).square().sum(dim=1) for p, q in parts])
