"""Keeping freed memory in the process between steps."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

#: Parameters of glibc's mallopt(3).
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
#: By how much the heap grows at a time.
GROWTH = 64 * 2**20


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next step instead of returning it to the system; whether that succeeded.

    Each step of training on a CPU frees its activations. Returning them takes some milliseconds, and allocating them
    again causes page faults. This affects the whole process, so it is for programs to call, not for libraries. It has
    no effect except on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, GROWTH), (MMAP_MAX, 0))
    return all(mallopt(name, value) for name, value in settings)
