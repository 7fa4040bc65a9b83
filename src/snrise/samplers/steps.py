"""What samplers share: the walk along a grid, and the step that leaves a Gaussian where it belongs."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Images, LogSnr, Scalars
from snrise.process import Process, per_image, posterior_mean, posterior_variance
from snrise.samplers.noise import Generators, normal_like

__all__ = ["ancestral_step", "check_grid", "walk"]


def check_grid(logsnrs: Tensor) -> None:
    """Raise unless λ is one dimension that strictly increases."""
    one_line = logsnrs.ndim == 1 and len(logsnrs) >= 2
    require(one_line, "sampler.logsnrs", tuple(logsnrs.shape), "[steps + 1], 2 values or more")
    if not bool((logsnrs[1:] > logsnrs[:-1]).all()):
        raise invalid("sampler.logsnrs", "values that do not increase", "λ from the noisy end up", "see samplers.grids")


def walk(logsnrs: Scalars, z: Images) -> Iterator[tuple[LogSnr, LogSnr]]:
    """λ at the beginning and the end of each step, once for every image of z: [b], in float32 at least."""
    precision = torch.promote_types(z.dtype, torch.float32)
    for logsnr_t, logsnr_s in pairwise(logsnrs.to(z.device, precision)):
        yield logsnr_t.expand(len(z)), logsnr_s.expand(len(z))


def ancestral_step(
    z: Images, x: Images, logsnr_t: LogSnr, logsnr_s: LogSnr, generator: Generators, *, eta: float,
    gamma: float = 0.0, process: Process,
) -> Images:
    """z_s drawn from a Gaussian about `posterior_mean` with standard deviation η·√`posterior_variance`, in z's dtype.

    The exact solution, for an x̂ that stays as it is over the step, of the ODE (η = 0) and of the SDE (η = 1, γ = 0).
    """
    step = posterior_mean(z, x, logsnr_t, logsnr_s, eta=eta, process=process)
    if eta > 0:
        variance = posterior_variance(logsnr_t, logsnr_s, gamma=gamma, process=process)
        step = step + per_image(eta * variance.sqrt(), z) * normal_like(z, generator)
    return step.to(z.dtype)
