"""Sources of images: their interface, and the fingerprint that identifies one."""

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Protocol, runtime_checkable

from PIL import Image

_OPENING = threading.Lock()


@runtime_checkable
class Source(Protocol):
    """A fixed list of images, indexed from 0, unprocessed: no resizing, no colour conversion.

    `labels` holds a class index per image and `classes` the class names; both are None where there are no classes.
    `read` may be called from several threads.
    """

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The class index of each image."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names; `labels` index them."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image.Image:
        """The image in its file's mode, possibly not decoded yet."""

    def name(self, index: int) -> str:
        """An identifier for reports: a file's path, an emoji's key."""

    def fingerprint(self) -> str:
        """A hash of names, sizes, modification times and labels, which changes when the data change."""


class SourceConfig(ABC):
    """A frozen dataclass whose fields are a source's settings, among them where labels come from (None: no labels)."""

    classes: str | None

    @abstractmethod
    def open(self) -> Source:
        """The source: the images are listed now, and read on demand.

        Raises:
            SnriseError: if there are no such images.
        """


def open_image(data: bytes) -> Image.Image:
    """An encoded image, its header read and its pixels not yet decoded.

    Pillow's own guard against decompression bombs is one global number for the whole process; it is lifted while the
    header is read, because `Preprocess.max_pixels` decides per dataset, before any pixel is decoded.

    Raises:
        OSError: if the data are empty or of no format that Pillow knows.
    """
    if not data:
        raise OSError("zero bytes")
    with _OPENING:
        guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(BytesIO(data))
        finally:
            Image.MAX_IMAGE_PIXELS = guard


def fill(frozen: object, **values: object) -> None:
    """Set the fields of a frozen dataclass with a custom constructor."""
    for name, value in values.items():
        object.__setattr__(frozen, name, value)


def index_classes(names: Sequence[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """A class name per image -> (a class index per image, the class names in alphabetical order).

    >>> index_classes(["dog", "cat", "dog"])
    ((1, 0, 1), ('cat', 'dog'))
    """
    classes = tuple(sorted(set(names)))
    index = {name: i for i, name in enumerate(classes)}
    return tuple(index[name] for name in names), classes


def digest(records: Iterable[tuple[object, ...]]) -> str:
    """A SHA-256 over records, 64 hexadecimal digits.

    >>> digest([("a.png", 10)]) == digest([("a.png", 10)]) != digest([("a.png", 11)])
    True
    """
    sha = hashlib.sha256()
    for record in records:
        sha.update(repr(record).encode() + b"\n")
    return sha.hexdigest()
