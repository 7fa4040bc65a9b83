"""Heun's method: two evaluations a step, second order."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from snrise._typing import Images, Scalars
from snrise.denoisers import Denoiser
from snrise.process import per_image, posterior_mean
from snrise.samplers.noise import Generators
from snrise.samplers.steps import check_grid, walk

__all__ = ["Heun"]

#: A step in which σ/α falls to less than one in so many is long: EDM's own grid of 18 steps has none.
LONG = 4.0


@final
@dataclass(frozen=True, kw_only=True)
class Heun:
    r"""Heun's method for EDM's equation, dy/ds = (y − x̂)/s with y = z/α and s = σ/α = e^{−λ/2}, under any process.

    A step of Euler's to y' = x̂ + (s'/s)(y − x̂), which is DDIM's, and then, by the trapezoidal rule,
    y' + ½(s/s' − 1)(x̂' − x̂), where x̂' is the denoiser's answer at y', s'. Karras et al. 2022 (arXiv 2206.00364),
    alg. 1. The last step is Euler's, as theirs is.

    In a long step, where s falls to less than a quarter, the factor ½(s/s' − 1) would make much of a small error. There
    the rule is applied to the same equation in y/s and 1/s, d(y/s)/d(1/s) = x̂, whose factor is ½(1 − s'/s): at most ½,
    also from s = ∞ (λ = −∞). Both are of second order.
    """


    def evaluations(self, steps: int) -> int:
        """Two a step, but one in the last."""
        return 2 * steps - 1

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """As `Ancestral`; the generator is not used."""
        check_grid(logsnrs)
        yield z
        for n, (t, s) in enumerate(walk(logsnrs, z), start=2):
            x = denoise(z, t)
            step = posterior_mean(z, x, t, s, eta=0.0, process=denoise.process)
            if n < len(logsnrs):
                alpha, _ = denoise.process.alpha_sigma(s)
                step = step + per_image(alpha * _correction(t, s), z) * (denoise(step.to(z.dtype), s) - x)
            z = step.to(z.dtype)
            yield z


def _correction(logsnr_t: Tensor, logsnr_s: Tensor) -> Tensor:
    """½(s/s' − 1), or ½(1 − s'/s) in a long step."""
    fall = 0.5 * (logsnr_s - logsnr_t)
    return 0.5 * torch.where(fall > math.log(LONG), -torch.expm1(-fall), torch.expm1(fall))
