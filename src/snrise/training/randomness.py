"""Random numbers for each image of a run: functions of the seed and the image's number alone.

So a batch may be split in any way, over accumulation or over processes, without changing them.
"""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from snrise._typing import Images
from snrise.data.order import philox, words_from
from snrise.samplers import generators

__all__ = ["even", "noise", "seed_of", "uniform", "weyl"]

#: Of images with so many numbers each, several are drawn at the same time.
LARGE = 2**18


def seed_of(seed: int, number: int, use: str) -> int:
    """A seed for one use at one place of a run; unrelated for any other seed, place or use."""
    digest = hashlib.blake2b(f"{seed}/{number}/{use}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**63


def uniform(seed: int, use: str, first: int, count: int) -> Tensor:
    """Numbers in [0, 1) for one use, one for each of images number first … first+count−1: [count] in float64.

    >>> torch.equal(uniform(0, "t", 6, 2), uniform(0, "t", 0, 8)[6:])
    True
    """
    words = words_from(philox(seed_of(seed, 0, use)), first, count)
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def weyl(shift: float | Tensor, numbers: Tensor) -> Tensor:
    """Weyl's sequence, shift + i/φ mod 1, at numbers i, in their dtype: float64 for i in the millions."""
    return (shift + numbers * ((math.sqrt(5) - 1) / 2)) % 1


def even(seed: int, use: str, first: int, count: int) -> Tensor:
    """As `uniform`, but so that those of any images in a row lie evenly in [0, 1): see `weyl`.

    Of b in a row the gaps are of at most three lengths, about 1/b each, so that the mean over a batch has much less
    variance than of independent numbers, whatever the batches are (Niederreiter 1992, sec. 2.1 and 3.1).

    >>> even(0, "t", 3, 5).sort().values.diff().max() < 0.39
    tensor(True)
    """
    shift = seed_of(seed, 0, use) / 2**63
    return weyl(shift, torch.arange(first, first + count, dtype=torch.float64))


def noise(seed: int, first: int, shape: tuple[int, int, int, int], device: torch.device) -> Images:
    """White noise of a shape [b c h w] for images number first … first+b−1, each drawn by itself, on the device.

    Large images are drawn by as many threads as PyTorch computes with.
    """
    out = torch.empty(shape, device=device)
    own = generators(seed_of(seed, 0, "noise"), first, shape[0], device)
    if device.type == "cpu" and shape[0] > 1 and out[0].numel() >= LARGE:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(lambda i: out[i].normal_(generator=own[i]), range(shape[0])))
    else:
        for image, generator in zip(out, own, strict=True):
            image.normal_(generator=generator)
    return out
