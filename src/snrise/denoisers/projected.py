"""Guidance orthogonal to x̂, which does not oversaturate at high scales."""

from dataclasses import dataclass
from typing import final

import torch

from snrise._errors import require
from snrise._typing import Images, LogSnr
from snrise.denoisers.base import EVERYWHERE, Denoiser, Wrapper, check_interval, inside
from snrise.process import per_image


@final
@dataclass(frozen=True, kw_only=True)
class Projected(Wrapper):
    r"""x̂ + (scale − 1)·(Δ⊥ + parallel·Δ∥), with Δ = x̂ − x̂_ref split into its parts along x̂ and across it.

    The parallel part raises contrast and saturation, the orthogonal one changes content. `limit` is the largest
    norm of Δ, an image at a time. With `parallel=1` and no limit it is `guided`. Adaptive projected guidance, Sadat et
    al. 2024 (arXiv 2410.02416), sec. 4, without its momentum, which would make x̂ depend on the steps before.
    """

    scale: float
    parallel: float = 0.0
    limit: float | None = None
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require(0 <= self.parallel <= 1, "Projected.parallel", self.parallel, "a share in [0, 1]")
        require(self.limit is None or self.limit > 0, "Projected.limit", self.limit, "a norm above 0, or None")
        check_interval("Projected", self.interval or EVERYWHERE)

    def __call__(self, denoise: Denoiser, reference: Denoiser | None) -> Denoiser:
        if reference is None or self.scale == 1:
            return denoise

        def guide(z: Images, logsnr: LogSnr) -> Images:
            x = denoise(z, logsnr)
            within = inside(logsnr, self.interval or EVERYWHERE)
            if not bool(within.any()):
                return x
            gap, flat = (x - reference(z, logsnr)).flatten(1), x.flatten(1)
            if self.limit is not None:
                norm = torch.linalg.vector_norm(gap, dim=1, keepdim=True)
                gap = gap * (self.limit / norm).clamp(max=1)
            square = (flat * flat).sum(dim=1, keepdim=True).clamp(min=1e-12)
            along = (gap * flat).sum(dim=1, keepdim=True) / square * flat
            steered = flat + (self.scale - 1) * (gap - (1 - self.parallel) * along)
            return torch.where(per_image(within, x), steered.view_as(x), x)

        return Denoiser(guide, denoise.process)
