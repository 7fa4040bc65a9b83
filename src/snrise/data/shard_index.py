"""The index of tar shards: where each image stands in them, listed once and kept in a file."""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from snrise._errors import SnriseError, invalid
from snrise.data.folder import suffixes
from snrise.data.sources import index_classes
from snrise.data.store import cache_home
from snrise.files import in_turn, write_atomically

__all__ = ["Index", "Shard", "indexed"]

#: Raised when the file below changes its meaning.
LAYOUT = 1
#: Shards that are listed at a time: on a mounted folder that is waiting, not work.
THREADS = 8


class Shard(NamedTuple):
    """A tar file: its path from the shards' folder, size in bytes, time of modification in ns, and images in it."""

    path: str
    size: int
    modified: int
    images: int = 0


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


class _Listed(NamedTuple):
    """The images of a shard: their members, and the names of their classes."""

    images: Sequence[_Member]
    classes: Sequence[str]


@final
@dataclass(frozen=True, eq=False)
class Index:
    """Where the images of shards stand, about 50 bytes for each.

    places: offset and size, [n 2]. names: of their members, UTF-8, one behind the other, each until its `ends`.
    labels: class indices, or None.
    """

    shards: tuple[Shard, ...]
    places: NDArray[np.int64]
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    labels: NDArray[np.int32] | None
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, shards: Sequence[Shard], listed: Sequence[_Listed], labelled: bool) -> "Index":
        """The index of shards that have been listed."""
        images = [image for one in listed for image in one.images]
        names = [image.name.encode("utf-8", "surrogateescape") for image in images]
        labels, classes = index_classes([name for one in listed for name in one.classes])
        return cls(
            shards=tuple(shard._replace(images=len(one.images)) for shard, one in zip(shards, listed, strict=True)),
            places=np.array([(image.offset, image.size) for image in images], np.int64).reshape(-1, 2),
            names=np.frombuffer(b"".join(names), np.uint8), ends=np.cumsum([len(n) for n in names], dtype=np.int64),
            labels=np.array(labels, np.int32) if labelled else None, classes=classes if labelled else None,
        )

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """The name of an image's member."""
        first = int(self.ends[index - 1]) if index else 0
        return self.names[first : int(self.ends[index])].tobytes().decode("utf-8", "surrogateescape")

    def listed(self) -> Iterator[tuple[Shard, _Listed]]:
        """Each shard, its number of images left out, and what it holds."""
        first, classes = 0, self.classes or ()
        for shard in self.shards:
            own = slice(first, first := first + shard.images)
            images = [_Member(self.name(i), *self.places[i].tolist()) for i in range(own.start, own.stop)]
            labels = [] if self.labels is None else self.labels[own].tolist()
            yield shard._replace(images=0), _Listed(images, [classes[label] for label in labels])

    def fits(self, shards: Sequence[Shard]) -> bool:
        """Whether it is that of these files as they are now."""
        return [shard._replace(images=0) for shard in self.shards] == [*shards]

    def packed(self) -> bytes:
        """As a file of safetensors."""
        tensors: dict[str, NDArray[Any]] = {"places": self.places, "names": self.names, "ends": self.ends}
        if self.labels is not None:
            tensors["labels"] = self.labels
        about = json.dumps({"layout": LAYOUT, "shards": self.shards, "classes": self.classes})
        return bytes(save(tensors, {"about": about, "checksum": _checksum(about, tensors)}))

    @classmethod
    def unpacked(cls, path: Path) -> "Index | None":
        """From such a file; None if there is none, or it is damaged or of another version."""
        try:
            with safe_open(path, "np") as file:
                metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(metadata["about"])
            if about["layout"] != LAYOUT or metadata["checksum"] != _checksum(metadata["about"], tensors):
                return None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        classes = about["classes"] and tuple(about["classes"])
        return cls(tuple(Shard(*one) for one in about["shards"]), tensors["places"], tensors["names"], tensors["ends"],
                   tensors.get("labels"), classes)


