"""The training loop: a generator that yields a report after each step."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise._typing import Labels, LogSnr, PerImage
from snrise.data import Batch
from snrise.experiment import Experiment
from snrise.losses import denoising_loss
from snrise.networks import Traits
from snrise.parallel import ALONE, World
from snrise.precision import autocast
from snrise.sharding import in_shards, is_sharded
from snrise.training.faults import first_nonfinite, nonfinite_gradient, nonfinite_weight
from snrise.training.randomness import even, noise, seed_of, uniform
from snrise.training.state import TrainState

__all__ = ["Report", "awaited", "clip_gradient", "micro_batches", "train"]


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
    state: TrainState, batches: Iterable[Batch], experiment: Experiment, *, images: int | None = None,
    world: World = ALONE,
) -> Iterator[Report]:
    """Train until `images` are seen or the batches end, whichever comes first; yields a report after each step.

    `batches` must start at `state.position`. The state changes in place and is whole between reports. A step whose loss
    or gradient is not finite leaves the weights as they were; the report says so, and the caller decides what follows.

    Where several processes train together, `batches` are this one's slices; steps and reports, times excepted, are
    those of whole batches, and the same in every process.
    """
    state.network.train()
    buffers = _persistent_buffers(state.network)
    for batch, started in awaited(state, batches, images):
        data_seconds = time.perf_counter() - started
        world.copy_(buffers)  # running statistics are those of the first process's slices
        yield _step(state, batch, experiment, world, started, data_seconds)


def awaited(state: TrainState, batches: Iterable[Batch], images: int | None) -> Iterator[tuple[Batch, float]]:
    """Batches until so many images are seen or they end, each with the time at which it was asked for.

    Raises:
        SnriseError: for one that does not begin where the state is.
    """
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
        yield batch, started


def _step(
    state: TrainState, batch: Batch, experiment: Experiment, world: World, started: float, data_seconds: float
) -> Report:
    count = batch.whole
    rate = experiment.rate(state.images_seen + count // 2)
    state.set_rate(rate)
    logsnr, losses, plain = _gradient(state, batch, experiment, world)
    if not is_sharded(state.network):
        _sum_gradients(state.network, world)
    norm = clip_gradient(state.network, experiment.clip)
    losses, plain, indices = _joined(batch, losses.cpu(), plain.cpu(), world)
    loss, fault = losses.mean().item(), None
    if math.isfinite(loss) and math.isfinite(norm):
        state.optimizer.step()
        state.step += 1
        state.images_seen += count
        for average in (state.ema, *state.powers):
            average.update(state.network, state.images_seen, count)
    else:
        state.optimizer.zero_grad(set_to_none=True)
        fault = _place(state, batch, experiment, world)
        state.faults += 1
    state.optimizer.zero_grad(set_to_none=True)
    state.position += count
    return Report(
        step=state.step, images_seen=state.images_seen, position=state.position, batch=0 if fault else count,
        loss=loss, eps_loss=plain.mean().item(), grad_norm=norm, learning_rate=rate,
        seconds=time.perf_counter() - started, data_seconds=data_seconds, indices=indices, logsnr=logsnr,
        eps_losses=plain, fault=fault,
    )


def _place(state: TrainState, batch: Batch, experiment: Experiment, world: World) -> str:
    """Where a step became not finite, in the first process that knows: a weight, else an output, else a gradient."""
    looks: tuple[Callable[[], str | None], ...] = (
        lambda: nonfinite_weight(state.network),
        lambda: first_nonfinite(state.network, lambda: _gradient(state, batch, experiment, world)),
        lambda: nonfinite_gradient(state.network),
    )
    places = (place for look in looks for place in world.gathered(look()))
    return next((place for place in places if place), "the loss itself, from finite outputs and gradients")


def _gradient(
    state: TrainState, batch: Batch, experiment: Experiment, world: World = ALONE
) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of the images to the parameters; λ of the whole batch, loss and ε-loss of these, on the device.

    Of a network in shards, the gradient of the whole batch: FSDP2 averages over the processes after each micro-batch,
    of which all have as many.

    λ, noise and dropped labels belong to the image's number, so a batch may be cut in any way. Noise is drawn on the
    device, which does it much faster than a CPU and need not wait for the copy.
    """
    count, first, device = len(batch.images), batch.position + batch.begin, state.device
    t = (even if experiment.drawn.stratified else uniform)(experiment.seed, "t", batch.position, batch.whole)
    told, importance = (numbers.float() for numbers in experiment.drawn.at(t))
    logsnr, importance = told[batch.own], importance[batch.own]
    eps = noise(experiment.seed, first, (count, *experiment.shape), device)
    labels, context = _condition(batch, experiment, state.network)
    parts, divisor = [], batch.whole / (world.size if is_sharded(state.network) else 1)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(experiment.seed, first, "dropout"))
        for of in micro_batches(count, min(experiment.accumulate, batch.whole // world.size)):
            given = _moved(batch.images[of], device)
            x = given if batch.encoded else experiment.codec.encode(given)
            with autocast(device, experiment.precision):
                loss, plain = denoising_loss(
                    state.network, experiment.target, x, eps[of],
                    _moved(logsnr[of], device), None if labels is None else _moved(labels[of], device),
                    None if context is None else _moved(context[of], device),
                    weighting=experiment.weighting, factors=experiment.scales,
                )
            loss = loss * _moved(importance[of], device)
            (loss.sum() / divisor).backward()  # type: ignore[no-untyped-call]
            parts.append((loss.detach(), plain))
    return told, torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])


def micro_batches(count: int, accumulate: int) -> list[slice]:
    """The images of a batch that are computed at a time, in so many parts: as even as they can be, large ones first.

    >>> micro_batches(8, 3)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    """
    ends = [-(-count * part // accumulate) for part in range(accumulate + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _persistent_buffers(network: nn.Module) -> list[Tensor]:
    """What checkpoints keep of a network beside its parameters, such as the statistics of batch normalisation."""
    kept = network.state_dict(keep_vars=True).values()
    return [t for t in kept if isinstance(t, Tensor) and not isinstance(t, nn.Parameter)]


def clip_gradient(network: nn.Module, most: float | None) -> float:
    """Scale the gradient to a norm of at most that; returns the norm that it had."""
    norm = torch.nn.utils.clip_grad_norm_(list(network.parameters()), math.inf if most is None else most)
    return float(norm.full_tensor() if in_shards(norm) else norm)  # type: ignore[attr-defined]


def _sum_gradients(network: nn.Module, world: World) -> None:
    """Sum the gradients over the processes; a parameter has one if it has one in any of them."""
    if world.alone:
        return
    trained = [p for p in network.parameters() if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    given = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
    world.sum_([*grads, given])
    for p, grad, times in zip(trained, grads, given.tolist(), strict=True):
        p.grad = grad if times else None


def _joined(batch: Batch, losses: Tensor, plain: Tensor, world: World) -> tuple[PerImage, PerImage, list[int]]:
    """Loss, ε-loss and index of each image of the whole batch."""
    if world.alone:
        return losses, plain, batch.indices
    rows = torch.stack([losses.double(), plain.double(), torch.tensor(batch.indices, dtype=torch.float64)])
    whole = world.joined(rows, batch.begin, batch.whole)
    return whole[0].float(), whole[1].float(), whole[2].long().tolist()


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
    first, count = batch.position + batch.begin, len(batch.images)
    dropped = uniform(experiment.seed, "condition", first, count) < experiment.class_dropout
    return (
        None if labels is None else labels.masked_fill(dropped, classes or 0),
        None if context is None else context.masked_fill(dropped[:, None, None], 0.0),
    )
