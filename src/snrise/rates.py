"""The learning rate, a pure function of the images seen."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from snrise._errors import require

__all__ = ["DECAYS", "CosineDecay", "Decay", "LearningRate", "LinearDecay", "SqrtDecay"]


class Decay(ABC):
    """The shape of the learning rate's fall to 0: a frozen dataclass."""

    @abstractmethod
    def __call__(self, left: float) -> float:
        """The share of the peak when a share `left` of the fall, from 1 down to 0, is still to come."""


@final
@dataclass(frozen=True)
class LinearDecay(Decay):
    """A straight line."""

    def __call__(self, left: float) -> float:
        return left


@final
@dataclass(frozen=True)
class CosineDecay(Decay):
    """Half a period of a cosine."""

    def __call__(self, left: float) -> float:
        return 0.5 - 0.5 * math.cos(math.pi * left)


@final
@dataclass(frozen=True)
class SqrtDecay(Decay):
    """1 − √s after a share s of a short fall behind a long plateau. Hägele et al. 2024 (arXiv 2405.18392)."""

    def __call__(self, left: float) -> float:
        return 1 - math.sqrt(1 - left)


#: Every shape by the name that a config gives it.
DECAYS: dict[str, type[Decay]] = {
    "linear": LinearDecay, "cosine": CosineDecay, "one_minus_sqrt": SqrtDecay,
}


@final
@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """Rise linearly over `warmup` images, stay, then fall to 0 over the last `decay` share of `total` images.

    >>> rate = LearningRate(peak=1.0, warmup=100, total=1000, decay=0.5)
    >>> [rate(images_seen) for images_seen in (0, 50, 200, 750, 1000)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    peak: float
    total: int
    warmup: int = 0
    decay: float = 0.0
    shape: Decay = LinearDecay()

    def __post_init__(self) -> None:
        require(self.peak > 0, "LearningRate.peak", self.peak, "a number above 0")
        require(self.warmup >= 0, "LearningRate.warmup", self.warmup, "a number of images, 0 or more")
        require(0 <= self.decay <= 1, "LearningRate.decay", self.decay, "a share of the run in [0, 1]")

    def __call__(self, images_seen: int) -> float:
        rise = min(1.0, images_seen / self.warmup) if self.warmup else 1.0
        left = max(0.0, self.total - images_seen)
        fall = min(1.0, left / (self.decay * self.total)) if self.decay else 1.0
        return self.peak * rise * self.shape(fall)
