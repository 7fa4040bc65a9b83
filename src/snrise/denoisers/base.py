"""Denoisers, and the interface of what wraps them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from snrise._errors import require
from snrise._typing import Images, Labels, LogSnr, Network
from snrise.process import Prediction, Process, Target

EVERYWHERE = (-math.inf, math.inf)


@final
@dataclass(frozen=True)
class Denoiser:
    """A function (z [b c h w], λ [b]) -> x̂ [b c h w], and the process that z is of: samplers and metrics read it here.

    >>> import torch
    >>> from snrise.process import VP
    >>> halved = Denoiser(lambda z, logsnr: 0.5 * z, VP)
    >>> halved(torch.ones(1, 1, 1, 1), torch.zeros(1)).item()
    0.5
    """

    function: Callable[[Tensor, Tensor], Tensor]
    process: Process

    def __call__(self, z: Images, logsnr: LogSnr) -> Images:
        return self.function(z, logsnr)


def from_network(
    network: Network, target: Target | Prediction, labels: Labels | None = None, context: Tensor | None = None
) -> Denoiser:
    """The denoiser of a network, conditioned on labels and context vectors.

    The target includes the process; a bare `Prediction` is under the variance-preserving one.
    """
    of = target if isinstance(target, Target) else Target(target)
    told = () if context is None else (context,)

    def denoise(z: Images, logsnr: LogSnr) -> Images:
        return of.to_x(network(z, logsnr, labels, *told).to(z.dtype), z, logsnr)

    return Denoiser(denoise, of.process)


class Wrapper(ABC):
    """A frozen dataclass that turns one denoiser into another."""

    @abstractmethod
    def __call__(self, denoise: Denoiser, reference: Denoiser | None) -> Denoiser:
        """Wrap a denoiser; `reference` is the denoiser that guidance extrapolates from, if there is one."""


def check_interval(where: str, interval: tuple[float, float]) -> None:
    """Raise unless the first λ lies below the second."""
    low, high = interval
    require(low < high, f"{where}.interval", interval, "(lowest λ, highest λ), the first below the second")


def inside(logsnr: LogSnr, interval: tuple[float, float]) -> Tensor:
    """Whether each image's λ is in the interval: bool [b]."""
    return (logsnr >= interval[0]) & (logsnr <= interval[1])
