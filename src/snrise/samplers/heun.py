"""Heun's method: two evaluations a step, second order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from snrise._typing import Denoiser, Images, Scalars
from snrise.process import VP, Process, per_image, posterior_mean
from snrise.samplers.noise import Generators
from snrise.samplers.steps import check_grid, walk

__all__ = ["Heun"]


@final
@dataclass(frozen=True, kw_only=True)
class Heun:
    r"""Heun's method for EDM's equation, dy/ds = (y − x̂)/s with y = z/α and s = σ/α = e^{−λ/2}, under any process.

    A step of Euler's to y' = x̂ + (s'/s)(y − x̂), which is DDIM's, and then, by the trapezoidal rule,
    y' + ½(s/s' − 1)(x̂' − x̂), where x̂' is the denoiser's answer at y', s'. Karras et al. 2022 (arXiv 2206.00364),
    alg. 1. The last step is Euler's, and so is one from λ = −∞, where s is infinite.

    The factor s/s' grows with the step: on a grid that takes s down by more than ten times at once the second half of
    a step may do harm. `Karras` and `uniform_logsnr` make grids with even steps.
    """

    process: Process = VP

    def evaluations(self, steps: int) -> int:
        """Two a step, but one in the last; one fewer from λ = −∞."""
        return 2 * steps - 1

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]:
        """As `Ancestral`; the generator is not used."""
        check_grid(logsnrs)
        yield z
        twice = logsnrs[:-1].isfinite()
        twice[-1] = False
        for (t, s), corrected in zip(walk(logsnrs, z), twice.tolist(), strict=True):
            x = denoise(z, t)
            step = posterior_mean(z, x, t, s, eta=0.0, process=self.process)
            if corrected:
                alpha, _ = self.process.alpha_sigma(s)
                change = denoise(step.to(z.dtype), s) - x
                step = step + per_image(0.5 * alpha * torch.expm1(0.5 * (s - t)), z) * change
            z = step.to(z.dtype)
            yield z
