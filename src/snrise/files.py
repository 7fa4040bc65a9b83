"""Atomic writes, and locks on folders."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from snrise._errors import SnriseError

__all__ = ["held", "write_atomically", "writing"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, or leave it unchanged: see `writing`."""
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Context manager: what is written into a temporary file becomes the file on exit: fsync, rename, fsync the folder.

    If that fails, or an error is raised within, the file is unchanged.

    Raises:
        SnriseError: if it cannot be written, a full disk included.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        kept = "; the file is as it was before" if path.exists() else ""
        raise SnriseError(f"{path}: cannot be written: {error.strerror or error}{kept}") from error


def _sync(folder: Path) -> None:
    """Make a rename within the folder durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder; the system releases the lock when the process ends.

    Raises:
        SnriseError: if another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "stop it first, or choose another --out"
            raise SnriseError(f"{folder}: another process is at work here; {fix}") from None
        except OSError:  # a file system without locks
            pass
        yield
