r"""The distribution of noise levels in training.

A schedule is a distribution of λ: with t uniform in [0, 1], λ(t) has the density −dt/dλ. So the choices are schedules:
the training schedule itself (uniform in t), `UniformLogSnr` (uniform in τ = λ; Su 2024, §7.5), `LogNormal` (EDM's).
`like` keeps the expected loss that of another schedule, whatever λ is drawn from.
"""

from dataclasses import dataclass
from typing import NamedTuple, final

import torch

from snrise._errors import require
from snrise._typing import LogSnr, PerImage, Scalars
from snrise.process import product
from snrise.schedules import Schedule, density

__all__ = ["Drawn", "Levels"]


class Drawn(NamedTuple):
    """Noise levels of a batch, and the importance weight of each image's loss (1 without importance sampling)."""

    logsnr: LogSnr
    importance: PerImage


@final
@dataclass(frozen=True, kw_only=True)
class Levels:
    """Draw λ(t) for t uniform in [0, 1]. With `like`, losses are multiplied by p_like(λ)/p_schedule(λ).

    Called with a count, stratified: image i of b gets a t in [i/b, (i+1)/b), which lowers the variance of the batch
    mean (Kingma et al. 2021, app. I.1). Training draws t by image number instead, and calls `at`.

    >>> from snrise.schedules import Cosine
    >>> logsnr, importance = Levels(schedule=Cosine())(4, torch.Generator().manual_seed(0))
    >>> bool((logsnr[:-1] > logsnr[1:]).all()), importance.tolist()
    (True, [1.0, 1.0, 1.0, 1.0])
    """

    schedule: Schedule
    stratified: bool = True
    like: Schedule | None = None

    def __call__(self, count: int, generator: torch.Generator | None = None) -> Drawn:
        require(count >= 1, "Levels.count", count, "a whole number above 0")
        device = None if generator is None else generator.device
        t = torch.rand(count, generator=generator, device=device)
        if self.stratified:
            t = (t + torch.arange(count, device=device)) / count
        return self.at(t)

    def at(self, t: Scalars) -> Drawn:
        """λ and importance at given t in [0, 1]: [b]."""
        logsnr = self.schedule(t)
        if self.like is None or self.like == self.schedule:
            return Drawn(logsnr, torch.ones_like(logsnr))
        return Drawn(logsnr, -product(density(self.like, logsnr), self.schedule.derivative(t)))
