"""The measured speed of real training steps on this machine."""

import copy
import time
from dataclasses import replace
from typing import NamedTuple

from snrise.codecs import Autoencoder
from snrise.data import Blank
from snrise.experiment import Experiment
from snrise.training import TrainState, train

__all__ = ["Probed", "probe"]

#: The fewest steps that a batch size is measured for.
STEPS = 5


class Probed(NamedTuple):
    """Images a second, and the batch size at which they were measured."""

    images_per_second: float
    batch: int


def probe(experiment: Experiment, seconds: float, most: int) -> Probed:
    """Time real training steps on noise for about so many seconds, of a copy of the network, at up to `most` images.

    After a warm-up step with one image, the batch doubles as long as a few steps of twice the size fit the time.
    """
    codes = experiment.shape if isinstance(experiment.codec, Autoencoder) else None  # a run reads them, too
    blank = Blank(experiment.size, experiment.classes, experiment.dataset.context, codes)
    experiment = replace(experiment, data=blank, network=copy.deepcopy(experiment.network), accumulate=1)
    state, batch = TrainState.of(experiment), 1
    end = time.perf_counter() + seconds
    _steps(state, experiment, batch, 0.0)
    while True:
        images, spent = _steps(state, experiment, batch, 0.0)
        if batch == most or 2 * STEPS * spent > end - time.perf_counter():
            break
        batch = min(2 * batch, most)
    more, left = _steps(state, experiment, batch, end - time.perf_counter())
    return Probed((images + more) / (spent + left), batch)


def _steps(state: TrainState, experiment: Experiment, batch: int, seconds: float) -> tuple[int, float]:
    """Train a step, and more until the time is over; returns the number of images and the seconds it took."""
    steps = train(state, experiment.dataset.batches(batch, seed=0, position=state.position), experiment)
    started, images = time.perf_counter(), 0
    while not images or time.perf_counter() - started < seconds:
        images += len(next(steps).indices)
    return images, time.perf_counter() - started
