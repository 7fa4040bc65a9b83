"""What samples are compared with: features and spectrum of a data set, computed once and cached in a file."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from snrise._errors import SnriseError, require
from snrise.data import ByIndex, cache_home
from snrise.files import write_atomically
from snrise.metrics import Extractor, Statistics

__all__ = ["Reference"]

#: The version of the cache files' content.
LAYOUT = 2
BATCH = 64


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Features and mean power per octave of the images of a data set, those at `indices`."""

    dataset: ByIndex
    extractor: Extractor
    indices: range
    features: Float[Tensor, "n d"]
    power: Float[Tensor, " octaves"]

    @classmethod
    def of(
        cls, dataset: ByIndex, extractor: Extractor, limit: int = 50_000, home: Path | None = None,
        watch: Callable[[int, int], None] | None = None,
    ) -> "Reference":
        """The reference of a data set, from the cache or computed; `watch` is called with (images done, total).

        Of more than `limit` images, a regular subset is taken. The cache file in `home` (by default in the user's cache
        folder) is named after the fingerprint of the images, their size and preprocessing, and the extractor: it is
        never stale.

        Raises:
            SnriseError: for a `limit` below 2, or a file that cannot be written.
        """
        require(limit >= 2, "Reference.limit", limit, "2 images or more")
        indices = range(0, len(dataset), -(-len(dataset) // limit))
        prepared = dataset.preparation
        key = f"({LAYOUT}, {dataset.fingerprint!r}, {prepared}, {extractor.name!r}, {indices})"
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

    @property
    def statistics(self) -> Statistics:
        """What metrics compare."""
        return Statistics(extractor=self.extractor, features=self.features, power=self.power)


def _compute(
    dataset: ByIndex, extractor: Extractor, indices: range, watch: Callable[[int, int], None] | None
) -> dict[str, Tensor]:
    parts = []
    for first in range(0, len(indices), BATCH):
        parts.append(Statistics.of(dataset.images(indices[first : first + BATCH]), extractor))
        if watch is not None:
            watch(min(len(indices), first + BATCH), len(indices))
    whole = Statistics.joined(parts)
    return {"features": whole.features, "power": whole.power}


def _read(file: Path) -> dict[str, Tensor] | None:
    """The cached tensors, or None without an intact file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None

