"""How long a run will take on this machine, extrapolated from a few seconds."""

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
from snrise.parallel import ALONE, World
from snrise.runs.joint import batches_of, divide
from snrise.training import Report, TrainState, train

__all__ = ["Pace", "measure", "trial"]

#: Warm-up steps before a measurement, and the fewest steps that it takes.
WARM, LEAST = 2, 2
#: How long steps are timed.
SECONDS = 3.0
#: So many pictures at most are drawn to time a grid of them.
DRAWN = 16


class Pace(NamedTuple):
    """Images per second of training, and the seconds of a grid of samples, drawn each `every` images and at the end.

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
        """The seconds that training on so many images takes."""
        return images / self.images_per_second + (images // self.every + 1) * self.grid_seconds

    def images(self, seconds: float, batch: int) -> int:
        """How many images fit in the time, in whole batches, at least one; grids are spread evenly over them."""
        each = 1 / self.images_per_second + self.grid_seconds / self.every
        return max(1, int((seconds - self.grid_seconds) / each / batch)) * batch


def trial(experiment: Experiment, world: World = ALONE) -> Iterator[Report]:
    """Endless training steps of an experiment, on a copy of its network.

    Where decoded pixels are cached, the first few batches are repeated: decoding in the first epoch would otherwise
    count as part of a run's speed.
    """
    data = experiment.dataset
    batches = batches_of(data, experiment, world)
    if isinstance(data, Dataset) and data.cached is not Cache.NONE:
        batches = _again(list(islice(batches, WARM)))
    copied = replace(experiment, network=copy.deepcopy(experiment.network))
    divide(copied, world)
    return train(TrainState.of(copied), batches, copied, world=world)


def _again(batches: Sequence[Batch]) -> Iterator[Batch]:
    """The same images repeated endlessly, at consecutive positions."""
    position = batches[0].position
    for batch in cycle(batches):
        yield batch._replace(position=position)
        position += batch.whole


def measure(
    experiment: Experiment, *, seconds: float = SECONDS, grids: bool = True, world: World = ALONE
) -> Pace:
    """Train a copy for some seconds, at least 4 steps, and draw a few pictures in one step.

    Without `grids`, grids of samples count as free. Several processes measure together, and get the same pace.
    """
    require(seconds >= 0, "measure.seconds", seconds, "0 or more")
    steps = trial(experiment, world)
    for _ in islice(steps, WARM):
        pass
    started, images, count = time.perf_counter(), 0, 0
    while world.largest(count < LEAST or time.perf_counter() - started < seconds):
        images, count = images + len(next(steps).indices), count + 1
    rate = images / (time.perf_counter() - started)
    rate, grid_seconds = world.first(lambda: (rate, _grid_seconds(experiment) if grids else 0.0))
    return Pace(rate, grid_seconds, experiment.log.samples)


def _grid_seconds(experiment: Experiment) -> float:
    """The seconds of a grid, from the first step of some of its pictures."""
    sampling, count = experiment.sampling, min(DRAWN, experiment.log.grid)
    generation = Generation.of(experiment.settings, experiment.network)
    labels = None if experiment.classes is None else torch.zeros(count, dtype=torch.int64)
    one = replace(generation, sampling=replace(sampling, steps=1))
    started = time.perf_counter()
    for _ in generate(one, labels, count):
        pass
    evaluations = sampling.sampler.evaluations(sampling.steps) / sampling.sampler.evaluations(1)
    return (time.perf_counter() - started) * evaluations * experiment.log.grid / count
