"""The kernel distance between two sets of features: unbiased at any number of samples."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from snrise._errors import require

__all__ = ["KernelDistance", "kernel_distance"]


class KernelDistance(NamedTuple):
    """Squared maximum mean discrepancy and its standard error."""

    value: float
    standard_error: float


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], degree: int = 3) -> KernelDistance:
    r"""Unbiased MMD² with the kernel (x·y/d + 1)^degree, in float64; Bińkowski et al. 2018 (KID), sec. 4.

    The standard error is that of the two sample means of the witness function, mean k(·, a) − mean k(·, b): the leading
    term when the sets differ.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> a, b = (torch.randn(500, 8, generator=g) for _ in range(2))
    >>> value, error = kernel_distance(a, b)
    >>> abs(value) < 3 * error
    True
    """
    for name, features in (("a", a), ("b", b)):
        require(len(features) >= 2, f"kernel_distance.{name}", f"{len(features)} samples", "2 or more")
    x, y = a.double(), b.double()
    kxx, kyy, kxy = ((p @ q.T / p.shape[1] + 1) ** degree for p, q in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within_x = (kxx.sum(dim=1) - kxx.diagonal()) / (n - 1)
    within_y = (kyy.sum(dim=1) - kyy.diagonal()) / (m - 1)
    value = within_x.mean() + within_y.mean() - 2 * kxy.mean()
    witness_x, witness_y = within_x - kxy.mean(dim=1), within_y - kxy.mean(dim=0)
    variance = 4 * (witness_x.var() / n + witness_y.var() / m)
    return KernelDistance(value.item(), variance.sqrt().item())
