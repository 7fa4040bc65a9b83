"""The report on a set of samples: every metric, the spectrum, and the samples nearest to an image of the data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from operator import itemgetter
from typing import Any, final

import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._errors import require
from snrise.evaluation.fitting import Fit
from snrise.evaluation.reference import Reference
from snrise.metrics import (
    METRICS,
    Better,
    Extractor,
    Score,
    SpectralDistance,
    Statistics,
    nearest,
    spectral_distance,
)
from snrise.parallel import ALONE, World

__all__ = ["Judgement", "judge", "measures"]

#: Fewer samples are not judged: precision and coverage need more than 5.
FEWEST = 6


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """The comparison of `samples` pictures with `references` images; indexed by a score's name, its value.

    pictures: the samples nearest to an image of the reference, nearest first, uint8 [k 3 h w].
    twins: the indices in the data set of the images nearest to each of them, [k][neighbours].
    distances: the distances to these in feature space, [k neighbours].
    fit: loss and likelihood on held-out images, where they were measured.
    """

    samples: int
    references: int
    features: str
    scores: tuple[Score, ...]
    spectrum: SpectralDistance
    pictures: UInt8[Tensor, "k 3 h w"]
    twins: tuple[tuple[int, ...], ...]
    distances: Tensor
    fit: Fit | None = None

    def __getitem__(self, name: str) -> float:
        return {score.name: score.value for score in self.scores}[name]

    @property
    def cautions(self) -> tuple[str, ...]:
        """Reasons not to trust a score."""
        return tuple(score.caution for score in self.scores if score.caution is not None)

    def as_json(self) -> dict[str, Any]:
        """Every number."""
        return {
            "samples": self.samples, "references": self.references, "features": self.features,
            **{score.name: score.value for score in self.scores},
            **{f"{name} error": error for name, _, error, *_ in self.scores if error is not None},
            "decibels": dict(zip(self.spectrum.names, self.spectrum.decibels.tolist(), strict=True)),
            "cautions": list(self.cautions), **({} if self.fit is None else {"unseen": self.fit.as_json()}),
        }

    def __str__(self) -> str:
        octaves = zip(self.spectrum.names, self.spectrum.decibels.tolist(), strict=True)
        power = ", ".join(f"{name} {decibels:+.1f}" for name, decibels in octaves)
        head = f"{self.samples:,} samples beside {self.references:,} images, features of {self.features}"
        cautions = [f"caution: {caution}" for caution in self.cautions]
        fit = [] if self.fit is None else [unseen(self.fit)]
        return "\n".join([head, *map(str, self.scores), f"power per octave, dB: {power}", *cautions, *fit])


def unseen(fit: Fit) -> str:
    """The part of the report on held-out images."""
    return f"\non images that the run has not seen:\n{fit}"


def _scores(samples: Statistics, reference: Statistics) -> Iterator[Score]:
    for metric in METRICS.values():
        yield from metric(samples, reference)


def measures(extractor: Extractor) -> dict[str, Better]:
    """The names of all scores with the features of an extractor, and which values of each are better.

    A metric says them with its result only, so each is computed once, of a few random numbers.
    """
    features = torch.randn(2, FEWEST, extractor.dimensions, generator=torch.Generator().manual_seed(0))
    noise = (Statistics(extractor=extractor, features=f, power=torch.ones(4, dtype=torch.float64)) for f in features)
    return {score.name: score.better for score in _scores(*noise)}


def judge(
    samples: Iterable[UInt8[Tensor, "_ 3 h w"]], reference: Reference, *, keep: int = 8, neighbours: int = 4,
    world: World = ALONE,
) -> Judgement:
    """Compare batches of samples with a reference; of the samples, only features and `keep` pictures are held.

    Of several processes, each gives as many batches, of which the last may be empty; all get the same report, that of
    round after round, by rank.

    Raises:
        SnriseError: for fewer than 6 samples.
    """
    parts: list[Statistics] = []
    closest: list[tuple[float, int, Tensor]] = []
    for images in samples:
        begun = len(parts)
        parts += Statistics.of_all(images, reference.extractor, world)
        if len(images):
            place = begun + world.rank
            distances = nearest(parts[place].features, reference.features).distances[:, 0].tolist()
            numbers = count(sum(map(len, parts[:place])))
            closest = _closest([*closest, *zip(distances, numbers, images, strict=False)], keep)
    number = sum(map(len, parts))
    require(number >= FEWEST, "samples", f"{number} pictures", f"more than {FEWEST - 1}")
    mine, theirs = Statistics.joined(parts), reference.statistics
    pictures = torch.stack([picture for *_, picture in _closest(_of_all(closest, world), keep)])
    twins = nearest(reference.extractor(pictures), theirs.features, k=min(neighbours, len(theirs)))
    return Judgement(
        samples=number, references=len(theirs), features=reference.extractor.name, scores=tuple(_scores(mine, theirs)),
        spectrum=spectral_distance(mine.power, theirs.power), pictures=pictures,
        twins=tuple(tuple(reference.indices[i] for i in row) for row in twins.indices.tolist()),
        distances=twins.distances,
    )


def _closest(found: list[tuple[float, int, Tensor]], keep: int) -> list[tuple[float, int, Tensor]]:
    """Those of the least distance; of equal ones, of the least number."""
    return sorted(found, key=itemgetter(0, 1))[:keep]


def _of_all(found: list[tuple[float, int, Tensor]], world: World) -> list[tuple[float, int, Tensor]]:
    """What all processes have found: distances, numbers and pictures."""
    distances, numbers, pictures = zip(*found, strict=True) if found else ((), (), ())
    mine = {"distances": torch.tensor(distances, dtype=torch.float64), "numbers": torch.tensor(numbers)}
    told = world.parts(mine | {"pictures": torch.stack(pictures)} if found else None)
    return [one for part in told
            for one in zip(part["distances"].tolist(), part["numbers"].tolist(), part["pictures"], strict=True)]
