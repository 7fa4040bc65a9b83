"""The built-in images: 1,852 Fluent emoji with class, subclass and caption, for a first run without a download."""

import io
import json
import tarfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import final

from PIL import Image

from snrise._errors import require, unknown
from snrise.data.sources import SourceConfig, digest, fill, index_classes, open_image

_TAR = "builtin/fluent-emoji-3d.tar"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    key: str
    webp: bytes
    category: str
    subcategory: str
    caption: str


@lru_cache(maxsize=1)
def _entries() -> tuple[_Entry, ...]:
    """All of the tar (13 MB) in memory, sorted by key: so that threads need not share a file's position."""
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO((resources.files("snrise.data") / _TAR).read_bytes())) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                files[member.name] = content.read()
    keys = sorted(name.removesuffix(".json") for name in files if name.endswith(".json"))
    return tuple(_entry(key, files[f"{key}.webp"], json.loads(files[f"{key}.json"])) for key in keys)


def _entry(key: str, webp: bytes, about: dict[str, object]) -> _Entry:
    category, subcategory, caption = (str(about[field]) for field in ("class", "subclass", "caption"))
    return _Entry(key=key, webp=webp, category=category, subcategory=subcategory, caption=caption)


@lru_cache(maxsize=1)
def _categories() -> tuple[str, ...]:
    return tuple(sorted({entry.category for entry in _entries()}))


@final
@dataclass(frozen=True, kw_only=True)
class EmojiConfig(SourceConfig):
    """The settings of `Emoji`."""

    classes: str | None = None
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        good = self.classes in (None, "class", "subclass")
        require(good, "classes", self.classes, "class, subclass or null for emoji")

    def open(self) -> "Emoji":
        """The emoji."""
        return Emoji(self.classes, self.only)


@dataclass(frozen=True, init=False, repr=False)
class Emoji:
    """Microsoft's Fluent Emoji, 256×256 with transparency (RGBA), sorted by key (code points in hexadecimal).

    `classes` chooses the labels: `'class'` (9, such as `food-drink`), `'subclass'` (97, such as `food-fruit`) or none;
    the attribute `classes` then holds their names. `only` keeps the images of some of the 9 classes; empty keeps all.
    MIT: see `builtin/NOTICE.md` and `builtin/LICENSES.md`.

    Raises:
        SnriseError: for other `classes`, or a name in `only` that is no class.

    >>> source = Emoji("class", only=("food-drink", "animals-nature"))
    >>> len(source), source.classes
    (285, ('animals-nature', 'food-drink'))
    >>> source.name(0), source.caption(0), source.read(0).mode
    ('1f32d', 'hot dog', 'RGBA')
    """

    by: str | None
    only: tuple[str, ...]

    def __init__(self, classes: str | None = None, only: tuple[str, ...] = ()) -> None:
        if classes not in ("class", "subclass", None):
            raise unknown("Emoji.classes", classes, ["class", "subclass"], "label")
        for name in only:
            if name not in _categories():
                raise unknown("Emoji.only", name, _categories(), "class of emoji")
        fill(self, by=classes, only=tuple(only))

    def __repr__(self) -> str:
        return f"Emoji(classes={self.by!r}, only={self.only!r})"

    def __getstate__(self) -> dict[str, object]:
        return {"by": self.by, "only": self.only}  # without the images

    @cached_property
    def _kept(self) -> tuple[_Entry, ...]:
        return tuple(entry for entry in _entries() if not self.only or entry.category in self.only)

    @cached_property
    def _labelled(self) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
        match self.by:
            case None:
                return None
            case "class":
                return index_classes([entry.category for entry in self._kept])
            case _:
                return index_classes([entry.subcategory for entry in self._kept])

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The class index of each emoji."""
        return self._labelled[0] if self._labelled else None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes that `labels` index, in alphabetical order."""
        return self._labelled[1] if self._labelled else None

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, index: int) -> Image.Image:
        """The emoji as stored: RGBA, 256×256."""
        return open_image(self._kept[index].webp)

    def name(self, index: int) -> str:
        """Its key: the code points, such as `1f468-200d-1f680`."""
        return self._kept[index].key

    def caption(self, index: int) -> str:
        """Its English name, such as `man astronaut`."""
        return self._kept[index].caption

    def fingerprint(self) -> str:
        """A hash of keys, contents' sizes and labels (what is built in has no modification time)."""
        records = [(entry.key, len(entry.webp)) for entry in self._kept]
        return digest([*records, (self.labels, self.classes)])
