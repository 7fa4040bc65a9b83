"""Users' own data: map-style data sets, iterable ones, loaders, and any other iterable of images or batches.

>>> pictures = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
>>> data = as_data([(picture, number % 2) for number, picture in enumerate(pictures)])
>>> batch = next(data.batches(4, seed=0))
>>> batch.images.shape, batch.labels.shape, data.length
(torch.Size([4, 3, 8, 8]), torch.Size([4]), 10)
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._errors import SnriseError, invalid, require
from snrise._typing import Size, type_name
from snrise.data.base import Batch, ByIndex, Data
from snrise.data.items import Item, Values, check_values, cut, item_of, joined, stacked
from snrise.data.order import order
from snrise.data.pixels import as_uint8
from snrise.data.sources import Source, SourceConfig, digest
from snrise.data.streaming import leave_interrupts
from snrise.parallel import share

__all__ = ["ExternalConfig", "Indexed", "MapStyle", "Streamed", "as_data"]

#: How many items the fingerprint of a map-style data set looks at.
SEEN = 3


@final
@dataclass(frozen=True, kw_only=True)
class ExternalConfig(SourceConfig):
    """What a run's settings record of data given in Python: the name of their type."""

    path: str
    classes: str | None = None

    def open(self) -> Source:
        """Raise: the data have to be given again."""
        raise invalid(
            "config.data.source", f"external, {self.path}", "data that the settings say how to find",
            "give the data in Python, as to snrise.Experiment or snrise.evaluate: data=…",
        )


@runtime_checkable
class MapStyle(Protocol):
    """A map-style data set, as PyTorch calls it: items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def as_data(data: Any) -> Data:
    """Adapt users' data to the interface `Data`.

    A `Data` is returned as it is; a map-style data set (`len(data)`, `data[i]`) becomes `Indexed`, any other iterable
    (an iterable data set, a `DataLoader`) `Streamed`. Items are an image, (image, label) or (image,
    label, context), or a mapping with such keys; an image is a uint8 tensor [3 h w] or a picture of Pillow's. Floats
    are ambiguous: wrap them, `Indexed(data, values="unit")`.

    Raises:
        SnriseError: for what is none of these.
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, MapStyle) and not isinstance(data, torch.utils.data.IterableDataset):
        return Indexed(data)
    if isinstance(data, Iterable):
        return Streamed(data)
    allowed = "a data set of snrise.data, a map-style data set, or an iterable of images"
    raise invalid("Experiment.data", type(data).__name__, allowed)


@final
@dataclass(frozen=True, eq=False)
class Indexed(ByIndex):
    """A map-style data set, shuffled by snrise: runs on it resume exactly.

    `values` is the range of floating-point images, `classes` the class names (default: the data set's attribute
    `classes`). Items are read by `workers` processes; 0 is the main process.
    """

    items: MapStyle
    values: Values | str | None = None
    classes: tuple[str, ...] | None = None
    workers: int = 0
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_values(self.values, "Indexed.values")
        require(len(self.items) >= 1, "Indexed.items", len(self.items), "1 item or more")
        require(self.workers >= 0, "Indexed.workers", self.workers, "a whole number, 0 or more")
        names = getattr(self.items, "classes", None)
        if self.classes is None and isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
            object.__setattr__(self, "classes", tuple(names))

    def __len__(self) -> int:
        return len(self.items)

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images: uint8 [k 3 h w]."""
        return as_uint8(self.take(indices).images)

    def take(self, indices: Sequence[int]) -> Batch:
        """Some items."""
        item = stacked([self[index] for index in indices])
        return Batch(item.images, item.labels, list(indices), 0, item.context)

    @property
    def preparation(self) -> str:
        """Their size: they come prepared."""
        return repr(self.size)

    def contexts(self, count: int) -> Tensor | None:
        """Context vectors [count m d] of the first `count` items, repeated if there are fewer."""
        contexts = [context for i in range(count) if (context := self[i % len(self)].context) is not None]
        return torch.stack(contexts) if contexts and len(contexts) == count else None

    def __getitem__(self, index: int) -> Item:
        item = self.items[index]
        return item_of(item, self.values, f"item {index} of {type(self.items).__name__}")

    @cached_property
    def size(self) -> Size:
        """That of the first image."""
        height, width = self[0].images.shape[-2:]
        return height, width

    @property
    def length(self) -> int:
        """How many items there are."""
        return len(self.items)

    @cached_property
    def frequencies(self) -> tuple[float, ...] | None:
        """From the data set's attribute `targets`; equal without it."""
        targets = getattr(self.items, "targets", None)
        if self.classes is None or targets is None or len(targets) != len(self.items):
            return super().frequencies
        return tuple((np.bincount(np.asarray(targets), minlength=len(self.classes)) / len(targets)).tolist())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its type, its length and a few of its items."""
        n = len(self.items)
        chosen = sorted({i * (n - 1) // (SEEN - 1) for i in range(SEEN)})
        seen = [(i, self[i].images.numpy().tobytes()) for i in chosen]
        return digest([(type_name(self.items), n), *seen])

    def name(self, index: int) -> str:
        """Its number."""
        return f"item {index}"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An infinite stream of batches, a pure function of (seed, position): see `order`."""
        require(batch >= 1, "Indexed.batches.batch", batch, "at least 1 image")
        return self._batches(batch, seed, position, range(batch))

    def slices(self, batch: int, seed: int, position: int = 0, *, rank: int, size: int) -> Iterator[Batch]:
        """The slice of each of `batches` for process `rank` of `size`, of which nothing else is read."""
        return self._batches(batch, seed, position, share(batch, rank, size))

    def _batches(self, batch: int, seed: int, position: int, own: range) -> Iterator[Batch]:
        n, starts = len(self.items), itertools.count(position, batch)
        chosen, again = itertools.tee((start, order(seed, start + own.start, len(own), n)) for start in starts)
        loader: Any = torch.utils.data.DataLoader(
            self, batch_sampler=(indices for _, indices in chosen),  # type: ignore[arg-type]
            num_workers=self.workers, worker_init_fn=leave_interrupts, collate_fn=stacked,
        )
        for (start, indices), item in zip(again, loader, strict=False):
            yield Batch(item.images, item.labels, indices, start, item.context, own.start, batch)


