"""Data of the user's own: a map-style data set, or anything that yields images or batches of them, such as a loader.

>>> pictures = torch.zeros(10, 3, 8, 8, dtype=torch.uint8)
>>> data = as_data([(picture, number % 2) for number, picture in enumerate(pictures)])
>>> batch = next(data.batches(4, seed=0))
>>> batch.images.shape, batch.labels.shape, data.length
(torch.Size([4, 3, 8, 8]), torch.Size([4]), 10)
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from snrise._errors import SnriseError, invalid, require, unknown
from snrise._typing import Size, StrEnum, type_name
from snrise.data.dataset import Batch, ByIndex, Data
from snrise.data.order import order
from snrise.data.pixels import to_float, to_uint8
from snrise.data.sources import digest
from snrise.data.streaming import leave_interrupts

__all__ = ["Blank", "Indexed", "MapStyle", "Streamed", "Values", "as_data"]

#: How many items the fingerprint of a map-style data set looks at.
SEEN = 3


class Values(StrEnum):
    """What the numbers of floating-point images mean: 0 to 1, or −1 to 1. Those of uint8 say it themselves."""

    UNIT = "unit"
    SIGNED = "signed"


@runtime_checkable
class MapStyle(Protocol):
    """A map-style data set, as PyTorch calls it: items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Item(NamedTuple):
    """An image [3 h w] or several [b 3 h w] in −1…1, with labels and context vectors, if any."""

    images: Tensor
    labels: Tensor | None
    context: Tensor | None

    @property
    def many(self) -> bool:
        """Whether it is a batch."""
        return self.images.ndim == 4

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Item":
        """The same with each tensor changed."""
        labels, context = (None if t is None else change(t) for t in (self.labels, self.context))
        return Item(change(self.images), labels, context)


