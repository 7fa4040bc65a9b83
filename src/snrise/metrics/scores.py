"""What samples are judged by: each metric compares statistics of the samples with those of a reference.

>>> def brightness(samples: Statistics, reference: Statistics) -> Iterator[Score]:
...     yield Score("feature mean", abs(float(samples.features.mean() - reference.features.mean())))
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, final

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from snrise._typing import StrEnum
from snrise.metrics.features import Extractor
from snrise.metrics.frechet import frechet, frechet_caution
from snrise.metrics.kernel import kernel_distance
from snrise.metrics.neighbours import prdc
from snrise.metrics.spectrum import radial_power, spectral_distance
from snrise.parallel import World

__all__ = ["Better", "Metric", "PrdcScores", "Score", "Statistics"]

DISTANCE = "lower is better, 0 is the data"
#: What the numbers of `prdc` mean.
SHARES = {
    "precision": "share of samples within the data; higher is better",
    "recall": "share of the data within the samples; higher is better",
    "density": "as precision, less moved by outliers; 1 is the data",
    "coverage": "share of the data with a sample nearby; higher is better",
}


class Better(StrEnum):
    """Which values of a score are the better ones."""

    LOWER = "lower is better"
    HIGHER = "higher is better"
    ONE = "1 is the data"

    def rank(self, value: float) -> float:
        """A key to sort by, the best first."""
        match self:
            case Better.LOWER:
                return value
            case Better.HIGHER:
                return -value
            case _:
                return abs(value - 1)


class Score(NamedTuple):
    """A number with its standard error, where one is known.

    note: how to read it, in words. caution: why not to trust it, if there is a reason.
    """

    name: str
    value: float
    standard_error: float | None = None
    better: Better = Better.LOWER
    note: str = Better.LOWER.value
    caution: str | None = None

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.4f}"
        return f"{self.name:<18}{self.value:.4f}{error}  ({self.note})"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """All that metrics know of a set of images: features [n d] of an extractor, and the mean power per octave."""

    extractor: Extractor
    features: Float[Tensor, "n d"]
    power: Float64[Tensor, " octaves"]

    @classmethod
    def of(cls, images: UInt8[Tensor, "n 3 h w"], extractor: Extractor) -> "Statistics":
        """Those of images."""
        return cls(extractor=extractor, features=extractor(images), power=radial_power(images))

    @classmethod
    def of_all(cls, images: UInt8[Tensor, "n 3 h w"] | None, extractor: Extractor, world: World) -> list["Statistics"]:
        """Those of the images of each process, by rank, without the ones that have none."""
        mine = None if images is None or not len(images) else cls.of(images, extractor)
        told = world.parts(None if mine is None else {"features": mine.features, "power": mine.power})
        return [cls(extractor=extractor, **theirs) for theirs in told]

    @classmethod
    def joined(cls, parts: Sequence["Statistics"]) -> "Statistics":
        """Those of all images from those of several batches of one size."""
        features = torch.cat([part.features for part in parts])
        power = torch.stack([part.power * len(part) for part in parts]).sum(0) / len(features)
        return cls(extractor=parts[0].extractor, features=features, power=power)

    def __len__(self) -> int:
        return len(self.features)


#: (statistics of the samples, of the reference) -> scores. One with knobs is a frozen dataclass.
Metric: TypeAlias = Callable[[Statistics, Statistics], Iterable[Score]]


def kernel_score(samples: Statistics, reference: Statistics) -> Iterator[Score]:
    """The kernel distance, called as the extractor says."""
    value, error = kernel_distance(samples.features, reference.features)
    yield Score(samples.extractor.kernel_name, value, error, note=DISTANCE)


def frechet_score(samples: Statistics, reference: Statistics) -> Iterator[Score]:
    """The Fréchet distance, called as the extractor says."""
    value = frechet(samples.features, reference.features)
    caution = frechet_caution(len(samples), len(reference), samples.features.shape[1])
    yield Score(samples.extractor.frechet_name, value, note=DISTANCE, caution=caution)


@final
@dataclass(frozen=True, kw_only=True)
class PrdcScores:
    """Precision, recall, density and coverage, with balls that reach to the k-th nearest neighbour."""

    k: int = 5

    def __call__(self, samples: Statistics, reference: Statistics) -> Iterator[Score]:
        shares = prdc(reference.features, samples.features, k=self.k)
        for (name, note), value in zip(SHARES.items(), shares, strict=True):
            yield Score(name, value, better=Better.ONE if name == "density" else Better.HIGHER, note=note)


def spectral_score(samples: Statistics, reference: Statistics) -> Iterator[Score]:
    """The root mean square of the decibels by octave."""
    distance = spectral_distance(samples.power, reference.power).distance
    yield Score("spectral distance", distance, note="dB; lower is better")
