"""Batches: an endless stream that is a pure function of (seed, position, batch size), kept decoded where that fits.

Decoding threads and processes use NumPy only: PyTorch would start a team of OpenMP threads for each, and they would
fight for the cores with those of the training step (measured on two busy cores: 50 ms a batch of 64×3×128×128 instead
of 10).
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from torch import Tensor

from snrise._errors import SnriseError, require
from snrise._typing import Images, Labels, Size, StrEnum
from snrise.data.order import order
from snrise.data.pixels import to_float
from snrise.data.preprocess import Preprocess
from snrise.data.reading import read_image
from snrise.data.sources import Source
from snrise.data.store import Cache, InMemory, Nowhere, OnDisk, Store, cache_home
from snrise.data.streaming import Read, Reader, ahead, from_processes

#: Of the free space on disk, pixels take at most this share.
DISK_SHARE = 0.1


class Unreadable(StrEnum):
    """What happens at an image that cannot be read: the run stops, or goes on with the next image instead."""

    STOP = "stop"
    SKIP = "skip"


class Batch(NamedTuple):
    """What a training step takes, on the CPU.

    images: float32 [b 3 h w] in -1…1. labels: int64 [b], or None without classes. indices: which images of the source.
    position: images seen before this batch; the next one is at `position + b`. context: vectors [b m d] that come with
    the images, such as embeddings of captions, or None.
    """

    images: Images
    labels: Labels | None
    indices: list[int]
    position: int
    context: Tensor | None = None


def evenly(classes: int) -> tuple[float, ...]:
    """The shares of so many classes of which nothing is known.

    >>> evenly(4)
    (0.25, 0.25, 0.25, 0.25)
    """
    return (1 / classes,) * classes


class Data(ABC):
    """What a run is trained on: batches by position, all of one size, and what is known of their images."""

    skipped: dict[int, str]
    """Why images were left out, by index."""

    @property
    @abstractmethod
    def size(self) -> Size:
        """Height and width of every image."""

    @property
    @abstractmethod
    def length(self) -> int | None:
        """How many images there are; None where that is not known."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...] | None:
        """Class names, which labels index; None without classes."""

    @property
    def frequencies(self) -> tuple[float, ...] | None:
        """The share of each class, summing to 1; None without classes. The same for all, where that is not known."""
        return None if self.classes is None else evenly(len(self.classes))

    def contexts(self, count: int) -> Tensor | None:
        """Context vectors of `count` images, to show or judge samples with: [count m d]; None where there are none."""
        return None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that differs when the data do."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What a report calls an image."""

    @abstractmethod
    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An endless stream of batches, starting after `position` images."""


class ByIndex(Data):
    """Data whose images can also be taken by index, in any order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def preparation(self) -> str:
        """How images are brought to their size, as a text: with the fingerprint it identifies the pixels."""

    @abstractmethod
    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images, never mirrored."""

    @abstractmethod
    def take(self, indices: Sequence[int]) -> Batch:
        """Some images, never mirrored, with their labels and context vectors."""


@dataclass(frozen=True)
class Dataset(ByIndex):
    """A source at one size, as batches.

    Each image is decoded once, when first asked for, and kept as uint8, 3·H·W bytes an image, if all fit where `cache`
    says; otherwise it is decoded each time, by `workers` processes. `batches` works ahead. A pickle leaves the kept
    pixels out.

    Args:
        source: where images come from.
        preprocess: how they come to one size.
        flip: whether `batches` mirrors half of the images, left to right, by a coin for each.
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
    (torch.Size([4, 3, 16, 16]), torch.float32, tensor([0, 0, 0, 0]), 0)
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
        """What the decoded pixels of all images take."""
        height, width = self.preprocess.size
        return len(self) * 3 * height * width

    @cached_property
    def cached(self) -> Cache:
        """Where pixels are kept in fact: memory, disk or none."""
        if self.cache is not Cache.AUTO:
            return self.cache
        if self.bytes <= self.cache_bytes:
            return Cache.MEMORY
        free = shutil.disk_usage(_existing(self.home)).free
        return Cache.DISK if self.bytes <= min(self.disk_bytes, DISK_SHARE * free) else Cache.NONE

    @property
    def home(self) -> Path:
        """The folder that files of pixels are in, where they are kept on disk."""
        return self.cache_folder or cache_home()

    @cached_property
    def fingerprint(self) -> str:
        """That of the source, as it was when first asked for: it looks at every file."""
        return self.source.fingerprint()

    @cached_property
    def store(self) -> Store:
        """The kept pixels."""
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
        """The share of each class among the images, summing to 1; None without classes.

        Sampling draws labels from it when asked for none.
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
        return Batch(to_float(torch.from_numpy(pixels)), labels, actual, position=0)

    def _check(self, indices: Sequence[int], where: str) -> None:
        for index in indices:
            require(0 <= index < len(self), where, index, f"an index from 0 to {len(self) - 1}")

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An endless stream of batches of `batch` images, starting after `position` images.

        Each is a pure function of (seed, position, batch), and a sequence of batches is one stream of images, however
        it is cut: see `order` and `flips`.

        Raises:
            SnriseError: for batch < 1, seed < 0 or position < 0, at once; for an unreadable image, when its turn comes.
        """
        require(batch >= 1, "Dataset.batches.batch", batch, "at least 1 image")
        order(seed, position, 0, len(self))
        read = Reader(self, batch, seed)
        apart = self.cached is Cache.NONE and self._workers > 0
        return self._finished(from_processes(read, position, self._workers) if apart else ahead(read, position))

    @property
    def _workers(self) -> int:
        return min(8, _cores()) if self.workers is None else self.workers

    def _finished(self, read: Iterator[Read]) -> Iterator[Batch]:
        for position, pixels, indices, skipped in read:
            self.skipped.update(skipped)
            labels = None if self.labels is None else self.labels[indices]
            yield Batch(images=to_float(pixels), labels=labels, indices=indices, position=position)

    def kept(self, indices: Sequence[int]) -> bool:
        """Whether all of some images, or those that take their places, are kept: whether nothing is to be decoded."""
        return all(self.store.has(self._instead(index)) for index in indices)

    def fetch(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], list[int]]:
        """Pixels [k 3 H W], and the images that they are: those asked for, unless some are skipped."""
        actual, fresh = [self._instead(i) for i in indices], {}
        while missing := [i for i in dict.fromkeys(actual) if i not in fresh and not self.store.has(i)]:
            for index, got in zip(missing, self._decode(missing), strict=True):
                if isinstance(got, SnriseError):
                    self.skipped[index] = str(got)
                    continue
                self.store.put(index, got)
                if not self.store.has(index):
                    fresh[index] = got
            actual = [self._instead(i) for i in actual]
        if not fresh and actual:
            return np.asarray(self.store.gather(actual)), actual
        pixels = np.empty((len(actual), 3, *self.preprocess.size), dtype=np.uint8)
        for place, index in enumerate(actual):
            pixels[place] = fresh[index] if index in fresh else self.store.gather([index])[0]
        return pixels, actual

    def _instead(self, index: int) -> int:
        """The image itself or, while that is known to be unreadable, the next."""
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
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _existing(folder: Path) -> Path:
    """The folder or the nearest above it that exists."""
    return next(f for f in (folder, *folder.absolute().parents) if f.exists())
