"""Average pooling, and what it does to the SNR of an image: D_s, s²·SNR, and the power of real images per scale."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from snrise._errors import invalid, require
from snrise._typing import Images, Scalars, Size

__all__ = ["SignalPower", "factors_for", "pool", "pooled_logsnr", "signal_power"]


def pool(images: Images, factor: int) -> Float[Tensor, "b c h//{factor} w//{factor}"]:
    """D_s: the mean of each factor×factor square, [b c h w] -> [b c h/factor w/factor]. Linear; cov(D_s ε) = I/s².

    Su 2024, §4.1, §4.3. Both sides must be multiples of the factor.
    """
    require(factor >= 1, "pool.factor", factor, "a whole number above 0")
    height, width = images.shape[-2:]
    if height % factor or width % factor:
        raise invalid("pool.factor", factor, f"a common divisor of {height} and {width}",
                      f"largest that fits: {math.gcd(height, width)}")
    return images if factor == 1 else avg_pool2d(images, factor)


def pooled_logsnr(logsnr: Scalars, factor: float, power_ratio: float = 1.0) -> Scalars:
    """Log-SNR of D_s z: λ + 2 log s + log(power of D_s x / power of x); Su 2024, §4.4.

    A ratio of 1 is the text's "ignoring signal strength"; `signal_power` measures it on images.

    >>> pooled_logsnr(torch.tensor([0.0]), factor=8)
    tensor([4.1589])
    """
    require(factor > 0, "pooled_logsnr.factor", factor, "a number above 0")
    require(power_ratio > 0, "pooled_logsnr.power_ratio", power_ratio, "a number above 0")
    return logsnr + (2 * math.log(factor) + math.log(power_ratio))


def factors_for(image: Size, smallest: int = 32) -> tuple[int, ...]:
    """1, 2, 4, … until the pooled short side is `smallest`, as long as both sides divide.

    Hoogeboom et al. 2023, sec. 3.3.

    >>> factors_for((256, 512))
    (1, 2, 4, 8)
    """
    factors = [1]
    while min(image) // (2 * factors[-1]) >= smallest and all(side % (2 * factors[-1]) == 0 for side in image):
        factors.append(2 * factors[-1])
    return tuple(factors)


@dataclass(frozen=True, kw_only=True)
class SignalPower:
    """Mean square of pooled images per factor, about 0 and about each channel's mean over the data set.

    `power[i]` and `variance[i]` belong to `factors[i]`; the ratios are to the first factor, 1.
    """

    factors: tuple[int, ...]
    images: int
    power: tuple[float, ...]
    variance: tuple[float, ...]

    @property
    def power_ratio(self) -> tuple[float, ...]:
        """Power of D_s x / power of x."""
        return _ratios(self.power)

    @property
    def variance_ratio(self) -> tuple[float, ...]:
        """The same about the data's mean colour: the part of the images' variation that survives pooling."""
        return _ratios(self.variance)

    def __str__(self) -> str:
        rows = [f"signal power of {self.images} images", "  pooled by   SNR by s²   power left   variation left"]
        for s, p, v in zip(self.factors, self.power_ratio, self.variance_ratio, strict=True):
            rows.append(f"  {s:>9}   {s * s:>9}   {p:>10.3f}   {v:>14.3f}")
        return "\n".join(rows)


def _ratios(values: tuple[float, ...]) -> tuple[float, ...]:
    """Each value over the first; nan where the images have none to share (black, or all of one colour)."""
    return tuple(value / values[0] if values[0] > 0 else math.nan for value in values)


def signal_power(batches: Iterable[Float[Tensor, "_ c h w"]], factors: Sequence[int]) -> SignalPower:
    """Measure the power of D_s x for every factor on batches of images in [−1, 1], all of one size; in float64.

    >>> signal_power([torch.ones(4, 3, 8, 8)], factors=(1, 2)).power
    (1.0, 1.0)
    """
    factors = (1, *(s for s in factors if s != 1))
    squares = torch.zeros(len(factors), dtype=torch.float64)
    sums: Tensor | None = None
    count = 0
    for batch in batches:
        images = batch.double()
        count += images.shape[0]
        total = images.mean(dim=(2, 3)).sum(dim=0)
        sums = total if sums is None else sums + total
        for i, factor in enumerate(factors):
            squares[i] += pool(images, factor).square().mean(dim=(1, 2, 3)).sum().cpu()
    if sums is None:
        raise invalid("signal_power.batches", "no images", "one batch or more")
    power = squares / count
    mean_square = (sums / count).square().mean().cpu()
    return SignalPower(factors=factors, images=count, power=tuple(power.tolist()),
                       variance=tuple((power - mean_square).tolist()))
