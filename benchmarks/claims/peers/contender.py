"""What is compared: a network of one size at one side, with the way that its own package trains and samples it."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, Protocol, final

from torch import Tensor

from snrise import documents, experiment
from snrise.data import Dataset

__all__ = ["BATCH", "HALF_LIFE", "WARMUP", "Contender", "Made", "Order", "System", "Way", "images_for", "pictures_of"]

#: Images a step, of every system.
BATCH = 32
#: The learning rate rises over so large a share of the images, and the average has a half-life of so large a share.
WARMUP, HALF_LIFE = 0.05, 0.04


class Way(NamedTuple):
    """A sampler, and its steps, each of which asks the network once."""

    sampler: str
    steps: int

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} steps"


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """A training, and the pictures that are wanted of it."""

    rate: float
    images: int
    seed: int
    pictures: int
    way: Way


class Made(NamedTuple):
    """Pictures, uint8 [n 3 side side], and how many were made a second."""

    pictures: Tensor
    per_second: float


class Contender(Protocol):
    """A network of one size at one side: a frozen dataclass, whose text tells it from others."""

    @property
    def side(self) -> int:
        """Of its images."""

    def parameters(self) -> int:
        """Their number."""

    def pace(self, seconds: float) -> float:
        """Images a second of training, from the median of the steps in so many seconds."""

    def make(self, order: Order) -> Made:
        """Train, or go on with a training that was interrupted, and sample."""


@final
@dataclass(frozen=True, kw_only=True)
class System:
    """A package's model: its networks by side and size, the learning rates and the ways of sampling that are tried."""

    sizes: dict[int, dict[str, Contender]]
    ways: tuple[Way, ...]
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)


def images_for(pace: float, seconds: float) -> int:
    """The images of a training of so many seconds, in whole batches."""
    return max(1, round(pace * seconds / BATCH)) * BATCH


@lru_cache
def pictures_of(side: int) -> Dataset:
    """The built-in emoji, without classes."""
    config = documents.load("emoji-32", ["data.classes=null"])
    return experiment.dataset(replace(config, data=replace(config.data, resolution=(side, side))))
