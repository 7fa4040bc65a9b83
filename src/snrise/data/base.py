"""Batches, and what a run asks of its data, wherever they come from."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, final

import torch
from torch import Tensor

from snrise._typing import Labels, Pictures, Size

__all__ = ["Batch", "Blank", "Data", "evenly"]


class Batch(NamedTuple):
    """What a training step takes, on the CPU.

    images: uint8 [b 3 h w], or floats in −1…1, as the data have them: a codec turns them to what is diffused, on the
    device. labels: int64 [b], or None without classes. indices: which images of the source.
    position: images seen before this batch; the next one is at `position + b`. context: vectors [b m d] that come with
    the images, such as embeddings of captions, or None.
    """

    images: Pictures
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


@final
@dataclass(frozen=True)
class Blank(Data):
    """Noise instead of images, of any size, to time or to plan a step with; with labels if there are `classes`."""

    size: Size = (64, 64)
    classes: tuple[str, ...] | None = None
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def length(self) -> None:
        """There is no end of them."""

    @property
    def fingerprint(self) -> str:
        """The same always."""
        return "noise"

    def name(self, index: int) -> str:
        """Its number."""
        return f"noise {index}"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """The same images again and again."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(256, (batch, 3, *self.size), generator=generator, dtype=torch.uint8)
        labels = None if self.classes is None else torch.zeros(batch, dtype=torch.int64)
        for at in itertools.count(position, batch):
            yield Batch(images, labels, [*range(batch)], at)


