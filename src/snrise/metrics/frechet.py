"""The Fréchet distance between Gaussians fitted to two sets of features."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from snrise._errors import invalid, require

__all__ = ["Moments", "frechet", "frechet_caution"]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Mean [d] and covariance [d d] of `count` features in float64, the covariance as RᵀR with `factor` R [r d]."""

    mean: Float64[Tensor, " d"]
    factor: Float64[Tensor, "r d"]
    count: int

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Moments":
        """Those of features [n d]; for n > d the factor is reduced to [d d] by QR.

        Raises:
            SnriseError: for fewer than two features, or one that is not finite.
        """
        require(len(features) >= 2, "frechet", f"{len(features)} samples", "2 or more")
        if not bool(features.isfinite().all()):
            raise invalid("frechet", "features that are not finite", "finite numbers")
        x = features.double()
        mean = x.mean(dim=0)
        centred = (x - mean) / (len(x) - 1) ** 0.5
        factor = torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred
        return cls(mean=mean, factor=factor, count=len(x))


def frechet(a: Float[Tensor, "n d"] | Moments, b: Float[Tensor, "m d"] | Moments) -> float:
    r"""‖m_a − m_b‖² + tr(S_a + S_b − 2(S_a S_b)^½) in float64; Dowson and Landau 1982, Heusel et al. 2017 (FID).

    With S = RᵀR the eigenvalues of S_a S_b are the squares of the singular values of R_a R_bᵀ, so that no product of
    covariances is formed, which would lose half of the digits; covariances may be singular.

    >>> import torch
    >>> a = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    >>> round(frechet(a, a + 1), 6)
    4.0
    """
    first, second = (x if isinstance(x, Moments) else Moments.of(x) for x in (a, b))
    d, other = len(first.mean), len(second.mean)
    require(d == other, "frechet", f"features of {d} and {other} numbers", "features of the same kind")
    traces = first.factor.square().sum() + second.factor.square().sum()
    shared = torch.linalg.svdvals(first.factor @ second.factor.T).sum()
    return float((first.mean - second.mean).square().sum() + traces - 2 * shared)


def frechet_caution(n: int, m: int, d: int) -> str | None:
    """A warning about the Fréchet distance of n and m features of d numbers; None if there are enough.

    >>> print(frechet_caution(500, 2000, 1280))
    Fréchet distance: 500 samples for 1,280 dimensions are few: it is biased upwards; trust the kernel distance
    """
    fewest = min(n, m)
    if fewest > d:
        return None
    few = f"{fewest:,} samples for {d:,} dimensions are few"
    return f"Fréchet distance: {few}: it is biased upwards; trust the kernel distance"
