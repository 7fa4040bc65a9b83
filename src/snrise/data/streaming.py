"""Streams of batches: from the cache, prefetched in a thread, or from worker processes."""

import itertools
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snrise._errors import SnriseError
from snrise.data.order import flips, order
from snrise.parallel import launched

__all__ = ["Fetching", "Read", "Reader", "ahead", "from_processes", "leave_interrupts"]


@runtime_checkable
class Fetching(Protocol):
    """A data set, as far as `Reader` needs one."""

    @property
    def flip(self) -> bool:
        """Whether batches are randomly flipped."""

    @property
    def skipped(self) -> dict[int, str]:
        """Why images were skipped, by index."""

    def __len__(self) -> int: ...

    def kept(self, indices: Sequence[int]) -> bool:
        """Whether some images are all cached."""

    def fetch(self, indices: Sequence[int]) -> tuple[NDArray[np.uint8], list[int]]:
        """Pixels [k 3 H W] and the indices of the images."""


class Read(NamedTuple):
    """A batch as read: pixels [b 3 H W], image indices, and the images skipped so far with reasons."""

    position: int
    pixels: Tensor
    indices: list[int]
    skipped: dict[int, str]


@dataclass(frozen=True)
class Reader:
    """Position -> the batch there, or the `own` images of it alone, with random horizontal flips."""

    dataset: Fetching
    batch: int
    seed: int
    own: range

    def __call__(self, position: int) -> Read:
        """The batch at a position."""
        pixels, indices = self.dataset.fetch(self._order(position))
        if self.dataset.flip:
            mirrored = flips(self.seed, position + self.own.start, len(self.own)).numpy()
            pixels[mirrored] = pixels[mirrored, ..., ::-1]
        return Read(position, torch.from_numpy(pixels), indices, dict(self.dataset.skipped))

    def kept(self, position: int) -> bool:
        """Whether a batch is all cached."""
        return self.dataset.kept(self._order(position))

    def _order(self, position: int) -> list[int]:
        return order(self.seed, position + self.own.start, len(self.own), len(self.dataset))


def ahead(read: Reader, position: int) -> Iterator[Read]:
    """Batches, prefetched in a thread unless they are cached: those cost less than a thread does."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming: Future[Read] | None = None
        while True:
            got = read(position) if coming is None else coming.result()
            position += read.batch
            coming = None if read.kept(position) else pool.submit(read, position)
            yield got


def from_processes(read: Reader, position: int, workers: int) -> Iterator[Read]:
    """Batches from worker processes, each decoding whole batches; in order, two prefetched per worker."""
    loader: Any = torch.utils.data.DataLoader(
        _Told(read), sampler=itertools.count(position, read.batch), batch_size=None,  # type: ignore[arg-type]
        num_workers=workers, worker_init_fn=leave_interrupts, prefetch_factor=2, collate_fn=_as_it_is,
    )
    try:
        for got in loader:
            if isinstance(got, str):
                raise SnriseError(got)
            yield got
    except RuntimeError as error:  # a worker that was killed, for want of memory as a rule
        raise SnriseError(f"data.workers: {str(error).splitlines()[0]}; lower data.workers, or use 0") from error


@dataclass(frozen=True)
class _Told:
    """The data set of PyTorch's loader: batches or, as exceptions lose their messages between processes, messages."""

    read: Reader

    def __getitem__(self, position: int) -> Read | str:
        try:
            return self.read(position)
        except SnriseError as error:
            return str(error)


def _as_it_is(got: Any) -> Any:
    return got


def leave_interrupts(number: int) -> None:
    """Ignore Ctrl-C in a worker: the main process saves first, then stops its workers.

    So with SIGTERM under torchrun, which sends it to workers too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if launched():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
