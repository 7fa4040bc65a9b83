"""Batches: an infinite stream, a pure function of (seed, position, batch size), with a cache of decoded images.

Decoding threads and processes use NumPy only: PyTorch would start a team of OpenMP threads for each, and they would
fight for the cores with those of the training step (measured on two busy cores: 50 ms a batch of 64×3×128×128 instead
of 10).
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from torch import Tensor

from snrise._errors import SnriseError, require
from snrise._typing import Labels, Size, StrEnum
from snrise.data.base import Batch, ByIndex
from snrise.data.order import order
from snrise.data.preprocess import Preprocess
from snrise.data.reading import read_image
from snrise.data.sources import Source
from snrise.data.store import Cache, InMemory, Nowhere, OnDisk, Store, cache_home
from snrise.data.streaming import Read, Reader, ahead, from_processes
from snrise.parallel import beside, share

#: Of the free space on disk, pixels take at most this share.
DISK_SHARE = 0.1


class Unreadable(StrEnum):
    """What to do about an image that cannot be read: stop the run, or substitute the next image."""

    STOP = "stop"
    SKIP = "skip"


@dataclass(frozen=True)
class Dataset(ByIndex):
    """A source of images, preprocessed to one size and batched.

    Each image is decoded once, on first use, and cached as uint8, 3·H·W bytes an image, if all fit where `cache` says;
    otherwise it is decoded every time, by `workers` processes. `batches` prefetches. Pickling drops the cache.

    Args:
        source: where images come from.
        preprocess: orientation, colour and size.
        flip: random horizontal flips with probability 1/2, in `batches` only.
        unreadable: whether an image that cannot be read is an error, or the next one takes its place; `skipped` then
            holds the reason by index.
        cache: where decoded pixels are kept.
        cache_bytes: memory for pixels, in bytes; what needs more is not kept in memory by `Cache.AUTO`.
        disk_bytes: the same on the disk, of whose free space `Cache.AUTO` takes a tenth at most.
        cache_folder: where files of pixels are; None is `cache_home()`.
        threads: decoders at a time in this process.
        workers: processes that decode where nothing is kept; None is one a core, up to 8; 0 uses threads.

    >>> from snrise.data import Emoji
    >>> dataset = Dataset(Emoji("class", only=("activities",)), Preprocess((16, 16)), flip=True)
    >>> batch = next(dataset.batches(4, seed=0))
    >>> batch.images.shape, batch.images.dtype, batch.labels, batch.position
    (torch.Size([4, 3, 16, 16]), torch.uint8, tensor([0, 0, 0, 0]), 0)
    """

    source: Source
    preprocess: Preprocess
    flip: bool = False
    _: KW_ONLY
    unreadable: Unreadable = Unreadable.STOP
    cache: Cache = Cache.AUTO
    cache_bytes: int = 2 * 1024**3
    disk_bytes: int = 16 * 1024**3
    cache_folder: Path | None = None
    threads: int = 4
    workers: int | None = None
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(len(self.source) >= 1, "Dataset.source", len(self.source), "at least 1 image")
        for name in ("cache_bytes", "disk_bytes"):
            require(getattr(self, name) >= 0, f"Dataset.{name}", getattr(self, name), "at least 0 bytes")
        require(self.threads >= 1, "Dataset.threads", self.threads, "at least 1")
        require(self.workers is None or self.workers >= 0, "Dataset.workers", self.workers, "at least 0, or None")

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def size(self) -> Size:
        """Height and width of every image."""
        return self.preprocess.size

    @property
    def preparation(self) -> str:
        """The settings of the preprocessing."""
        return repr(self.preprocess)

    @property
    def length(self) -> int:
        """How many images there are."""
        return len(self)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's class names."""
        return self.source.classes

    def name(self, index: int) -> str:
        """The source's name of an image."""
        return self.source.name(index)

    @property
    def bytes(self) -> int:
        """The size of all decoded images in bytes."""
        height, width = self.preprocess.size
        return len(self) * 3 * height * width

    @cached_property
    def cached(self) -> Cache:
        """Where decoded images are cached: `AUTO` resolved to memory, disk or none."""
        if self.cache is not Cache.AUTO:
            return self.cache
        if self.bytes <= self.cache_bytes:
            return Cache.MEMORY
        free = shutil.disk_usage(_existing(self.home)).free
        return Cache.DISK if self.bytes <= min(self.disk_bytes, DISK_SHARE * free) else Cache.NONE

    @property
    def home(self) -> Path:
        """The folder of on-disk caches."""
        return self.cache_folder or cache_home()

    @cached_property
    def fingerprint(self) -> str:
        """That of the source, computed once: it stats every file."""
        return self.source.fingerprint()

    @cached_property
    def store(self) -> Store:
        """The cache of decoded images."""
        match self.cached:
            case Cache.MEMORY:
                return InMemory(len(self), self.preprocess.size)
            case Cache.DISK:
                fingerprint = f"{self.fingerprint} pillow {pillow_version}"
                identity = f"{self.source!r} {self.preprocess!r}"
                return OnDisk(self.home, identity, fingerprint, len(self), self.preprocess.size)
            case _:
                return Nowhere()

    @cached_property
    def labels(self) -> Labels | None:
        """The class index of every image, int64 [n], or None without classes."""
        return None if self.source.labels is None else torch.tensor(self.source.labels, dtype=torch.int64)

    @property
    def class_count(self) -> int | None:
        """How many classes the source has; None where it has none."""
        return None if self.source.classes is None else len(self.source.classes)

    @cached_property
    def frequencies(self) -> tuple[float, ...] | None:
        """The frequency of each class, summing to 1; None without classes.

        Unless classes are requested, sampling draws labels from it.
        """
        if self.labels is None or self.source.classes is None:
            return None
        counts = torch.bincount(self.labels, minlength=len(self.source.classes))
        return tuple((counts.double() / len(self)).tolist())

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images, never mirrored: uint8 [k 3 H W].

        Raises:
            SnriseError: for an index outside 0 … len - 1, or an image that cannot be read (see `read_image`), unless
                such are skipped.
        """
        self._check(indices, "Dataset.images")
        return torch.from_numpy(self.fetch(indices)[0])

    def take(self, indices: Sequence[int]) -> Batch:
        """Some images, never mirrored, with their labels; errors as in `images`."""
        self._check(indices, "Dataset.take")
        pixels, actual = self.fetch(indices)
        labels = None if self.labels is None else self.labels[actual]
        return Batch(torch.from_numpy(pixels), labels, actual, position=0)

    def _check(self, indices: Sequence[int], where: str) -> None:
        for index in indices:
            require(0 <= index < len(self), where, index, f"an index from 0 to {len(self) - 1}")

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An infinite stream of batches of `batch` images, starting after `position` images.

        Each is a pure function of (seed, position, batch); the stream of images does not depend on the batch size: see
        `order` and `flips`.

        Raises:
            SnriseError: for batch < 1, seed < 0 or position < 0, at once; for an unreadable image, when it is reached.
        """
        require(batch >= 1, "Dataset.batches.batch", batch, "at least 1 image")
        return self._batches(Reader(self, batch, seed, range(batch)), position)

    def slices(self, batch: int, seed: int, position: int = 0, *, rank: int, size: int) -> Iterator[Batch]:
        """The slice of each of `batches` for process `rank` of `size`, of which nothing else is read."""
        return self._batches(Reader(self, batch, seed, share(batch, rank, size)), position)

    @property
    def _workers(self) -> int:
        return min(8, max(1, _cores() // beside())) if self.workers is None else self.workers

    def _batches(self, read: Reader, position: int) -> Iterator[Batch]:
        order(read.seed, position, 0, len(self))
        apart = self.cached is Cache.NONE and self._workers > 0
        return self._finished(read, from_processes(read, position, self._workers) if apart else ahead(read, position))

    def _finished(self, read: Reader, found: Iterator[Read]) -> Iterator[Batch]:
        for position, pixels, indices, skipped in found:
            self.skipped.update(skipped)
            labels = None if self.labels is None else self.labels[indices]
            yield Batch(pixels, labels, indices, position, begin=read.own.start, total=read.batch)

    def kept(self, indices: Sequence[int]) -> bool:
        """Whether some images, or their substitutes, are all cached, so that nothing needs decoding."""
        return all(self.store.has(self.instead(index)) for index in indices)

    def fetch(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], list[int]]:
        """Pixels [k 3 H W] and their indices: those requested, with substitutes for unreadable images."""
        actual, fresh = [self.instead(i) for i in indices], {}
        while missing := [i for i in dict.fromkeys(actual) if i not in fresh and not self.store.has(i)]:
            for index, got in zip(missing, self._decode(missing), strict=True):
                if isinstance(got, SnriseError):
                    self.skipped[index] = str(got)
                    continue
                self.store.put(index, got)
                if not self.store.has(index):
                    fresh[index] = got
            actual = [self.instead(i) for i in actual]
        if not fresh and actual:
            return np.asarray(self.store.gather(actual)), actual
        pixels = np.empty((len(actual), 3, *self.preprocess.size), dtype=np.uint8)
        for place, index in enumerate(actual):
            pixels[place] = fresh[index] if index in fresh else self.store.gather([index])[0]
        return pixels, actual

    def instead(self, index: int) -> int:
        """The image itself, or the next readable one, as far as is known."""
        for i in range(len(self)):
            following = (index + i) % len(self)
            if following not in self.skipped:
                return following
        raise SnriseError(f"data: none of the {len(self)} images can be read; the first: {self.skipped[0]}")

    def _decode(self, indices: Sequence[int]) -> list[NDArray[np.uint8] | SnriseError]:
        def pixels(index: int) -> NDArray[np.uint8] | SnriseError:
            try:
                return read_image(self.source, index, self.preprocess).numpy()
            except SnriseError as error:
                if self.unreadable is Unreadable.STOP:
                    raise
                return error

        if len(indices) < 2 or self.threads == 1:
            return [pixels(index) for index in indices]
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(pool.map(pixels, indices))


def _cores() -> int:
    """CPU cores available to this process, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _existing(folder: Path) -> Path:
    """The nearest existing ancestor of a folder, or the folder itself."""
    return next(f for f in (folder, *folder.absolute().parents) if f.exists())
