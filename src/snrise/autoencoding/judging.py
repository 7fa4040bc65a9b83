"""How well an autoencoder reconstructs: pixel by pixel, as people see it, as a set of images, and octave by octave."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from snrise._errors import require
from snrise.data import ByIndex, as_float, to_uint8
from snrise.metrics import (
    Extractor,
    Perceptual,
    SpectralDistance,
    Statistics,
    frechet,
    frechet_caution,
    kernel_distance,
    psnr,
    spectral_distance,
    ssim,
)

__all__ = ["Reconstruction", "judge_reconstruction", "pooled"]

AT_ONCE = 16
#: Images and reconstructions that are kept to be looked at.
SHOWN = 8
#: SSIM has a window of so many pixels a side.
WINDOW = 11


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """Means over the images, and distances between the set of images and that of their reconstructions.

    scores: by name: PSNR in dB, SSIM, perceptual distance, Fréchet and kernel distance.
    kept: decibels of reconstructions over images, by octave: the power that is left.
    pictures, originals: the first of both, uint8 [k 3 h w].
    """

    images: int
    scores: Mapping[str, float]
    kept: SpectralDistance
    pictures: UInt8[Tensor, "k 3 h w"]
    originals: UInt8[Tensor, "k 3 h w"]
    caution: str | None

    def as_json(self) -> dict[str, Any]:
        """Every number."""
        decibels = dict(zip(self.kept.names, self.kept.decibels.tolist(), strict=True))
        return {"images": self.images, **self.scores, "decibels": decibels, "caution": self.caution}


def pooled(factor: int) -> Callable[[Tensor], Tensor]:
    """Pictures uint8 -> the same, averaged over factor×factor pixels and enlarged (bicubic): a codec of no training.

    >>> x = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    >>> pooled(2)(x).shape
    torch.Size([1, 3, 8, 8])
    """
    require(factor >= 1, "pooled.factor", factor, "a whole number above 0")

    def reconstruct(pictures: Tensor) -> Tensor:
        small = F.avg_pool2d(as_float(pictures), factor)
        return to_uint8(F.interpolate(small, size=pictures.shape[-2:], mode="bicubic", align_corners=False))

    return reconstruct


def judge_reconstruction(
    reconstruct: Callable[[Tensor], Tensor], data: ByIndex, indices: Sequence[int], extractor: Extractor,
    distance: Perceptual | None = None, watch: Callable[[float], None] | None = None,
) -> Reconstruction:
    """Compare images of a data set with what a codec makes of them; `watch` is called with the number done.

    Raises:
        SnriseError: for fewer than 2 images.
    """
    require(len(indices) >= 2, "judge_reconstruction.indices", len(indices), "2 images or more")
    sums: dict[str, float] = {}
    ours, theirs = [], []
    kept: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, len(indices), AT_ONCE):
        originals = data.images(indices[begin : begin + AT_ONCE])
        pictures = reconstruct(originals).cpu()
        for name, values in _of_pairs(pictures, originals, distance):
            sums[name] = sums.get(name, 0.0) + float(values.double().sum())
        ours.append(Statistics.of(pictures, extractor))
        theirs.append(Statistics.of(originals, extractor))
        kept += zip(pictures, originals, strict=True) if len(kept) < SHOWN else []
        if watch is not None:
            watch(begin + len(originals))
    made, given = Statistics.joined(ours), Statistics.joined(theirs)
    scores = {name: total / len(indices) for name, total in sums.items()}
    scores |= {
        extractor.frechet_name: frechet(made.features, given.features),
        extractor.kernel_name: kernel_distance(made.features, given.features)[0],
    }
    pictures, originals = (torch.stack(images[:SHOWN]) for images in zip(*kept, strict=True))
    return Reconstruction(
        images=len(indices), scores=scores, kept=spectral_distance(made.power, given.power), pictures=pictures,
        originals=originals, caution=frechet_caution(len(indices), len(indices), extractor.dimensions),
    )


def _of_pairs(pictures: Tensor, originals: Tensor, distance: Perceptual | None) -> Iterator[tuple[str, Tensor]]:
    """Scores of each pair."""
    yield "PSNR", psnr(pictures, originals)
    if min(pictures.shape[-2:]) >= WINDOW:
        yield "SSIM", ssim(pictures, originals)
    if distance is not None and min(pictures.shape[-2:]) >= distance.least:
        with torch.no_grad():
            yield distance.name, distance(as_float(pictures), as_float(originals))