def as_data(data: Any) -> Data:
    """What training takes, from what users have.

    A data set of snrise's own is itself, one of map style (`len(data)`, `data[i]`) is `Indexed`, anything else that can
    be iterated over is `Streamed`: an iterable data set, a `DataLoader`. Items are an image, (image, label) or (image,
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
    """A map-style data set, in the order that snrise takes images in: a run on it resumes exactly.

    `values` says what floats mean, `classes` the names of labels (those in the data set's own `classes`, or numbers).
    Items are read by `workers` processes, 0 being this one.
    """

    items: MapStyle
    values: Values | str | None = None
    classes: tuple[str, ...] | None = None
    workers: int = 0
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_values(self.values, "Indexed.values")
        require(len(self.items) >= 1, "Indexed.items", len(self.items), "1 item or more")
        require(self.workers >= 0, "Indexed.workers", self.workers, "a whole number, 0 or more")
        names = getattr(self.items, "classes", None)
        if self.classes is None and isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
            object.__setattr__(self, "classes", tuple(names))

    def __len__(self) -> int:
        return len(self.items)

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images: uint8 [k 3 h w]."""
        return to_uint8(self.take(indices).images)

    def take(self, indices: Sequence[int]) -> Batch:
        """Some items."""
        item = _stacked([self[index] for index in indices])
        return Batch(item.images, item.labels, list(indices), 0, item.context)

    @property
    def preparation(self) -> str:
        """Their size: they come prepared."""
        return repr(self.size)

    def contexts(self, count: int) -> Tensor | None:
        """The context vectors of the first `count` items, from the beginning again if there are fewer: [count m d]."""
        found = [self[i % len(self)].context for i in range(count)]
        whole = [context for context in found if context is not None]
        return torch.stack(whole) if whole and len(whole) == count else None

    def __getitem__(self, index: int) -> Item:
        item = self.items[index]
        return _item(item, self.values, f"item {index} of {type(self.items).__name__}")

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
        """By the data set's own list of `targets`; without one, all classes count the same."""
        targets = getattr(self.items, "targets", None)
        if self.classes is None or targets is None or len(targets) != len(self.items):
            return super().frequencies
        return tuple((np.bincount(np.asarray(targets), minlength=len(self.classes)) / len(targets)).tolist())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its type, its length and of a few of its items."""
        n = len(self.items)
        chosen = sorted({i * (n - 1) // (SEEN - 1) for i in range(SEEN)})
        seen = [(i, self[i].images.numpy().tobytes()) for i in chosen]
        return digest([(type_name(self.items), n), *seen])

    def name(self, index: int) -> str:
        """Its number."""
        return f"item {index}"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An endless stream of batches, a pure function of (seed, position): see `order`."""
        require(batch >= 1, "Indexed.batches.batch", batch, "at least 1 image")
        starts = itertools.count(position, batch)
        chosen, again = itertools.tee((start, order(seed, start, batch, len(self.items))) for start in starts)
        loader: Any = torch.utils.data.DataLoader(
            self, batch_sampler=(indices for _, indices in chosen),  # type: ignore[arg-type]
            num_workers=self.workers, worker_init_fn=leave_interrupts, collate_fn=_stacked,
        )
        for (start, indices), item in zip(again, loader, strict=False):
            yield Batch(item.images, item.labels, indices, start, item.context)


@final
@dataclass(frozen=True, eq=False)
class Streamed(Data):
    """Images, or batches of them, from an iterable: a `DataLoader`, an iterable data set. Begun again when it ends.

    A run on it goes on where it was by passing over the images that it has seen, so it resumes exactly if the iterable
    yields the same in every process, and at all only if it can be iterated over more than once. `values` and `classes`
    are those of `Indexed`.
    """

    items: Iterable[Any]
    values: Values | str | None = None
    classes: tuple[str, ...] | None = None
    skipped: dict[int, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_values(self.values, "Streamed.values")

    @cached_property
    def _begun(self) -> tuple[Item, Iterator[Item]]:
        """The first item, and all of them."""
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
        """The name of its type: what it will yield is not known."""
        return type_name(self.items)

    def name(self, index: int) -> str:
        """Its number in the stream."""
        return f"image {index} of the stream"

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """Batches as cut from the stream, after those before `position` were passed over; the seed changes nothing."""
        require(batch >= 1, "Streamed.batches.batch", batch, "at least 1 image")
        kept: list[Item] = []
        there, passed = 0, position
        for item in self._endless():
            item = item if item.many else item.mapped(lambda t: t[None])
            if passed >= len(item.images):
                passed -= len(item.images)
                continue
            item, passed = _cut(item, passed, None), 0
            kept.append(item)
            there += len(item.images)
            while there >= batch:
                whole = _joined(kept)
                found, rest = _cut(whole, 0, batch), _cut(whole, batch, None)
                yield Batch(found.images, found.labels, [*range(position, position + batch)], position, found.context)
                position, there = position + batch, len(rest.images)
                kept = [rest] if there else []

    def _pass(self) -> Iterator[Item]:
        where = f"what {type(self.items).__name__} yields"
        return (_item(item, self.values, where) for item in self.items)

    def _endless(self) -> Iterator[Item]:
        """All items, the first pass being the one that was begun; and again, as long as there are any."""
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
        images = torch.rand(batch, 3, *self.size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        labels = None if self.classes is None else torch.zeros(batch, dtype=torch.int64)
        for at in itertools.count(position, batch):
            yield Batch(images, labels, [*range(batch)], at)


def _check_values(values: str | None, where: str) -> None:
    if values is not None and values not in tuple(Values):
        raise unknown(where, values, Values, "choice")


def _item(value: Any, values: str | None, where: str) -> Item:
    """An item as users give them: an image, (image, label), (image, label, context) or a mapping."""
    if isinstance(value, Mapping):
        parts: Sequence[Any] = [value.get(name) for name in ("image", "label", "context")]
    else:
        parts = value if isinstance(value, tuple | list) else (value,)
    if not 1 <= len(parts) <= 3:
        allowed = "an image, (image, label) or (image, label, context)"
        raise invalid("Experiment.data", f"{len(parts)} parts in {where}", allowed)
    image, label, context = (*parts, None, None)[:3]
    images = _images(image, values, where)
    labels = None if label is None else torch.as_tensor(label, dtype=torch.int64)
    return Item(images, labels, None if context is None else torch.as_tensor(context, dtype=torch.float32))


def _images(value: Any, values: str | None, where: str) -> Tensor:
    """Images in −1…1."""
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB")).transpose(2, 0, 1).copy()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise invalid("Experiment.data", f"{type(value).__name__} in {where}", "a tensor, an array or a picture")
    if value.ndim not in (3, 4) or value.shape[-3] != 3:
        allowed = "images of 3 channels, [3 h w] or [b 3 h w]"
        raise invalid("Experiment.data", f"{tuple(value.shape)} in {where}", allowed)
    if value.dtype == torch.uint8:
        return to_float(value)
    require(value.is_floating_point(), "Experiment.data", f"{value.dtype} in {where}", "uint8, or floats")
    if values is None:
        got = f"floats from {float(value.min()):.2f} to {float(value.max()):.2f} in {where}"
        allowed = "uint8, or floats of which it is said what they mean"
        raise invalid("Experiment.data", got, allowed, 'snrise.data.Indexed(data, values="unit") if they are 0 to 1')
    low = 0.0 if values == Values.UNIT else -1.0
    inside = low - 1e-3 <= float(value.min()) and float(value.max()) <= 1 + 1e-3
    told = f"{float(value.min()):.2f} to {float(value.max()):.2f} in {where}"
    require(inside, "Experiment.data", told, f"values from {low:g} to 1, as was said by values={str(values)!r}")
    return value.float() * 2 - 1 if values == Values.UNIT else value.float()


def _stacked(items: Sequence[Item]) -> Item:
    """Single items as one of many."""
    return _joined([item.mapped(lambda t: t[None]) for item in items])


def _joined(items: Sequence[Item]) -> Item:
    """Items of many as one."""
    first = items[0]
    for item in items:
        good = item.images.shape[1:] == first.images.shape[1:]
        sizes = [tuple(i.images.shape[1:]) for i in (first, item)]
        require(good, "Experiment.data", sizes, "images of one size")
    labels, contexts = ([t for t in part if t is not None] for part in list(zip(*items, strict=True))[1:])
    for name, found in (("labels", labels), ("context", contexts)):
        told = f"{len(found)} of {len(items)} items with {name}"
        require(len(found) in (0, len(items)), "Experiment.data", told, "all or none")
    return Item(
        torch.cat([item.images for item in items]), torch.cat(labels) if labels else None,
        torch.cat(contexts) if contexts else None,
    )


def _cut(item: Item, begin: int, end: int | None) -> Item:
    return item.mapped(lambda t: t[begin:end])
