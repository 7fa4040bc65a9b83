"""How long a run will take on this machine, from a few seconds of it."""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import NamedTuple

import torch

from snrise._errors import require
from snrise.data import Batch, Cache, Dataset
from snrise.experiment import Experiment
from snrise.generation import Generation, generate
from snrise.training import Report, TrainState, train

__all__ = ["Pace", "measure", "trial"]

#: Steps before a measurement, which fill caches, and the least that it is made of.
WARM, LEAST = 2, 2
#: For so long steps are timed.
SECONDS = 3.0
#: So many pictures at most are drawn to time a grid of them.
DRAWN = 16


class Pace(NamedTuple):
    """Images a second of training, and the seconds of a grid of samples, one for each `every` images and at the end.

    >>> pace = Pace(images_per_second=50.0, grid_seconds=10.0, every=1000)
    >>> pace.seconds(4500)
    140.0
    >>> pace.images(140.0, batch=10)
    4330
    """

    images_per_second: float
    grid_seconds: float
    every: int

    def seconds(self, images: int) -> float:
        """What a run of so many images takes, or what is left of one."""
        return images / self.images_per_second + (images // self.every + 1) * self.grid_seconds

    def images(self, seconds: float, batch: int) -> int:
        """How many images fit in the time, in whole batches, one at the least; grids are spread evenly over them."""
        each = 1 / self.images_per_second + self.grid_seconds / self.every
        return max(1, int((seconds - self.grid_seconds) / each / batch)) * batch


def trial(experiment: Experiment) -> Iterator[Report]:
    """Steps from an experiment's beginning, without an end, of a copy that is thrown away.

    Where decoded pixels are kept, the first few batches come again and again: what is decoded once, in the first pass
    over the data, is no part of a run's speed.
    """
    data = experiment.dataset
    batches = data.batches(experiment.batch, seed=experiment.seed)
    if isinstance(data, Dataset) and data.cached is not Cache.NONE:
        batches = _again(list(islice(batches, WARM)))
    copied = replace(experiment, network=copy.deepcopy(experiment.network))
    return train(TrainState.of(copied), batches, copied)


def _again(batches: Sequence[Batch]) -> Iterator[Batch]:
    """The same images without an end, at positions that go on."""
    position = batches[0].position
    for batch in cycle(batches):
        yield batch._replace(position=position)
        position += len(batch.images)


def measure(experiment: Experiment, *, seconds: float = SECONDS, grids: bool = True) -> Pace:
    """Train for some seconds, at least 4 steps, a copy that is thrown away, and draw a few pictures in one step.

    Without `grids`, sample grids are taken to cost nothing.
    """
    require(seconds >= 0, "measure.seconds", seconds, "0 or more")
    steps = trial(experiment)
    for _ in islice(steps, WARM):
        pass
    started, images, count = time.perf_counter(), 0, 0
    while count < LEAST or time.perf_counter() - started < seconds:
        images, count = images + len(next(steps).indices), count + 1
    rate = images / (time.perf_counter() - started)
    return Pace(rate, _grid_seconds(experiment) if grids else 0.0, experiment.log.samples)


def _grid_seconds(experiment: Experiment) -> float:
    """Of a grid, by the first step of some of its pictures."""
    sampling, count = experiment.sampling, min(DRAWN, experiment.log.grid)
    how = Generation.of(experiment.settings, experiment.network)
    labels = None if experiment.classes is None else torch.zeros(count, dtype=torch.int64)
    one = replace(how, sampling=replace(sampling, steps=1))
    started = time.perf_counter()
    for _ in generate(one, labels, count):
        pass
    evaluations = sampling.sampler.evaluations(sampling.steps) / sampling.sampler.evaluations(1)
    return (time.perf_counter() - started) * evaluations * experiment.log.grid / count
