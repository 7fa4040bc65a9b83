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
from snrise.parallel import ALONE, World

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
        watch: Callable[[int, int], None] | None = None, world: World = ALONE,
    ) -> "Reference":
        """The reference of a data set, from the cache or computed; `watch` is called with (images done, total).

        Of more than `limit` images, a regular subset is taken. The cache file in `home` (by default in the user's cache
        folder) is named after the fingerprint of the images, their size and preprocessing, and the extractor: it is
        never stale. Several processes compute it together; the first one's cache counts.

        Raises:
            SnriseError: for a `limit` below 2, a file that cannot be written, or processes with other images.
        """
        require(limit >= 2, "Reference.limit", limit, "2 images or more")
        indices = dataset.spread(limit)
        prepared = dataset.preparation
        key = f"({LAYOUT}, {dataset.fingerprint!r}, {prepared}, {extractor.name!r}, {indices})"
        digest = hashlib.sha256(key.encode()).hexdigest()[:20]
        file = (home or cache_home() / "features") / f"{extractor.name}-{digest}.safetensors"
        world.agree("reference", {"images": digest})
        found = world.parts(_read(file) if world.leads else None)
        kept = found[0] if found else _compute(dataset, extractor, indices, watch, world)
        if not found:
            world.first(lambda: _keep(file, kept))
        return cls(dataset=dataset, extractor=extractor, indices=indices, **kept)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def statistics(self) -> Statistics:
        """What metrics compare."""
        return Statistics(extractor=self.extractor, features=self.features, power=self.power)


def _compute(
    dataset: ByIndex, extractor: Extractor, indices: range, watch: Callable[[int, int], None] | None, world: World
) -> dict[str, Tensor]:
    parts: list[Statistics] = []
    for first, firsts in world.rounds(range(0, len(indices), BATCH)):
        images = None if first is None else dataset.images(indices[first : first + BATCH])
        parts += Statistics.of_all(images, extractor, world)
        if watch is not None:
            watch(min(len(indices), firsts[-1] + BATCH), len(indices))
    whole = Statistics.joined(parts)
    return {"features": whole.features, "power": whole.power}


def _keep(file: Path, kept: dict[str, Tensor]) -> None:
    try:
        write_atomically(file, save(kept))
    except SnriseError:
        if _read(file) is None:  # else another process has written the same meanwhile
            raise


def _read(file: Path) -> dict[str, Tensor] | None:
    """The cached tensors, or None without an intact file."""
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None

