"""Splitting a source into training images and held-out images."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import final

from PIL import Image

from snrise._errors import require
from snrise.data.sources import Source, digest

__all__ = ["Part"]


@final
@dataclass(frozen=True)
class Part:
    """The held-out images of a source, every n-th; or the remaining ones, for training.

    Class indices are those of the whole source in both parts.

    >>> from snrise.data import Emoji
    >>> len(Emoji()), len(Part(Emoji(), 10, held_out=True)), len(Part(Emoji(), 10, held_out=False))
    (1852, 185, 1667)
    """

    source: Source
    every: int
    _: KW_ONLY
    held_out: bool

    def __post_init__(self) -> None:
        count = len(self.source)
        require(2 <= self.every <= count, "Part.every", self.every, f"a whole number from 2 to the {count} images")

    def _index(self, index: int) -> int:
        return self.every * (index + 1) - 1 if self.held_out else index + index // (self.every - 1)

    def __len__(self) -> int:
        held_out = len(self.source) // self.every
        return held_out if self.held_out else len(self.source) - held_out

    @cached_property
    def labels(self) -> tuple[int, ...] | None:
        """The class index of each image."""
        labels = self.source.labels
        return None if labels is None else tuple(labels[self._index(i)] for i in range(len(self)))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the whole source."""
        return self.source.classes

    def read(self, index: int) -> Image.Image:
        """The image in the mode its file has."""
        return self.source.read(self._index(index))

    def name(self, index: int) -> str:
        """The source's name of it."""
        return self.source.name(self._index(index))

    def fingerprint(self) -> str:
        """The source's, and which part."""
        return digest([(self.every, self.held_out, self.source.fingerprint())])
