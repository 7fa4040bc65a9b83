"""WebDataset shards: tar files of images and what belongs to them, read at random so that the order of data is free."""

import glob
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from snrise._errors import invalid
from snrise.data.folder import suffixes
from snrise.data.shard_index import Index, Shard, indexed
from snrise.data.sources import SourceConfig, digest, fill, open_image

__all__ = ["Shards", "ShardsConfig"]


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
    come from: `'cls'` (the member KEY.cls), any other name (that entry of KEY.json), or None. Shards are listed once,
    into an index beside them or among the caches; an image is read where it stands, and nothing else of its shard.
    Compressed tar files are refused.

    Raises:
        SnriseError: if there are no shards or no images in them, or if an image has no label.

    >>> import io, tarfile, tempfile
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
    folder: Path
    shards: tuple[Shard, ...]
    classes: tuple[str, ...] | None
    index: Index = field(compare=False)

    def __init__(self, path: str | Path, classes: str | None = None) -> None:
        folder, pattern = _split(str(path))
        shards = sorted(folder / shard for shard in glob.glob(pattern, root_dir=folder))  # noqa: PTH207
        if not shards:
            allowed = "a tar file, a pattern such as 'train-*.tar', or a folder of tar files"
            raise invalid("Shards.path", str(path), allowed)
        index = indexed(folder, pattern, shards, classes)
        if not len(index):
            allowed = f"members ending in {' '.join(sorted(suffixes()))}"
            raise invalid("Shards.path", str(path), allowed, f"no image in {len(shards)} shards")
        fill(
            self, path=str(path), by=classes, folder=folder, shards=index.shards, classes=index.classes, index=index,
        )

    def __repr__(self) -> str:
        return f"Shards({self.path!r}, classes={self.by!r})"

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def labels(self) -> tuple[int, ...] | None:
        """The class index of each image."""
        return None if self.index.labels is None else tuple(self.index.labels.tolist())

    @cached_property
    def _ends(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """The number of the first image behind each shard."""
        return np.cumsum([shard.images for shard in self.shards], dtype=np.int64)

    def _shard(self, index: int) -> Path:
        return self.folder / self.shards[int(np.searchsorted(self._ends, index, "right"))].path

    def read(self, index: int) -> Image.Image:
        """The image as its member has it."""
        offset, size = self.index.places[index].tolist()
        return open_image(_bytes(self._shard(index), offset, size))

    def name(self, index: int) -> str:
        """Its shard and member."""
        return f"{self._shard(index)}:{self.index.name(index)}"

    def fingerprint(self) -> str:
        """A hash of the shards' names, sizes and modification times, and of the labels."""
        records = [(Path(shard.path).name, shard.size, shard.modified) for shard in self.shards]
        return digest([*records, (self.labels, self.classes)])


def _split(path: str) -> tuple[Path, str]:
    """The folder that the shards are in, and their pattern from there.

    >>> _split("data/train-*.tar")[1], _split("data/*/0.tar")[1]
    ('train-*.tar', '*/0.tar')
    """
    if Path(path).is_dir():
        return Path(path), "*.tar"
    parts = Path(path).parts
    free = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:free]), str(Path(*parts[free:]))


def _bytes(path: Path, offset: int, size: int) -> bytes:
    """Bytes of a file; fewer where it ends. Without a buffer, which would read more than is asked for."""
    read, missing = [], size
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while missing and (got := file.read(missing)):
            read.append(got)
            missing -= len(got)
    return b"".join(read)
