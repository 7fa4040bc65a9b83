"""The training loop: a generator that takes a step, then says how it went."""

import hashlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from snrise._errors import require
from snrise._typing import Labels, LogSnr, PerImage
from snrise.data import Batch
from snrise.levels import Levels
from snrise.losses import denoising_loss
from snrise.process import Target
from snrise.training.faults import first_nonfinite
from snrise.training.optim import LearningRate
from snrise.training.precision import Precision, autocast
from snrise.training.state import TrainState
from snrise.weightings import Constant, Weighting

__all__ = ["Recipe", "Report", "step_seed", "train"]


@final
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a step does. `factors` are the scales of the loss."""

    target: Target
    levels: Levels
    learning_rate: LearningRate
    weighting: Weighting = Constant()
    factors: tuple[int, ...] = (1,)
    clip: float | None = 1.0
    class_dropout: float = 0.1
    accumulate: int = 1
    precision: Precision = Precision.AUTO
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.clip is None or self.clip > 0, "Recipe.clip", self.clip, "a norm above 0, or None")
        require(0 <= self.class_dropout <= 1, "Recipe.class_dropout", self.class_dropout, "a share in [0, 1]")
        require(self.accumulate >= 1, "Recipe.accumulate", self.accumulate, "a whole number above 0")


class Report(NamedTuple):
    """How a step went: the counts after it, means over the batch, and for each image its index, λ and ε-loss.

    `batch` is how many images the weights have learnt from: none, where a `fault` says which number was not finite.
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


def step_seed(seed: int, images_seen: int, use: str) -> int:
    """A seed for one use at one position of a run; unrelated for any other seed, position or use."""
    digest = hashlib.blake2b(f"{seed}/{images_seen}/{use}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % 2**63


def train(
    state: TrainState, batches: Iterable[Batch], recipe: Recipe, *, images: int | None = None
) -> Iterator[Report]:
    """Train until `images` are seen or the batches end, whichever is first; a report after each step.

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
        yield _step(state, batch, recipe, started, time.perf_counter() - started)


def _step(state: TrainState, batch: Batch, recipe: Recipe, started: float, data_seconds: float) -> Report:
    count = len(batch.images)
    rate = recipe.learning_rate(state.images_seen + count // 2)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    logsnr, losses, plain = _gradient(state, batch, recipe)
    parameters = list(state.network.parameters())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, math.inf if recipe.clip is None else recipe.clip))
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
        fault = first_nonfinite(state.network, lambda: _gradient(state, batch, recipe))
        state.faults += 1
    state.optimizer.zero_grad(set_to_none=True)
    state.position += count
    return Report(
        step=state.step, images_seen=state.images_seen, position=state.position, batch=0 if fault else count,
        loss=loss, eps_loss=plain.mean().item(), grad_norm=norm, learning_rate=rate,
        seconds=time.perf_counter() - started, data_seconds=data_seconds, indices=batch.indices, logsnr=logsnr,
        eps_losses=plain, fault=fault,
    )


def _gradient(state: TrainState, batch: Batch, recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """Add the batch's gradient to the parameters; λ, loss and ε-loss of each image, the last two on the device.

    All randomness is drawn for the whole batch at once, so accumulating over parts of it gives the same gradient. Noise
    is drawn on the device, which does it much faster than a CPU and need not wait for the copy.
    """
    seed, count, device = step_seed(recipe.seed, batch.position, "noise"), len(batch.images), state.device
    generator = torch.Generator().manual_seed(seed)
    own = generator if device.type == "cpu" else torch.Generator(device).manual_seed(seed)
    logsnr, importance = recipe.levels(count, generator)
    eps = torch.randn(batch.images.shape, generator=own, device=device)
    labels = _drop_labels(batch.labels, recipe, state, generator)
    parts, size = [], -(-count // recipe.accumulate)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(step_seed(recipe.seed, batch.position, "dropout"))
        for first in range(0, count, size):
            of = slice(first, first + size)
            with autocast(device, recipe.precision):
                loss, plain = denoising_loss(
                    state.network, recipe.target, _moved(batch.images[of], device), eps[of],
                    _moved(logsnr[of], device), None if labels is None else _moved(labels[of], device),
                    weighting=recipe.weighting, factors=recipe.factors,
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


def _drop_labels(
    labels: Labels | None, recipe: Recipe, state: TrainState, generator: torch.Generator
) -> Labels | None:
    """Replace some labels by the null class, for guidance later."""
    classes = getattr(state.network, "classes", None)
    if labels is None or classes is None:
        return None
    dropped = torch.rand(len(labels), generator=generator) < recipe.class_dropout
    return torch.where(dropped, classes, labels)
