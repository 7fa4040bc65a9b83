"""A data set's codes: measured, computed once, and kept on the disk, so that a run reads them instead of pixels."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._errors import SnriseError, require
from snrise._typing import Labels, Size
from snrise.codecs import Autoencoder
from snrise.config import RunConfig
from snrise.data import Batch, ByIndex, Cache, Dataset
from snrise.data.order import flips, order
from snrise.data.store import InMemory, OnDisk, Store
from snrise.experiment import Experiment, dataset
from snrise.parallel import ALONE, World, share
from snrise.quantities import speed

__all__ = ["Encoded", "encoded", "with_measured_codes"]

#: Mean and deviation are measured on at most so many images, spread over the data, and kept to so many digits.
MEASURED, DIGITS = 512, 4
#: Images that are encoded at a time, and seconds from one line on the progress to the next.
AT_ONCE, EVERY = 32, 30.0


def with_measured_codes(
    config: RunConfig, device: torch.device | str = "cpu", known: RunConfig | None = None, world: World = ALONE
) -> RunConfig:
    """The settings with mean and deviation of the codes of the run's own images, where they are not given yet.

    Those that the folder states instead, with `codec.stated`. `known` are earlier settings of the run, which keeps its
    measurements.
    """
    codec = config.codec
    if not isinstance(codec, Autoencoder) or codec.measured:
        return config
    if known is not None and isinstance(known.codec, Autoencoder) and known.codec.measured:
        earlier = known.codec
        same = replace(codec, mean=earlier.mean, std=earlier.std, weights=earlier.weights)
        if same == earlier or codec.weights is None:
            return replace(config, codec=same)
    mean, std = world.first(lambda: _moments(config, codec, device))
    measured = replace(codec, mean=tuple(mean), std=tuple(std), weights=codec.fingerprint())
    return replace(config, codec=measured)


def _moments(config: RunConfig, codec: Autoencoder, device: torch.device | str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of codes."""
    channels = codec.shape(config.data.resolution)[0]
    if codec.stated:
        shift, deviation = codec.statements()
        return [shift] * channels, [deviation] * channels
    images = dataset(config)
    chosen = images.spread(MEASURED)
    parts = [codec.raw(images.images(chosen[i : i + AT_ONCE]).to(device)).cpu() for i in range(0, len(chosen), AT_ONCE)]
    codes = torch.cat(parts).double()
    std = _rounded(codes.std(dim=(0, 2, 3), correction=0))
    good = all(s > 0 for s in std)
    require(good, "codec.path", f"{codec.path}, with a channel of codes that never changes", "another autoencoder")
    return _rounded(codes.mean(dim=(0, 2, 3))), std


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.{DIGITS}g}") for v in values.tolist()]


def encoded(
    experiment: Experiment, *, tell: Callable[[str], None] = lambda line: None, world: World = ALONE
) -> Experiment:
    """The experiment on codes that are read, all computed by now, where its codec is an autoencoder.

    Several processes share the work. Without a cache (`data.cache=none`), images are encoded in each step.
    """
    codec, data = experiment.codec, experiment.dataset
    if not isinstance(codec, Autoencoder) or not isinstance(data, Dataset) or data.cache is Cache.NONE:
        return experiment
    codes = Encoded(data, codec)
    device = next(experiment.network.parameters()).device
    with world.watched():
        _fill(codes, range(world.rank, codes.rows, world.size), device, tell)
        world.largest(0)  # the others are done
        _fill(codes, range(codes.rows), device, tell)  # what they could not share with this one, if anything
    lost = next((row for row in range(codes.rows) if not codes.stored(row)), None)
    if lost is not None:
        raise SnriseError(
            f"data.cache: the codes of {codes.rows:,} images do not fit into {data.home}; set data.cache_folder, "
            "data.cache=memory, or data.cache=none, which encodes them in each step"
        )
    return replace(experiment, data=codes)


def _fill(codes: "Encoded", rows: Sequence[int], device: torch.device, tell: Callable[[str], None]) -> None:
    """Encode what is missing of some rows, with a line on the progress at times."""
    missing = [row for row in rows if not codes.stored(row)]
    started = told = time.monotonic()
    for begin in range(0, len(missing), AT_ONCE):
        codes.fill(missing[begin : begin + AT_ONCE], device)
        now = time.monotonic()
        if begin and now - told > EVERY:
            pace = speed(begin / (now - started), "images")
            tell(f"encoding: {begin:,} of {len(missing):,} images, {pace}")
            told = now


