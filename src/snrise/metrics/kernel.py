"""The kernel distance between two sets of features: unbiased at any number of samples."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from snrise._errors import require
from snrise.metrics.estimates import Estimate

__all__ = ["kernel_distance"]

#: Samples of either set at a time: at most a few kernel matrices of CHUNK × CHUNK, 32 MB each, are in memory.
CHUNK = 2048


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], degree: int = 3) -> Estimate:
    r"""Unbiased MMD² with the kernel (x·y/d + 1)^degree, in float64; Bińkowski et al. 2018 (KID), sec. 4.

    The standard error is that of the two sample means of the witness function, mean k(·, a) − mean k(·, b): the leading
    term when the sets differ. All pairs are used, block by block: memory grows with n + m.

    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = (torch.randn(500, 8, generator=g) for _ in range(2))
    >>> value, error = kernel_distance(a, b)
    >>> abs(value) < 3 * error
    True
    """
    for name, features in (("a", a), ("b", b)):
        require(len(features) >= 2, f"kernel_distance.{name}", f"{len(features)} samples", "2 or more")
    x, y = a.double(), b.double()
    n, m = len(x), len(y)
    within_x, within_y = ((_sums(p, p, degree)[0] - _own(p, degree)) / (len(p) - 1) for p in (x, y))
    over_y, over_x = _sums(x, y, degree)
    value = within_x.mean() + within_y.mean() - 2 * over_y.mean() / m
    witness_x, witness_y = within_x - over_y / m, within_y - over_x / n
    variance = 4 * (witness_x.var() / n + witness_y.var() / m)
    return Estimate(value.item(), variance.sqrt().item())


def _sums(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"], degree: int
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " m"]]:
    """Sums of the kernel over y for each x, and over x for each y."""
    over_y, over_x = x.new_zeros(len(x)), x.new_zeros(len(y))
    for p, of_p in zip(torch.split(x, CHUNK), torch.split(over_y, CHUNK), strict=True):
        for q, of_q in zip(torch.split(y, CHUNK), torch.split(over_x, CHUNK), strict=True):
            kernel = (p @ q.T / p.shape[1] + 1) ** degree
            of_p += kernel.sum(dim=1)
            of_q += kernel.sum(dim=0)
    return over_y, over_x


def _own(x: Float64[Tensor, "n d"], degree: int) -> Float64[Tensor, " n"]:
    """The kernel of each x with itself."""
    return (x.square().mean(dim=1) + 1) ** degree
