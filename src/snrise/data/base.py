"""The interface between data and training: batches by position, and the data set's metadata."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._typing import Images, Labels, Pictures, Size
from snrise.parallel import share

__all__ = ["Batch", "Blank", "ByIndex", "Data", "evenly", "numbered"]


class Batch(NamedTuple):
    """What a training step takes, on the CPU.

    images: uint8 [b 3 h w], or floats in −1…1, as the data set yields them; a codec encodes them on the
    device. labels: int64 [b], or None without classes. indices: which images of the source.
    position: images seen before this batch; the next one is at `position + b`. context: vectors [b m d] that come with
    the images, such as embeddings of captions, or None.

    Where several processes share a batch of `total` images, this one holds those from `begin` on, and the next batch is
    at `position + total`; None where these are all. `encoded`: images are what the codec makes of them already.
    """

    images: Pictures | Images
    labels: Labels | None
    indices: list[int]
    position: int
    context: Tensor | None = None
    begin: int = 0
    total: int | None = None
    encoded: bool = False

    @property
    def whole(self) -> int:
        """The number of images of the whole batch."""
        return len(self.images) if self.total is None else self.total

    @property
    def own(self) -> slice:
        """Where in the whole batch the images are."""
        return slice(self.begin, self.begin + len(self.images))

    def of(self, rank: int, size: int) -> "Batch":
        """The slice of a whole batch for process `rank` of `size`."""
        chosen = share(len(self.images), rank, size)
        own = slice(chosen.start, chosen.stop)
        labels, context = (None if t is None else t[own] for t in (self.labels, self.context))
        images, indices = self.images[own], self.indices[own]
        return Batch(images, labels, indices, self.position, context, chosen.start, len(self.images), self.encoded)


def evenly(classes: int) -> tuple[float, ...]:
    """Equal class frequencies.

    >>> evenly(4)
    (0.25, 0.25, 0.25, 0.25)
    """
    return (1 / classes,) * classes


def numbered(classes: int) -> tuple[str, ...]:
    """Names for classes that have none: their numbers.

    >>> numbered(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(classes)))


class Data(ABC):
    """A data set to train on: images of one size in batches by position, and its metadata."""

    skipped: dict[int, str]
    """The reason for each image that could not be read, by index."""

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
        """The frequency of each class, summing to 1; None without classes. Equal where they are unknown."""
        return None if self.classes is None else evenly(len(self.classes))

    @property
    def context(self) -> tuple[int, int] | None:
        """The shape [m d] of an image's context vectors; None without context."""
        first = self.contexts(1)
        return None if first is None else (first.shape[1], first.shape[2])

    def contexts(self, count: int) -> Tensor | None:
        """Context vectors [count m d] to condition samples on, for grids and evaluation; None without context."""
        return None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A string that changes when the data change."""

    @abstractmethod
    def name(self, index: int) -> str:
        """An identifier of an image for reports."""

    @abstractmethod
    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An endless stream of batches, starting after `position` images."""

    def slices(self, batch: int, seed: int, position: int = 0, *, rank: int, size: int) -> Iterator[Batch]:
        """The slice of each of `batches` for process `rank` of `size`.

        Cut from whole batches, unless a data set can read its slice alone; the batches must be the same in every
        process.
        """
        return (whole.of(rank, size) for whole in self.batches(batch, seed, position))


class ByIndex(Data):
    """Data whose images can also be taken by index, in any order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def preparation(self) -> str:
        """The preprocessing as a text, which with the fingerprint identifies the pixels."""

    @abstractmethod
    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images, never flipped."""

    @abstractmethod
    def take(self, indices: Sequence[int]) -> Batch:
        """Some images, never flipped, with their labels and context vectors."""

    def spread(self, most: int) -> range:
        """The numbers of at most so many images, at equal distances over all of them."""
        return range(0, len(self), -(-len(self) // most))


@final
@dataclass(frozen=True)
class Blank(Data):
    """Random images of any size, to time or plan a training step with, with labels and context vectors as asked.

    With `codes`, the shape of a code, they are random codes.
    """

    size: Size = (64, 64)
    classes: tuple[str, ...] | None = None
    context: tuple[int, int] | None = None
    codes: tuple[int, int, int] | None = None
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def length(self) -> None:
        """Unbounded."""

    @property
    def fingerprint(self) -> str:
        """Constant."""
        return "noise"

    def name(self, index: int) -> str:
        """Its number."""
        return f"noise {index}"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """The same batch of images, repeated."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (batch, 3, *self.size), generator=generator, dtype=torch.uint8)
        if self.codes is not None:
            images = torch.randn(batch, *self.codes, generator=generator)
        labels = None if self.classes is None else torch.zeros(batch, dtype=torch.int64)
        for at in itertools.count(position, batch):
            yield Batch(
                images, labels, [*range(batch)], at, self.contexts(batch), encoded=self.codes is not None
            )

    def contexts(self, count: int) -> Tensor | None:
        """Zeros."""
        return None if self.context is None else torch.zeros(count, *self.context)