@final
@dataclass(frozen=True)
class Encoded(ByIndex):
    """The codes of a data set: batches hold these; `images` and `take`, the pictures. `fill` it before it is read.

    Of a data set with random flips, those of both sides are kept: row 2i of image i, and 2i + 1 of its mirror image.
    """

    pictures: Dataset
    codec: Autoencoder
    store_in: Store | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def sides(self) -> int:
        """Rows of an image."""
        return 2 if self.pictures.flip else 1

    @property
    def rows(self) -> int:
        """How many codes there are."""
        return self.sides * len(self.pictures)

    @cached_property
    def store(self) -> Store:
        """Where codes are: on the disk unless the data set is kept in memory by its settings."""
        if self.store_in is not None:
            return self.store_in
        channels, *sides = self.codec.shape(self.pictures.size)
        size = sides[0], sides[1]
        if self.pictures.cache is Cache.MEMORY:
            return InMemory(self.rows, size, channels=channels, dtype=np.float32)
        identity = f"codes {self.sides} {self.pictures.source!r} {self.pictures.preprocess!r} {self.codec.path}"
        fingerprint = f"{self.fingerprint} {self.codec.mean} {self.codec.std}"
        return OnDisk(self.pictures.home, identity, fingerprint, self.rows, size, channels=channels, dtype=np.float32)

    @property
    def skipped(self) -> dict[int, str]:  # type: ignore[override]
        """The reason for each image that could not be read, by index."""
        return self.pictures.skipped

    @property
    def size(self) -> Size:
        """Height and width of the pictures."""
        return self.pictures.size

    @property
    def preparation(self) -> str:
        """The settings of the preprocessing."""
        return self.pictures.preparation

    @property
    def length(self) -> int:
        """How many images there are."""
        return len(self)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The source's class names."""
        return self.pictures.classes

    @property
    def frequencies(self) -> tuple[float, ...] | None:
        """The frequency of each class, summing to 1; None without classes."""
        return self.pictures.frequencies

    @property
    def labels(self) -> Labels | None:
        """The class index of every image."""
        return self.pictures.labels

    @cached_property
    def fingerprint(self) -> str:
        """That of the pictures, and of the autoencoder's weights."""
        return f"{self.pictures.fingerprint} {self.codec.weights}"

    def name(self, index: int) -> str:
        """The source's name of an image."""
        return self.pictures.name(index)

    def images(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The pixels of some images, never flipped."""
        return self.pictures.images(indices)

    def take(self, indices: Sequence[int]) -> Batch:
        """Some images, never flipped, with their labels."""
        return self.pictures.take(indices)

    def stored(self, row: int) -> bool:
        """Whether a row is kept, or is of an image that cannot be read."""
        return self.store.has(row) or row // self.sides in self.skipped

    def fill(self, rows: Sequence[int], device: torch.device) -> None:
        """Compute and keep the codes of some rows; images that cannot be read have none."""
        pixels, actual = self.pictures.fetch([row // self.sides for row in rows])
        images = torch.from_numpy(pixels)
        mirrored = torch.tensor([row % self.sides == 1 for row in rows])
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        codes = self.codec.encode(images.to(device)).cpu().numpy()
        for row, index, code in zip(rows, actual, codes, strict=True):
            if index == row // self.sides:
                self.store.put(row, code)

    def batches(self, batch: int, seed: int, position: int = 0) -> Iterator[Batch]:
        """Codes of the images that the data set's own batches hold, flipped alike."""
        require(batch >= 1, "Encoded.batches.batch", batch, "at least 1 image")
        return self._batches(range(batch), batch, seed, position)

    def slices(self, batch: int, seed: int, position: int = 0, *, rank: int, size: int) -> Iterator[Batch]:
        """The slice of each of `batches` for process `rank` of `size`."""
        return self._batches(share(batch, rank, size), batch, seed, position)

    def _batches(self, own: range, batch: int, seed: int, position: int) -> Iterator[Batch]:
        while True:
            first = position + own.start
            indices = [self.pictures.instead(i) for i in order(seed, first, len(own), len(self))]
            mirrored = flips(seed, first, len(own)).tolist() if self.sides == 2 else [False] * len(own)
            codes = self.store.gather([self.sides * i + side for i, side in zip(indices, mirrored, strict=True)])
            labels = None if self.labels is None else self.labels[indices]
            images = torch.from_numpy(np.asarray(codes))
            yield Batch(images, labels, indices, position, begin=own.start, total=batch, encoded=True)
            position += batch
