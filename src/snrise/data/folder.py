"""A folder of images, nested at will, with classes from its subfolders, from a CSV, or none."""

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import final

from PIL import Image

from snrise._errors import SnriseError, invalid
from snrise.data.labels import from_csv, from_folders
from snrise.data.sources import SourceConfig, digest, fill, index_classes, open_image

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


@lru_cache(maxsize=1)
def suffixes() -> frozenset[str]:
    """What counts as an image, in lower case: `.avif` too, where this Pillow reads it."""
    return _SUFFIXES | ({".avif"} & Image.registered_extensions().keys())


@final
@dataclass(frozen=True, kw_only=True)
class FolderConfig(SourceConfig):
    """The settings of `ImageFolder`."""

    path: str = field(metadata={"missing": "say where the images are: --data DIR"})
    classes: str | None = None

    def open(self) -> "ImageFolder":
        """The folder, listed."""
        return ImageFolder(self.path, self.classes)


@dataclass(frozen=True, init=False, repr=False)
class ImageFolder:
    """The images in a folder and its subfolders, sorted by relative path; hidden files and folders are skipped.

    `classes` says where labels come from: `'folders'` (the first folder of an image's path is its class), the path of a
    CSV file with the columns `file,class` (`file` relative to the folder, with /), or None. The attribute `classes`
    then holds their names in alphabetical order, and `ignored` the files that end in none of the `suffixes`. The folder
    is listed once, at construction; files are read on demand.

    Raises:
        SnriseError: if the path is no folder or holds no images, or if the labels do not fit the files one to one.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as path:
    ...     for name in ("cat", "dog"):
    ...         (Path(path) / name).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(path) / name / "1.PNG")
    ...     source = ImageFolder(path, "folders")
    ...     source.files, source.labels, source.classes
    (('cat/1.PNG', 'dog/1.PNG'), (0, 1), ('cat', 'dog'))
    """

    path: Path
    by: str | Path | None
    files: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...] | None
    ignored: tuple[str, ...]

    def __init__(self, path: str | Path, classes: str | Path | None = None) -> None:
        folder = Path(path)
        files, ignored = _images(folder)
        match classes:
            case None:
                labelled = None
            case "folders":
                labelled = index_classes(from_folders(folder, files))
            case _:
                labelled = index_classes(from_csv(folder, files, Path(classes)))
        fill(
            self, path=folder, by=classes, files=files, ignored=ignored,
            labels=labelled and labelled[0], classes=labelled and labelled[1],
        )

    def __repr__(self) -> str:
        return f"ImageFolder({str(self.path)!r}, classes={self.by if self.by is None else str(self.by)!r})"

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Image.Image:
        """The image as its file has it."""
        return open_image((self.path / self.files[index]).read_bytes())

    def name(self, index: int) -> str:
        """The path of its file."""
        return str(self.path / self.files[index])

    def fingerprint(self) -> str:
        """A hash of relative paths, sizes in bytes, modification times in ns, and labels; the folder may move."""
        records = [(file, *_size_and_time(self.path / file)) for file in self.files]
        return digest([*records, (self.labels, self.classes)])


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and modification time in ns; (-1, -1) if the file has gone."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _images(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Relative paths of the images, sorted, and of the other files."""
    if not folder.exists():
        raise invalid("ImageFolder.path", str(folder), "an existing folder", _nearest(folder))
    if not folder.is_dir():
        raise invalid("ImageFolder.path", str(folder), "a folder", f"give the folder it is in: {str(folder.parent)!r}")
    files = _walk(folder)
    images = sorted(file for file in files if _suffix(file) in suffixes())
    if not images:
        raise _no_images(folder, files)
    return tuple(images), tuple(sorted(set(files) - set(images)))


def _walk(folder: Path) -> list[str]:
    """Relative posix paths of all files that are not hidden; links to folders are followed, except back upwards."""
    files: list[str] = []
    for root, folders, names in os.walk(folder, followlinks=True, onerror=_unlisted):
        here = Path(root).resolve()
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and not here.is_relative_to((Path(root) / name).resolve())
        ]
        files += [(Path(root) / name).relative_to(folder).as_posix() for name in names if not name.startswith(".")]
    return files


def _unlisted(error: OSError) -> None:
    """A folder that cannot be listed would be left out in silence."""
    raise SnriseError(f"{error.filename}: cannot be listed: {error.strerror}; allow it, or move it away") from error


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _nearest(folder: Path) -> str:
    """The nearest name beside a path that does not exist, or the folder up to which the path does."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        known = next(ancestor for ancestor in parent.parents if ancestor.is_dir())
        return f"the path exists up to {str(known)!r}"
    names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    close = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.5)
    return f"did you mean {str(folder.with_name(close[0]))!r}?" if close else f"{str(parent)!r} has nothing like it"


def _no_images(folder: Path, files: list[str]) -> SnriseError:
    allowed = f"files ending in {' '.join(sorted(suffixes()))}"
    if not files:
        return invalid("ImageFolder.path", str(folder), allowed, "the folder is empty")
    return invalid("ImageFolder.path", str(folder), allowed, f"no image among its files: {suffix_counts(files)}")


def suffix_counts(files: Sequence[str]) -> str:
    """The most common suffixes with their counts, in words.

    >>> suffix_counts(["a.txt", "b.TXT", "c"])
    '.txt (2), no suffix (1)'
    """
    counts = Counter(_suffix(file) or "no suffix" for file in files).most_common(8)
    return ", ".join(f"{suffix} ({count})" for suffix, count in counts)
