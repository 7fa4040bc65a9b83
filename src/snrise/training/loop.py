"""The training loop: a generator that yields a report after each step."""

import math
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise._typing import Labels, LogSnr, PerImage
from snrise.data import Batch
from snrise.experiment import Experiment
from snrise.losses import denoising_loss
from snrise.networks import Traits
from snrise.precision import autocast
from snrise.training.faults import first_nonfinite
from snrise.training.randomness import even, noise, seed_of, uniform
from snrise.training.state import TrainState

__all__ = ["Report", "train"]


class Report(NamedTuple):
    """The counts after a step, means over the batch, and the index, λ and ε-loss of each image.

    `batch` is the number of images that the step trained on: 0 for a dropped one, where `fault` names what was not
    finite.
    """

    step: int
    images_seen: int
    position: int
    batch: int
    loss: float
    eps_loss: float
    grad_norm: float
    learning_rate: float
    seconds: float
    data_seconds: float
    indices: list[int]
    logsnr: LogSnr
    eps_losses: PerImage
    fault: str | None


def train(
    state: TrainState, batches: Iterable[Batch], experiment: Experiment, *, images: int | None = None
) -> Iterator[Report]:
    """Train until `images` are seen or the batches end, whichever comes first; yields a report after each step.

    `batches` must start at `state.position`. The state changes in place and is whole between reports. A step whose loss
    or gradient is not finite leaves the weights as they were; the report says so, and the caller decides what follows.
    """
    state.network.train()
    stream = iter(batches)
    while images is None or state.images_seen < images:
        started = time.perf_counter()
        batch = next(stream, None)
        if batch is None:
            return
        require(
            batch.position == state.position, "train.batches", f"a batch from image {batch.position}",
            f"the batch from image {state.position}", "start the batches at state.position",
        )
        yield _step(state, batch, experiment, started, time.perf_counter() - started)


def _step(
    state: TrainState, batch: Batch, experiment: Experiment, started: float, data_seconds: float
) -> Report:
    count = len(batch.images)
    rate = experiment.rate(state.images_seen + count // 2)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    logsnr, losses, plain = _gradient(state, batch, experiment)
    parameters = list(state.network.parameters())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, math.inf if experiment.clip is None else experiment.clip))
    losses, plain = losses.cpu(), plain.cpu()
    loss, fault = losses.mean().item(), None
    if math.isfinite(loss) and math.isfinite(norm):
        state.optimizer.step()
        state.step += 1
        state.images_seen += count
        for average in (state.ema, *state.powers):
            average.update(state.network, state.images_seen, count)
    else:
        state.optimizer.zero_grad(set_to_none=True)
        fault = first_nonfinite(state.network, lambda: _gradient(state, batch, experiment))
        state.faults += 1
    state.optimizer.zero_grad(set_to_none=True)
    state.position += count
    return Report(
        step=state.step, images_seen=state.images_seen, position=state.position, batch=0 if fault else count,
        loss=loss, eps_loss=plain.mean().item(), grad_norm=norm, learning_rate=rate,
        seconds=time.perf_counter() - started, data_seconds=data_seconds, indices=batch.indices, logsnr=logsnr,
        eps_losses=plain, fault=fault,
    )


def _gradient(state: TrainState, batch: Batch, experiment: Experiment) -> tuple[Tensor, Tensor, Tensor]:
    """Add the batch's gradient to the parameters; λ, loss and ε-loss of each image, the last two on the device.

    λ, noise and dropped labels belong to the image's number, so a batch may be cut in any way. Noise is drawn on the
    device, which does it much faster than a CPU and need not wait for the copy.
    """
    count, first, device = len(batch.images), batch.position, state.device
    t = (even if experiment.drawn.stratified else uniform)(experiment.seed, "t", first, count)
    logsnr, importance = (numbers.float() for numbers in experiment.drawn.at(t))
    eps = noise(experiment.seed, first, (count, *experiment.shape), device)
    labels, context = _condition(batch, experiment, state.network)
    parts, size = [], -(-count // experiment.accumulate)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(experiment.seed, first, "dropout"))
        for begin in range(0, count, size):
            of = slice(begin, begin + size)
            x = experiment.codec.encode(_moved(batch.images[of], device))
            with autocast(device, experiment.precision):
                loss, plain = denoising_loss(
                    state.network, experiment.target, x, eps[of],
                    _moved(logsnr[of], device), None if labels is None else _moved(labels[of], device),
                    None if context is None else _moved(context[of], device),
                    weighting=experiment.weighting, factors=experiment.scales,
                )
            loss = loss * _moved(importance[of], device)
            (loss.sum() / count).backward()  # type: ignore[no-untyped-call]
            parts.append((loss.detach(), plain))
    return logsnr, torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; to a GPU from memory that it reads by itself, so that nobody waits for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _condition(batch: Batch, experiment: Experiment, network: nn.Module) -> tuple[Labels | None, Tensor | None]:
    """Labels and context vectors of a batch, dropped for some images: replaced by the null class and by zeros."""
    classes = Traits(network).classes
    context = batch.context
    labels = None if classes is None else batch.labels
    if labels is None and context is None:
        return None, None
    dropped = uniform(experiment.seed, "condition", batch.position, len(batch.images)) < experiment.class_dropout
    return (
        None if labels is None else labels.masked_fill(dropped, classes or 0),
        None if context is None else context.masked_fill(dropped[:, None, None], 0.0),
    )
