"""Items of users' data sets and loaders, normalised: images, labels and context vectors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from snrise._errors import invalid, require, unknown
from snrise._typing import StrEnum

__all__ = ["Item", "Values", "check_values", "cut", "item_of", "joined", "stacked"]


class Values(StrEnum):
    """The range of floating-point images: 0 to 1, or −1 to 1. uint8 images are 0 to 255."""

    UNIT = "unit"
    SIGNED = "signed"


class Item(NamedTuple):
    """An image [3 h w] or several [b 3 h w], uint8 or floats in −1…1, with labels and context vectors, if any."""

    images: Tensor
    labels: Tensor | None
    context: Tensor | None

    @property
    def many(self) -> bool:
        """Whether it is a batch of images."""
        return self.images.ndim == 4

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Item":
        """The item with a function applied to each tensor."""
        labels, context = (None if t is None else change(t) for t in (self.labels, self.context))
        return Item(change(self.images), labels, context)


def check_values(values: str | None, where: str) -> None:
    """Raise unless it is one of `Values`, or None."""
    if values is not None and values not in tuple(Values):
        raise unknown(where, values, Values, "choice")


def item_of(value: Any, values: str | None, where: str) -> Item:
    """Normalise an item: an image, (image, label), (image, label, context) or a mapping."""
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
    """Images as uint8, or as floats in −1…1; grey ones as RGB."""
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB")).transpose(2, 0, 1).copy()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise invalid("Experiment.data", f"{type(value).__name__} in {where}", "a tensor, an array or a picture")
    if value.ndim not in (3, 4) or value.shape[-3] not in (1, 3):
        allowed = "images of 3 channels, or of 1, [3 h w] or [b 3 h w]"
        raise invalid("Experiment.data", f"{tuple(value.shape)} in {where}", allowed)
    images = value.expand(*value.shape[:-3], 3, *value.shape[-2:])
    if images.dtype == torch.uint8:
        return images
    require(images.is_floating_point(), "Experiment.data", f"{images.dtype} in {where}", "uint8, or floats")
    low, high = float(images.min()), float(images.max())
    extent = f"{low:.2f} to {high:.2f} in {where}"
    if values is None:
        allowed = "uint8, or floats of which it is said what they mean"
        fix = 'snrise.data.Indexed(data, values="unit") if they are 0 to 1'
        raise invalid("Experiment.data", f"floats from {extent}", allowed, fix)
    bottom = 0.0 if values == Values.UNIT else -1.0
    inside = bottom - 1e-3 <= low and high <= 1 + 1e-3
    require(inside, "Experiment.data", extent, f"values from {bottom:g} to 1, as was said by values={str(values)!r}")
    return images.float() * 2 - 1 if values == Values.UNIT else images.float()


def stacked(items: Sequence[Item]) -> Item:
    """Collate single items into a batch."""
    return joined([item.mapped(lambda t: t[None]) for item in items])


def joined(items: Sequence[Item]) -> Item:
    """Concatenate batches."""
    first = items[0]
    for item in items:
        good = item.images.shape[1:] == first.images.shape[1:]
        sizes = [tuple(i.images.shape[1:]) for i in (first, item)]
        require(good, "Experiment.data", sizes, "images of one size")
    labels, contexts = ([t for t in part if t is not None] for part in list(zip(*items, strict=True))[1:])
    for name, tensors in (("labels", labels), ("context", contexts)):
        got = f"{len(tensors)} of {len(items)} items with {name}"
        require(len(tensors) in (0, len(items)), "Experiment.data", got, "all or none")
    return Item(
        torch.cat([item.images for item in items]), torch.cat(labels) if labels else None,
        torch.cat(contexts) if contexts else None,
    )


def cut(item: Item, begin: int, end: int | None) -> Item:
    """A slice of a batch."""
    return item.mapped(lambda t: t[begin:end])
