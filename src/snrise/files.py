"""Atomic writes, and locks on folders."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from snrise._errors import SnriseError

__all__ = ["held", "in_turn", "write_atomically", "writing"]


def write_atomically(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file, or leave it unchanged: see `writing`."""
    with writing(path, shared=shared) as file:
        file.write(content)


@contextmanager
def writing(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Context manager: what is written into a temporary file becomes the file on exit: fsync, rename, fsync the folder.

    If that fails, or an error is raised within, the file is unchanged.

    With `shared`, other processes may write it at once: the last one's content stays.

    Raises:
        SnriseError: if it cannot be written, a full disk included.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp" if shared else f".{path.name}.tmp")
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


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Wait until no other process is within, for the same folder. Where a folder cannot be locked, nobody waits."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            import fcntl

            number = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, number)
            fcntl.flock(number, fcntl.LOCK_EX)
            stack.callback(fcntl.flock, number, fcntl.LOCK_UN)  # closing is not enough if a child has been forked
        yield