def indexed(folder: Path, pattern: str, shards: Sequence[Path], by: str | None) -> Index:
    """The index of the shards in a folder that a pattern means, with classes as `Shards` has them.

    It is kept in a hidden file of that folder, or in `cache_home()` where that cannot be written. Shards whose size or
    time of modification is not that of the index are listed anew. Of processes that ask at once, one lists.

    Raises:
        SnriseError: if a shard cannot be read, or an image has no label.
    """
    try:
        now = [Shard(path.relative_to(folder).as_posix(), (s := path.stat()).st_size, s.st_mtime_ns) for path in shards]
    except OSError as error:
        raise SnriseError(f"{error.filename}: cannot be read: {error.strerror}") from error
    files = _files(folder, pattern, by)
    if (found := _fitting(files, now)) is not None:
        return found
    with in_turn(folder):
        if (found := _fitting(files, now)) is not None:  # another process has listed them meanwhile
            return found
        old = dict(pair for index in map(Index.unpacked, files) if index is not None for pair in index.listed())
        with ThreadPoolExecutor(THREADS) as pool:
            listed = pool.map(lambda shard: old[shard] if shard in old else _list(folder / shard.path, by), now)
            index = Index.of(now, [*listed], by is not None)
        for file in files:
            try:
                write_atomically(file, index.packed(), shared=True)
                break
            except SnriseError:  # a folder that cannot be written: the next; without any, shards are listed every time
                continue
    return index


def _files(folder: Path, pattern: str, by: str | None) -> tuple[Path, Path]:
    """Where an index may be kept: beside the shards, or among the caches."""
    name = f"{_short(f'{pattern} {by}')}.safetensors"
    return folder / f".snrise-index-{name}", cache_home() / f"index-{_short(str(folder.resolve()))}-{name}"


def _fitting(files: Sequence[Path], shards: Sequence[Shard]) -> Index | None:
    return next((index for index in map(Index.unpacked, files) if index is not None and index.fits(shards)), None)


def _list(shard: Path, by: str | None) -> _Listed:
    """The images of a shard, and their classes."""
    images: list[_Member] = []
    names: list[str] = []
    formats = {suffix.removeprefix(".") for suffix in suffixes()}
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            for key, members in _samples(tar).items():
                image = next((m for suffix, m in members.items() if suffix.rpartition(".")[2] in formats), None)
                if image is not None:
                    images.append(image)
                    if by is not None:
                        names.append(_label(shard, file, key, members, by))
    except (tarfile.TarError, OSError) as error:
        cause = getattr(error, "strerror", None) or "not a whole, uncompressed tar file"
        raise SnriseError(f"{shard}: cannot be read: {cause}") from error
    return _Listed(images, names)


def _samples(tar: tarfile.TarFile) -> dict[str, dict[str, _Member]]:
    """The members of a shard by key, then by suffix."""
    samples: dict[str, dict[str, _Member]] = {}
    for member in tar:
        name = PurePosixPath(member.name).name
        if member.isfile() and not name.startswith("."):
            first, _, suffix = name.partition(".")
            found = _Member(member.name, member.offset_data, member.size)
            samples.setdefault(str(PurePosixPath(member.name).with_name(first)), {})[suffix.lower()] = found
    return samples


def _label(shard: Path, file: BinaryIO, key: str, members: dict[str, _Member], by: str) -> str:
    """The name of a sample's class."""
    suffix = "cls" if by == "cls" else "json"
    where = f"{shard}:{key}.{suffix}"
    if suffix not in members:
        raise invalid(where, "no such member", "a label for every image", "or data.classes=null")
    file.seek(members[suffix].offset)
    text = file.read(members[suffix].size).decode("utf-8", errors="replace").strip()
    if by == "cls":
        return text
    try:
        entries = json.loads(text)
        value = entries[by]
    except (ValueError, KeyError, TypeError):
        known = ", ".join(sorted(entries)) if "entries" in locals() and isinstance(entries, dict) else "none"
        raise invalid(where, f"no entry {by!r}", f"one of its entries: {known}") from None
    return str(value)


def _checksum(about: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    total = zlib.crc32(about.encode())
    for name in sorted(tensors):
        total = zlib.crc32(np.ascontiguousarray(tensors[name]).data, total)
    return f"{total:08x}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
