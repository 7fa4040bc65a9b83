"""Caches of decoded images, or of their codes: in memory, in a memory-mapped file shared by later runs, or none."""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import zlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from snrise._errors import SnriseError
from snrise._typing import Size, StrEnum

__all__ = ["Cache", "InMemory", "Nowhere", "OnDisk", "Store", "cache_home"]

Pixels = NDArray[Any]
#: Raised when the files below change their meaning.
LAYOUT = 1


class Cache(StrEnum):
    """Where decoded images are cached: `auto` is memory if they fit, else the disk if they fit there, else none."""

    AUTO = "auto"
    MEMORY = "memory"
    DISK = "disk"
    NONE = "none"


@runtime_checkable
class Store(Protocol):
    """A cache of images by index, uint8 [3 H W] each, or of codes, [c y x] of a dtype; thread-safe."""

    def has(self, index: int) -> bool:
        """Whether an image is cached."""

    def put(self, index: int, pixels: Pixels) -> None:
        """Cache an image, where possible."""

    def gather(self, indices: list[int]) -> Pixels:
        """The pixels of cached images, [k 3 H W]."""


class Nowhere:
    """No cache."""

    def has(self, index: int) -> bool:
        """No."""
        return False

    def put(self, index: int, pixels: Pixels) -> None:
        """Do nothing."""

    def gather(self, indices: list[int]) -> Pixels:
        """Raise: nothing is cached."""
        raise LookupError(f"images {indices} are not kept")


class InMemory:
    """A cache in memory, 3·H·W bytes an image."""

    def __init__(self, count: int, size: Size, *, channels: int = 3, dtype: type[np.generic] = np.uint8) -> None:
        self.pixels = np.empty((count, channels, *size), dtype=dtype)
        self.filled = bytearray(count)

    def has(self, index: int) -> bool:
        """Whether an image is cached."""
        return bool(self.filled[index])

    def put(self, index: int, pixels: Pixels) -> None:
        """Cache an image."""
        self.pixels[index] = pixels
        self.filled[index] = True

    def gather(self, indices: list[int]) -> Pixels:
        """The pixels of cached images, [k 3 H W]."""
        return self.pixels[np.asarray(indices, dtype=np.int64)]


class OnDisk:
    """A cache in a memory-mapped file, with a checksum per image, filled on first use.

    The folder is keyed by data set and preprocessing; a new fingerprint of the same data replaces it. Processes may
    share it: they write the same bytes to the same places, and an image counts only while its checksum fits, so that
    neither a process killed in the middle nor a lost block is ever taken for an image. A full disk ends the writing.

    Args:
        home: the folder that holds such folders.
        identity: which data, read how.
        fingerprint: what changes when the data do.
        count, size: how many images, and their (H, W).
        channels, dtype: of an image.
    """

    def __init__(
        self, home: Path, identity: str, fingerprint: str, count: int, size: Size, *, channels: int = 3,
        dtype: type[np.generic] = np.uint8,
    ) -> None:
        name = f"{_short(identity)}-{_short(f'{LAYOUT} {fingerprint} {count} {size}')}"
        self.folder = home / name
        about = {"layout": LAYOUT, "data": identity, "images": count, "size": list(size)}
        each = channels * size[0] * size[1] * np.dtype(dtype).itemsize
        try:
            if not (self.folder / "about.json").exists():
                _create(self.folder, about, count, each)
            for old in home.glob(f"{_short(identity)}-*"):
                if old.name != name:
                    shutil.rmtree(old, ignore_errors=True)  # whoever still has it mapped keeps it until the end
            self.pixels = np.memmap(self.folder / "pixels", dtype, "r", shape=(count, channels, *size))
            self.sums = np.memmap(self.folder / "checksums", np.uint32, "r", shape=(count,))
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or str(error)
            fix = "set data.cache_folder, or data.cache=none"
            raise SnriseError(f"data.cache: cannot keep pixels in {self.folder}: {cause}; {fix}") from error
        self.verified = bytearray(count)
        self.lock = threading.Lock()
        self.full = False

    def has(self, index: int) -> bool:
        """Whether an image is cached and intact."""
        if not self.verified[index] and int(self.sums[index]):
            self.verified[index] = int(self.sums[index]) == _checksum(self.pixels[index])
        return bool(self.verified[index])

    def put(self, index: int, pixels: Pixels) -> None:
        """Cache an image: first its pixels, then the checksum that validates them."""
        data = np.ascontiguousarray(pixels)
        with self.lock:
            if self.full:
                return
            try:
                _write(self.folder / "pixels", index * data.nbytes, data.tobytes())
                _write(self.folder / "checksums", index * 4, np.uint32(_checksum(data)).tobytes())
            except OSError:
                self.full = True

    def gather(self, indices: list[int]) -> Pixels:
        """The pixels of cached images, [k 3 H W]."""
        return self.pixels[np.asarray(indices, dtype=np.int64)]


def cache_home() -> Path:
    """The default folder of on-disk caches: `snrise` in the user's cache folder ($XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snrise"


def _create(folder: Path, about: dict[str, object], count: int, each: int) -> None:
    """Create an empty cache of the full length, atomically, whatever other processes do."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, length in (("pixels", count * each), ("checksums", 4 * count)):
            with (temporary / name).open("wb") as file:
                file.truncate(length)
        (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")
        with contextlib.suppress(OSError):  # another process was faster: its folder is as good
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b", buffering=0) as opened:
        opened.seek(offset)
        opened.write(data)


def _checksum(pixels: Pixels) -> int:
    """CRC-32, never 0, which marks an absent image."""
    return zlib.crc32(np.ascontiguousarray(pixels).data) or 1


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
