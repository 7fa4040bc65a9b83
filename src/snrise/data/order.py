"""The order of images and their flips: pure functions of the seed and the number of images seen.

There is no state to save: a run resumed at `images_seen` sees the same images as one never stopped, at any batch size.
Both use raw Philox words, whose stream NumPy guarantees; it does not guarantee that of `Generator`'s methods.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from snrise._errors import require

_ORDER, _FLIPS = 0, 1  # spawn keys: independent streams of one seed
_WORDS = 4  # 64-bit words that Philox makes for each value of its counter


def philox(seed: int, *key: int) -> np.random.Philox:
    """The bit generator of a seed and key."""
    return np.random.Philox(np.random.SeedSequence(seed, spawn_key=key))


def words_from(stream: np.random.Philox, first: int, count: int) -> NDArray[np.uint64]:
    """Raw words number `first` … `first + count - 1` of a fresh generator, skipping those before."""
    block, start = divmod(first, _WORDS)
    words: NDArray[np.uint64] = stream.advance(block).random_raw(start + count)[start:]
    return words


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    words = philox(seed, _ORDER, epoch).random_raw(n)
    permutation: NDArray[np.int64] = np.argsort(words, kind="stable").astype(np.int64)
    permutation.setflags(write=False)
    return permutation


def _check(seed: int, position: int, count: int) -> None:
    require(seed >= 0, "data.seed", seed, "an integer of at least 0")
    require(position >= 0, "data.position", position, "images seen so far, at least 0")
    require(count >= 0, "data.count", count, "a number of images, at least 0")


def order(seed: int, position: int, count: int, n: int) -> list[int]:
    """Dataset indices of the images number `position` … `position + count - 1` of an infinite stream over `n` images.

    Epoch e is the images number e·n … e·n + n - 1: a permutation of 0 … n - 1 of its own, drawn from (seed, e).
    A range may span epochs.

    Raises:
        SnriseError: for a negative seed, position or count, or n below 1.

    >>> sorted(order(seed=0, position=0, count=5, n=5))
    [0, 1, 2, 3, 4]
    >>> order(seed=0, position=3, count=4, n=5) == order(seed=0, position=0, count=7, n=5)[3:]
    True
    """
    _check(seed, position, count)
    require(n >= 1, "data.n", n, "at least 1 image")
    indices: list[int] = []
    while len(indices) < count:
        epoch, start = divmod(position + len(indices), n)
        indices += _permutation(seed, epoch, n)[start : start + count - len(indices)].tolist()
    return indices


def flips(seed: int, position: int, count: int) -> Bool[Tensor, " {count}"]:
    """Whether to flip the images number `position` … `position + count - 1` of the stream: a fair coin for each.

    The coin is a function of (seed, image number), so neither batch size nor resuming changes it; the same image gets
    a new number, hence a new coin, in the next epoch.

    Raises:
        SnriseError: for a negative seed, position or count.

    >>> bool((flips(seed=0, position=6, count=2) == flips(seed=0, position=0, count=8)[6:]).all())
    True
    """
    _check(seed, position, count)
    words = words_from(philox(seed, _FLIPS), position, count)
    return torch.from_numpy((words & np.uint64(1)).astype(bool))
