"""WebDataset shards: tar files of images and what belongs to them, read at random so that the order of data is free."""

import glob
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple, final

from PIL import Image

from snrise._errors import SnriseError, invalid
from snrise.data.folder import suffixes
from snrise.data.sources import SourceConfig, digest, fill, index_classes, open_image

__all__ = ["Shards", "ShardsConfig"]


class _Place(NamedTuple):
    """Where bytes stand: which shard, the member's name, from where, how many."""

    shard: Path
    member: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@final
@dataclass(frozen=True, kw_only=True)
class ShardsConfig(SourceConfig):
    """The settings of `Shards`."""

    path: str = field(metadata={"missing": "say where the shards are: --data X.tar"})
    classes: str | None = None

    def open(self) -> "Shards":
        """The shards, listed."""
        return Shards(self.path, self.classes)


@dataclass(frozen=True, init=False, repr=False)
class Shards:
    """The images in tar files, in their order; members that share all up to the first dot belong together.

    `path` is a tar file, a pattern such as `shards/train-*.tar`, or a folder of tar files. `classes` says where labels
    come from: `'cls'` (the member KEY.cls), any other name (that entry of KEY.json), or None. Shards are listed at
    construction; an image is read where it stands. Compressed tar files are refused.

    Raises:
        SnriseError: if there are no shards or no images in them, or if an image has no label.

    >>> import io, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with tarfile.open(Path(folder) / "0.tar", "w") as shard:
    ...         for name, data in (("a.png", io.BytesIO()), ("a.cls", io.BytesIO(b"cat"))):
    ...             if name.endswith("png"):
    ...                 Image.new("RGB", (8, 8)).save(data, "png")
    ...             entry = tarfile.TarInfo(name)
    ...             entry.size = len(data.getvalue())
    ...             shard.addfile(entry, io.BytesIO(data.getvalue()))
    ...     source = Shards(folder, "cls")
    ...     len(source), source.classes, source.read(0).size
    (1, ('cat',), (8, 8))
    """

    path: str
    by: str | None
    shards: tuple[Path, ...]
    images: tuple[_Place, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None

    def __init__(self, path: str | Path, classes: str | None = None) -> None:
        shards = _shards(str(path))
        images: list[_Place] = []
        names: list[str] = []
        for shard in shards:
            for key, members in _samples(shard).items():
                image = next((m for suffix, m in members.items() if suffix.rpartition(".")[2] in _formats()), None)
                if image is not None:
                    images.append(image)
                    if classes is not None:
                        names.append(_label(shard, key, members, classes))
        if not images:
            allowed = f"members ending in {' '.join(sorted(suffixes()))}"
            raise invalid("Shards.path", str(path), allowed, f"no image in {len(shards)} shards")
        labelled = None if classes is None else index_classes(names)
        fill(
            self, path=str(path), by=classes, shards=shards, images=tuple(images),
            labels=labelled and labelled[0], classes=labelled and labelled[1],
        )

    def __repr__(self) -> str:
        return f"Shards({self.path!r}, classes={self.by!r})"

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Image.Image:
        """The image as its member has it."""
        return open_image(self.images[index].read())

    def name(self, index: int) -> str:
        """Its shard and member."""
        return f"{self.images[index].shard}:{self.images[index].member}"

    def fingerprint(self) -> str:
        """A hash of the shards' names, sizes and modification times, and of the labels."""
        stats = [(shard.name, shard.stat()) for shard in self.shards]
        return digest([*((name, s.st_size, s.st_mtime_ns) for name, s in stats), (self.labels, self.classes)])


def _formats() -> set[str]:
    return {suffix.removeprefix(".") for suffix in suffixes()}


def _shards(path: str) -> tuple[Path, ...]:
    """The tar files that a path means, sorted."""
    shards = sorted(Path(path).glob("*.tar")) if Path(path).is_dir() else sorted(map(Path, glob.glob(path)))  # noqa: PTH207
    if not shards:
        raise invalid("Shards.path", path, "a tar file, a pattern such as 'train-*.tar', or a folder of tar files")
    return tuple(shards)


def _samples(shard: Path) -> dict[str, dict[str, _Place]]:
    """The members of a shard by key, then by suffix."""
    samples: dict[str, dict[str, _Place]] = {}
    try:
        with tarfile.open(shard, "r:") as file:
            for member in file:
                name = PurePosixPath(member.name).name
                if member.isfile() and not name.startswith("."):
                    first, _, suffix = name.partition(".")
                    place = _Place(shard, member.name, member.offset_data, member.size)
                    samples.setdefault(str(PurePosixPath(member.name).with_name(first)), {})[suffix.lower()] = place
    except (tarfile.TarError, OSError) as error:
        cause = getattr(error, "strerror", None) or "not a whole, uncompressed tar file"
        raise SnriseError(f"{shard}: cannot be read: {cause}") from error
    return samples


def _label(shard: Path, key: str, members: dict[str, _Place], by: str) -> str:
    """The name of a sample's class."""
    suffix = "cls" if by == "cls" else "json"
    where = f"{shard}:{key}.{suffix}"
    if suffix not in members:
        raise invalid(where, "no such member", "a label for every image", "or data.classes=null")
    text = members[suffix].read().decode("utf-8", errors="replace").strip()
    if by == "cls":
        return text
    try:
        entries = json.loads(text)
        value = entries[by]
    except (ValueError, KeyError, TypeError):
        known = ", ".join(sorted(entries)) if "entries" in locals() and isinstance(entries, dict) else "none"
        raise invalid(where, f"no entry {by!r}", f"one of its entries: {known}") from None
    return str(value)
