"""How the process holds its memory between steps."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

#: glibc's mallopt(3): when the heap's top is given back, how far it grows, and how many blocks are mapped apart.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
#: By how much the heap grows at a time.
GROWTH = 64 * 2**20


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for the next step instead of giving it back; whether it agreed.

    Each step of training on a CPU frees its activations. Giving them back takes the system some milliseconds, and
    getting them again costs page faults. It holds for the whole process, so programs ask for it, not libraries.
    Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, GROWTH), (MMAP_MAX, 0))
    return all(mallopt(name, value) for name, value in settings)
