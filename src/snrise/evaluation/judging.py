"""All that is told of a set of samples: distances, what they miss and repeat, and which images they are nearest to."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._errors import require
from snrise.evaluation.reference import Reference
from snrise.metrics import (
    SpectralDistance,
    frechet,
    frechet_caution,
    kernel_distance,
    nearest,
    prdc,
    radial_power,
    spectral_distance,
)

__all__ = ["Judgement", "Metric", "judge"]

#: What the numbers of `prdc` say.
SHARES = {
    "precision": "share of samples within the data; higher is better",
    "recall": "share of the data within the samples; higher is better",
    "density": "as precision, less moved by outliers; 1 is the data",
    "coverage": "share of the data with a sample nearby; higher is better",
}
#: Neighbours of samples in the sense of precision and coverage.
NEIGHBOURS = 5


class Metric(NamedTuple):
    """A number, its standard error where there is one, and which way is better."""

    name: str
    value: float
    error: float | None
    better: str

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.4f}"
        return f"{self.name:<18}{self.value:.4f}{error}  ({self.better})"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """What was found of `samples` pictures beside `references` images.

    pictures: those of the samples that lie nearest to an image, nearest first, uint8 [k 3 h w].
    twins: the images that they are nearest to, by number in the data set, [k][neighbours].
    distances: how far away in features, [k neighbours].
    """

    samples: int
    references: int
    features: str
    metrics: tuple[Metric, ...]
    spectrum: SpectralDistance
    cautions: tuple[str, ...]
    pictures: UInt8[Tensor, "k 3 h w"]
    twins: tuple[tuple[int, ...], ...]
    distances: Tensor

    def __getitem__(self, name: str) -> float:
        return next(metric.value for metric in self.metrics if metric.name == name)

    def as_json(self) -> dict[str, Any]:
        """Every number."""
        return {
            "samples": self.samples, "references": self.references, "features": self.features,
            **{metric.name: metric.value for metric in self.metrics},
            **{f"{metric.name} error": metric.error for metric in self.metrics if metric.error is not None},
            "decibels": dict(zip(self.spectrum.names, self.spectrum.decibels.tolist(), strict=True)),
            "cautions": list(self.cautions),
        }

    def __str__(self) -> str:
        octaves = zip(self.spectrum.names, self.spectrum.decibels.tolist(), strict=True)
        power = ", ".join(f"{name} {decibels:+.1f}" for name, decibels in octaves)
        head = f"{self.samples:,} samples beside {self.references:,} images, features of {self.features}"
        told = [f"caution: {caution}" for caution in self.cautions]
        return "\n".join([head, *map(str, self.metrics), f"power per octave, dB: {power}", *told])


def judge(
    samples: Iterable[UInt8[Tensor, "_ 3 h w"]], reference: Reference, *, keep: int = 8, neighbours: int = 4
) -> Judgement:
    """Compare samples, that come in batches, with a reference; only their features are held, and `keep` pictures.

    Raises:
        SnriseError: for fewer samples than precision and coverage need.
    """
    extractor = reference.extractor
    features, powers, count = [], [], 0
    pictures: list[Tensor] = []
    gaps: list[float] = []
    for images in samples:
        found = extractor(images)
        features.append(found)
        powers.append(radial_power(images) * len(images))
        count += len(images)
        gap = nearest(found, reference.features).distances[:, 0]
        best = sorted(zip([*gaps, *gap.tolist()], [*pictures, *images], strict=True), key=lambda pair: pair[0])[:keep]
        gaps, pictures = [pair[0] for pair in best], [pair[1] for pair in best]
    require(count > NEIGHBOURS, "samples", f"{count} pictures", f"more than {NEIGHBOURS}")
    mine, theirs = torch.cat(features), reference.features
    kept = torch.stack(pictures)
    twins = nearest(extractor(kept), theirs, k=min(neighbours, len(theirs)))
    spectrum = spectral_distance(torch.stack(powers).sum(0) / count, reference.power)
    kernel, shares = kernel_distance(mine, theirs), prdc(theirs, mine, k=NEIGHBOURS)
    caution = frechet_caution(count, len(theirs), mine.shape[1])
    metrics = (
        Metric(extractor.kernel_name, kernel.value, kernel.standard_error, "lower is better, 0 is the data"),
        Metric(extractor.frechet_name, frechet(mine, theirs), None, "lower is better, 0 is the data"),
        *(Metric(name, getattr(shares, name), None, told) for name, told in SHARES.items()),
        Metric("spectral distance", spectrum.distance, None, "dB; lower is better"),
    )
    return Judgement(
        samples=count, references=len(theirs), features=extractor.name, metrics=metrics, spectrum=spectrum,
        cautions=() if caution is None else (caution,), pictures=kept,
        twins=tuple(tuple(reference.indices[i] for i in row) for row in twins.indices.tolist()),
        distances=twins.distances,
    )
