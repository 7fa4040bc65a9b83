"""What samples are compared with: features and spectrum of a data set, computed once and kept in a file."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from snrise._errors import SnriseError, require
from snrise.data import Dataset, Indexed, cache_home
from snrise.files import write_atomically
from snrise.metrics import Extractor, radial_power

__all__ = ["Reference"]

#: Raised when the files below change their meaning.
LAYOUT = 2
BATCH = 64


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Images of a data set by their features and their mean power per octave; `indices` says which images they are."""

    dataset: Dataset | Indexed
    extractor: Extractor
    indices: range
    features: Float[Tensor, "n d"]
    power: Float[Tensor, " octaves"]

    @classmethod
    def of(
        cls, dataset: Dataset | Indexed, extractor: Extractor, limit: int = 50_000, home: Path | None = None,
        watch: Callable[[int, int], None] | None = None,
    ) -> "Reference":
        """The reference of a data set, from its file or computed; `watch` takes (images done, images in all).

        Of more than `limit` images, every so many-th is taken. The file in `home` (the user's cache folder) is named
        after the fingerprint of the images, their size and preprocessing, and the features: it is never stale.
        """
        require(limit >= 2, "Reference.limit", limit, "2 images or more")
        indices = range(0, len(dataset), -(-len(dataset) // limit))
        prepared = dataset.preprocess if isinstance(dataset, Dataset) else dataset.size
        key = repr((LAYOUT, dataset.fingerprint, prepared, extractor.name, indices))
        name = f"{extractor.name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.safetensors"
        file = (home or cache_home() / "features") / name
        kept = _read(file)
        if kept is None:
            kept = _compute(dataset, extractor, indices, watch)
            try:
                write_atomically(file, save(kept))
            except SnriseError:
                if _read(file) is None:  # else another process has written the same meanwhile
                    raise
        return cls(dataset=dataset, extractor=extractor, indices=indices, **kept)

    def __len__(self) -> int:
        return len(self.indices)


def _compute(
    dataset: Dataset | Indexed, extractor: Extractor, indices: range, watch: Callable[[int, int], None] | None
) -> dict[str, Tensor]:
    features, powers = [], []
    for images in _parts(dataset, indices):
        features.append(extractor(images))
        powers.append(radial_power(images) * len(images))
        if watch is not None:
            watch(min(len(indices), BATCH * len(features)), len(indices))
    return {"features": torch.cat(features), "power": torch.stack(powers).sum(0) / len(indices)}


def _parts(dataset: Dataset | Indexed, indices: range) -> Iterator[Tensor]:
    for first in range(0, len(indices), BATCH):
        yield dataset.images(indices[first : first + BATCH])


def _read(file: Path) -> dict[str, Tensor] | None:
    """What is kept, or None if nothing whole is."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None

