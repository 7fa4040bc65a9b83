"""Samplers: `sampler(denoise, z, logsnrs, generator=None)` yields z at each λ of the grid, from noise to image.

>>> import torch
>>> from snrise.denoisers import gaussian
>>> from snrise.schedules import Cosine
>>> denoise = gaussian(torch.tensor(0.5), torch.tensor(0.0))
>>> grid = uniform_time(Cosine(), steps=10)
>>> z = start(denoise, (1, 3, 8, 8), grid[0], generators(seed=0, first=0, count=1))
>>> round(last(Ddim()(denoise, z, grid)).mean().item(), 3)
0.5
"""

from collections import deque
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from snrise._errors import invalid
from snrise._typing import Images, Scalars
from snrise.denoisers import Denoiser
from snrise.samplers.ancestral import Ancestral, Ddim
from snrise.samplers.grids import (
    GRIDS,
    Grid,
    Karras,
    Trailing,
    UniformLogSnr,
    UniformTime,
    uniform_logsnr,
    uniform_time,
)
from snrise.samplers.heun import Heun
from snrise.samplers.multistep import DpmSolverPP
from snrise.samplers.noise import Generators, generators, normal_like

__all__ = [
    "GRIDS", "SAMPLERS", "Ancestral", "Ddim", "DpmSolverPP", "Generators", "Grid", "Heun", "Karras", "Sampler",
    "Trailing", "UniformLogSnr", "UniformTime", "generators", "last", "normal_like", "start", "uniform_logsnr",
    "uniform_time",
]


@runtime_checkable
class Sampler(Protocol):
    """A way along the grid: yields the state z at each λ. In each step it first asks the denoiser about that state."""

    def evaluations(self, steps: int) -> int:
        """How often the denoiser is asked about an image in so many steps."""
        ...

    def __call__(
        self, denoise: Denoiser, z: Images, logsnrs: Scalars, generator: Generators = None
    ) -> Iterator[Images]: ...


def last(states: Iterator[Images]) -> Images:
    """Drain a sampler and return its last state; one state is held at a time."""
    end = deque(states, maxlen=1)
    if not end:
        raise invalid("samplers.last", "an iterator that yields nothing", "a sampler's states")
    return end[0]


def start(
    denoise: Denoiser, shape: tuple[int, int, int, int], logsnr: Tensor, generator: Generators,
    noise: Images | None = None,
) -> Images:
    """σ(λ)·noise [b c h w] in float32: where sampling begins, of the denoiser's process, λ being the grid's first.

    The noise is drawn, unless it is given.
    """
    _, sigma = denoise.process.alpha_sigma(logsnr.double())
    return sigma.float() * (normal_like(torch.empty(shape), generator) if noise is None else noise)


#: Every sampler by the name that a config gives it.
SAMPLERS: dict[str, type[Sampler]] = {
    "ancestral": Ancestral, "ddim": Ddim, "dpm_solver_pp": DpmSolverPP, "heun": Heun,
}
