"""Batches: an endless stream that is a pure function of (seed, position, batch size), kept in memory where it fits.

Worker threads use NumPy only: PyTorch would start a team of OpenMP threads for each, and they would fight for the cores
with those of the training step (measured on two busy cores: 50 ms a batch of 64×3×128×128 instead of 10).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from snrise._errors import require
from snrise._typing import Images, Labels
from snrise.data.order import flips, order
from snrise.data.pixels import to_float
from snrise.data.preprocess import Preprocess
from snrise.data.reading import read_image
from snrise.data.sources import Source


class Batch(NamedTuple):
    """What a training step takes, on the CPU.

    images: float32 [b 3 h w] in -1…1. labels: int64 [b], or None without classes. indices: which images of the source.
    position: images seen before this batch; the next one is at `position + b`.
    """

    images: Images
    labels: Labels | None
    indices: list[int]
    position: int


@dataclass(frozen=True)
class Dataset:
    """A source at one size, as batches.

    If all pixels fit into `cache_bytes`, each image is decoded once, when first asked for, and kept as uint8, 3·H·W
    bytes an image; otherwise it is decoded each time. `threads` decode, and `batches` works one batch ahead. A pickle
    leaves the kept pixels out.

    Args:
        source: where images come from.
        preprocess: how they come to one size.
        flip: whether `batches` mirrors half of the images, left to right, by a coin for each.
        cache_bytes: memory for pixels, in bytes; 0 keeps none.
        threads: decoders at a time.

    >>> from snrise.data import Emoji
    >>> dataset = Dataset(Emoji("class", only=("activities",)), Preprocess((16, 16)), flip=True)
    >>> batch = next(dataset.batches(4, seed=0))
    >>> batch.images.shape, batch.images.dtype, batch.labels, batch.position
    (torch.Size([4, 3, 16, 16]), torch.float32, tensor([0, 0, 0, 0]), 0)
    """

    source: Source
    preprocess: Preprocess
    flip: bool = False
    _: KW_ONLY
    cache_bytes: int = 2 * 1024**3
    threads: int = 4

    def __post_init__(self) -> None:
        require(len(self.source) >= 1, "Dataset.source", len(self.source), "at least 1 image")
        require(self.cache_bytes >= 0, "Dataset.cache_bytes", self.cache_bytes, "at least 0 bytes")
        require(self.threads >= 1, "Dataset.threads", self.threads, "at least 1")

    def __len__(self) -> int:
        return len(self.source)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def cached(self) -> bool:
        """Whether pixels are kept: whether all of them fit into `cache_bytes`."""
        height, width = self.preprocess.size
        return len(self) * 3 * height * width <= self.cache_bytes

    @cached_property
    def labels(self) -> Labels | None:
        """The class index of every image, int64 [n], or None without classes."""
        return None if self.source.labels is None else torch.tensor(self.source.labels, dtype=torch.int64)

    @cached_property
    def label_frequencies(self) -> Tensor | None:
        """The share of each class among the images, float64 [k], summing to 1; None without classes.

        Sampling draws labels from it when asked for none.
        """
        if self.labels is None or self.source.classes is None:
            return None
        return torch.bincount(self.labels, minlength=len(self.source.classes)).double() / len(self)

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images, never mirrored: uint8 [k 3 H W].

        Raises:
            SnriseError: for an index outside 0 … len - 1, or an image that cannot be read (see `read_image`).
        """
        for index in indices:
            require(0 <= index < len(self), "Dataset.images", index, f"an index from 0 to {len(self) - 1}")
        if not self.cached:
            decoded = self._decode(indices)
            return torch.from_numpy(np.stack(decoded) if decoded else self._empty(0))
        pixels, filled = self._kept
        missing = [index for index in dict.fromkeys(indices) if not filled[index]]
        for index, image in zip(missing, self._decode(missing), strict=True):
            pixels[index] = image
            filled[index] = True
        return torch.from_numpy(pixels[np.asarray(indices, dtype=np.int64)])

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """An endless stream of batches of `batch` images, starting after `position` images.

        Each is a pure function of (seed, position, batch), and a sequence of batches is one stream of images, however
        it is cut: see `order` and `flips`.

        Raises:
            SnriseError: for batch < 1, seed < 0 or position < 0, at once; for an unreadable image, when its turn comes.
        """
        require(batch >= 1, "Dataset.batches.batch", batch, "at least 1 image")
        order(seed, position, 0, len(self))
        return self._stream(batch, seed, position)

    def _stream(self, batch: int, seed: int, position: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = ahead.submit(self._pixels, batch, seed, position)
            while True:
                pixels, coming = coming.result(), ahead.submit(self._pixels, batch, seed, position + batch)
                indices = order(seed, position, batch, len(self))
                labels = None if self.labels is None else self.labels[indices]
                yield Batch(images=to_float(pixels), labels=labels, indices=indices, position=position)
                position += batch

    def _pixels(self, batch: int, seed: int, position: int) -> UInt8[Tensor, "{batch} 3 h w"]:
        """The pixels of a batch, mirrored where its coins say so."""
        pixels = self.images(order(seed, position, batch, len(self)))
        if self.flip:
            mirrored, view = flips(seed, position, batch).numpy(), pixels.numpy()
            view[mirrored] = view[mirrored, ..., ::-1]
        return pixels

    def _decode(self, indices: Sequence[int]) -> list[NDArray[np.uint8]]:
        def pixels(index: int) -> NDArray[np.uint8]:
            return read_image(self.source, index, self.preprocess).numpy()

        if len(indices) < 2:
            return [pixels(index) for index in indices]
        with ThreadPoolExecutor(max_workers=self.threads) as pool:
            return list(pool.map(pixels, indices))

    def _empty(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, 3, *self.preprocess.size), dtype=np.uint8)

    @cached_property
    def _kept(self) -> tuple[NDArray[np.uint8], bytearray]:
        """Pixels of all images, uint8 [n 3 H W], and which of them are filled in."""
        return self._empty(len(self)), bytearray(len(self))
