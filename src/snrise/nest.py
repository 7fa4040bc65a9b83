"""The exact nest: a network at one resolution is the coarse half of one at twice it, or s times.

Let D be average pooling by s, and z = αx + σε at λ. Then Dz = αDx + (σ/s)ε′ with ε′ = sDε white, and z′ = gDz,
g = α(λ′)/α(λ), is a noisy image of the process at λ′ = λ + 2 log s (`pooling`). So what a network says of z′ says what
the pooled prediction at z is, with numbers that depend on λ alone. What pooling takes away are the detail bands of an
orthonormal transform, whose noise is white too; images have little power there, and a network says of them only what
their best linear estimate does not know.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

from torch import Tensor

from snrise._typing import LogSnr
from snrise.pooling import pooled_logsnr
from snrise.process import Target, finite

__all__ = ["Coarse", "Detail", "Link"]


class Coarse(NamedTuple):
    """z′ = gain·Dz is an image of the process at `logsnr`, and the pooled prediction is `of_inner`·p′ + `of_pooled`·Dz.

    p′ is the prediction at z′, and `signal_of_inner`·p′ + `signal_of_seen`·z′ is α′x̂′, the signal that it means. All
    are [b].
    """

    gain: Tensor
    logsnr: Tensor
    of_inner: Tensor
    of_pooled: Tensor
    signal_of_inner: Tensor
    signal_of_seen: Tensor


class Detail(NamedTuple):
    """The prediction of a band is `of_z`·z_b + `of_said`·F; `scale`·z_b has variance 1, `whiten`·z_b noise of 1.

    All are [b …], as the variances are.
    """

    scale: Tensor
    whiten: Tensor
    of_z: Tensor
    of_said: Tensor


@final
@dataclass(frozen=True)
class Link:
    """What a nest needs to know of the target that it is trained for.

    >>> import torch
    >>> from snrise.process import Prediction
    >>> coarse = Link(Target(Prediction.V)).coarse(torch.zeros(1), factor=2)
    >>> [round(value.item(), 4) for value in coarse]
    [1.2649, 1.3863, 0.6325, -0.6, -0.4, 0.8]
    """

    target: Target

    def coarse(self, logsnr: LogSnr, factor: int = 2) -> Coarse:
        r"""How the prediction of a network at λ′ is the pooled one at λ.

        With x = Dx and ε′ as the solution of p′ = c′_x x + c′_ε ε′ and z′ = α′x + σ′ε′ (`Target`), the pooled
        prediction c_x Dx + (c_ε/s) ε′ is p′·(c_ε α′/s − c_x σ′)/D′ + z′·(c_x c′_ε − c_ε c′_x/s)/D′. Of v under the
        variance-preserving process: Dv = (g/s)·v′ − (1 − 1/s²)·α·σ·g²·Dz.
        """
        at = finite(logsnr)
        lower = pooled_logsnr(at, factor)
        process = self.target.process
        gain = (process.log_alpha(lower) - process.log_alpha(at)).exp()
        c_x, c_eps, _, _ = self.target.coefficients(at)
        in_x, in_eps, alpha, sigma = self.target.coefficients(lower)
        determinant = alpha * in_eps - sigma * in_x
        return Coarse(
            gain=gain, logsnr=lower, of_inner=(c_eps * alpha / factor - c_x * sigma) / determinant,
            of_pooled=gain * (c_x * in_eps - c_eps * in_x / factor) / determinant,
            signal_of_inner=-alpha * sigma / determinant, signal_of_seen=alpha * in_eps / determinant,
        )

    def detail(self, logsnr: LogSnr, variances: Tensor) -> Detail:
        r"""How what a network says, F, is the prediction of coefficients with variance s².

        λ [b], s² [bands] or [b bands …]. x̂ = (αs²/Δ)·z + (sσ/√Δ)·F with Δ = α²s² + σ²: the best linear estimate, and
        beside it F of unit scale (Karras et al. 2022, eq. 7, with α). So ε̂ = (σ/Δ)·z − (αs/√Δ)·F, and of v under the
        variance-preserving process v = ασ(1 − s²)/Δ·z − (s/√Δ)·F: finite everywhere, and −F at s = 1.
        """
        coefficients = self.target.coefficients(finite(logsnr))
        c_x, c_eps, alpha, sigma = (c.reshape(-1, *[1] * max(1, variances.ndim - 1)) for c in coefficients)
        variances = variances.to(alpha)
        delta = alpha**2 * variances + sigma**2
        scale = delta.rsqrt()
        return Detail(
            scale=scale, whiten=(1 / sigma).expand_as(scale), of_z=(c_x * alpha * variances + c_eps * sigma) / delta,
            of_said=variances.sqrt() * scale * (c_x * sigma - c_eps * alpha),
        )