@final
@dataclass(frozen=True, eq=False)
class Streamed(Data):
    """Images or batches from an iterable, such as a `DataLoader` or iterable data set; restarted at its end.

    A run resumes by skipping the images that it has seen: exactly, if the iterable yields the same sequence every time.
    It must be possible to iterate over it more than once. `values` and `classes`
    are those of `Indexed`.
    """

    items: Iterable[Any]
    values: Values | str | None = None
    classes: tuple[str, ...] | None = None
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_values(self.values, "Streamed.values")

    @cached_property
    def _begun(self) -> tuple[Item, Iterator[Item]]:
        """The first item, and an iterator over all items."""
        items = self._pass()
        first = next(items, None)
        if first is None:
            raise invalid("Experiment.data", f"a {type(self.items).__name__} of no items", "one that yields images")
        return first, itertools.chain([first], items)

    @cached_property
    def size(self) -> Size:
        """That of the first image."""
        height, width = self._begun[0].images.shape[-2:]
        return height, width

    @property
    def length(self) -> None:
        """Not known."""

    @property
    def fingerprint(self) -> str:
        """The name of its type: its items cannot be known in advance."""
        return type_name(self.items)

    def name(self, index: int) -> str:
        """Its number in the stream."""
        return f"image {index} of the stream"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """Batches of the stream, skipping its first `position` images; the seed has no effect."""
        require(batch >= 1, "Streamed.batches.batch", batch, "at least 1 image")
        kept: list[Item] = []
        there, passed = 0, position
        for item in self._endless():
            item = item if item.many else item.mapped(lambda t: t[None])
            if passed >= len(item.images):
                passed -= len(item.images)
                continue
            item, passed = cut(item, passed, None), 0
            kept.append(item)
            there += len(item.images)
            while there >= batch:
                whole = joined(kept)
                first, rest = cut(whole, 0, batch), cut(whole, batch, None)
                yield Batch(first.images, first.labels, [*range(position, position + batch)], position, first.context)
                position, there = position + batch, len(rest.images)
                kept = [rest] if there else []

    def _pass(self) -> Iterator[Item]:
        where = f"what {type(self.items).__name__} yields"
        return (item_of(item, self.values, where) for item in self.items)

    def _endless(self) -> Iterator[Item]:
        """All items, pass after pass; the first is the pass that `_begun` started."""
        begun = self.__dict__.pop("_begun", None)
        yield from self._pass() if begun is None else begun[1]
        while True:
            empty = True
            for item in self._pass():
                empty = False
                yield item
            if empty:
                raise SnriseError(
                    f"Experiment.data: the {type(self.items).__name__} has ended and cannot be iterated over again; "
                    "allowed: an iterable that begins anew each time, or that never ends"
                )
