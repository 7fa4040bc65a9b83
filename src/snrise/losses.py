"""The denoising loss, at one scale or several."""

from collections.abc import Sequence

import torch
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Images, Labels, LogSnr, Network, PerImage
from snrise.pooling import pool
from snrise.process import Target, diffuse, per_image
from snrise.weightings import Constant, Weighting

__all__ = ["denoising_loss", "multiscale"]


def multiscale(error: Images, factors: Sequence[int] = (1,), weights: Sequence[float] | None = None) -> PerImage:
    r"""Σ_s w_s L_s with L_s the mean over pixels of (D_s error)²: [b c h w], in ε units -> [b].

    Weights default to w_s = s, that is 1/side. Pooling is linear, so the pooled error of any prediction is the error of
    the pooled one. Hoogeboom et al. 2023, sec. 3.3; Su 2024, §6.3, §6.4.

    >>> multiscale(torch.ones(1, 3, 8, 8), factors=(1, 2))
    tensor([3.])
    """
    require(len(factors) >= 1, "multiscale.factors", factors, "one factor or more")
    weights = factors if weights is None else weights
    if len(weights) != len(factors):
        raise invalid("multiscale.weights", f"{len(weights)} weights", f"one for each of the {len(factors)} factors")
    loss = error.new_zeros(error.shape[0])
    pooled, by = error, 1
    for weight, factor in sorted(zip(weights, factors, strict=True), key=lambda pair: pair[1]):
        # Pooling by 4 is pooling by 2 twice, and cheaper from there.
        pooled, by = (pool(pooled, factor // by), factor) if factor % by == 0 else (pool(error, factor), factor)
        loss = loss + weight * mean_square(pooled)
    return loss


def mean_square(x: Images) -> PerImage:
    """The mean over each image of its squares: [b c h w] -> [b]. Through the norm, which keeps no squares."""
    norm: PerImage = torch.linalg.vector_norm(x, dim=(1, 2, 3))
    return norm.square() / x[0].numel()


def denoising_loss(
    network: Network,
    target: Target,
    x: Images,
    eps: Images,
    logsnr: LogSnr,
    labels: Labels | None = None,
    context: Tensor | None = None,
    *,
    weighting: Weighting = Constant(),
    factors: Sequence[int] = (1,),
) -> tuple[PerImage, PerImage]:
    """Weighted loss and plain ε-loss of each image, [b] each, in float32 whatever the network's precision.

    w(λ)·Σ_s w_s ‖D_s g(λ)(prediction − target)‖²: weight and gain meet in one factor before the square, so that a loss
    which is finite in the network's own units is finite here. The network is passed `context` vectors [b m d] if there
    are any.
    """
    told = () if context is None else (context,)
    error = network(diffuse(x, eps, logsnr, target.process), logsnr, labels, *told) - target(x, eps, logsnr)
    gain = target.gain(logsnr)
    loss = multiscale(per_image(weighting(logsnr).sqrt() * gain, error) * error, factors)
    with torch.no_grad():
        plain: Tensor = gain.square() * mean_square(error)
    return loss, plain
