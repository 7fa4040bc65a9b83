"""How fast real training steps are, here."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from snrise import build
from snrise.config import RunConfig
from snrise.data import Batch
from snrise.training import TrainState, train

__all__ = ["Probed", "probe"]

#: How many steps a probe should have time for.
STEPS = 5


class Probed(NamedTuple):
    """Images a second, and how many there were in a step."""

    images_per_second: float
    batch: int


def probe(config: RunConfig, classes: int | None, device: torch.device, seconds: float, most: int) -> Probed:
    """Real training steps on noise for about so many seconds, with up to `most` images at once.

    A step with one image warms up. Then their number doubles as long as some steps of twice as many fit the time.
    """
    state, batch = build.state(config, classes, device), 1
    end = time.perf_counter() + seconds
    _steps(state, config, classes, batch, 0.0)
    while True:
        images, spent = _steps(state, config, classes, batch, 0.0)
        if batch == most or 2 * STEPS * spent > end - time.perf_counter():
            break
        batch = min(2 * batch, most)
    more, left = _steps(state, config, classes, batch, end - time.perf_counter())
    return Probed((images + more) / (spent + left), batch)


def _steps(state: TrainState, config: RunConfig, classes: int | None, batch: int, seconds: float) -> tuple[int, float]:
    """Train a step, and more until the time is over; how many images that were, and how long it took."""
    config = replace(config, training=replace(config.training, batch=batch, accumulate=1))
    steps = train(state, _noise(config, classes, state.position), build.recipe(config))
    started, images = time.perf_counter(), 0
    while not images or time.perf_counter() - started < seconds:
        images += len(next(steps).indices)
    return images, time.perf_counter() - started


def _noise(config: RunConfig, classes: int | None, position: int) -> Iterator[Batch]:
    """The same images again and again."""
    count = config.training.batch
    images = torch.rand(count, 3, *config.data.resolution) * 2 - 1
    labels = None if classes is None else torch.zeros(count, dtype=torch.int64)
    for at in itertools.count(position, count):
        yield Batch(images=images, labels=labels, indices=list(range(count)), position=at)
