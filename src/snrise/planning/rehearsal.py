"""A training step on fake tensors: what it would hold in memory and multiply, without computing anything."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from snrise.construct import construct, plain
from snrise.documents import override
from snrise.experiment import Experiment, network
from snrise.losses import denoising_loss
from snrise.networks import NetworkConfig, Traits
from snrise.networks.cost import copied
from snrise.planning.devices import Device
from snrise.planning.ledger import Ledger, imagined
from snrise.precision import autocast
from snrise.training import TrainState

__all__ = ["Rehearsal", "Steps", "rehearse"]


@final
@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The memory in bytes and the operations of a training step.

    images: those of a micro-batch. static: what persists between steps: parameters, their average, the optimizer's
    state, and the copy of the weights that a logged step is compared with. gradients: of the trained parameters. kept:
    by part of the network, the activations of the first micro-batch when its backward pass starts; "loss" is outside
    of the network. peak: the most at any time, with the allocator's overhead. flops: of forward and backward for one
    image, with what activation checkpointing recomputes.
    """

    images: int
    static: Mapping[str, int]
    gradients: int
    kept: Mapping[str, int]
    peak: int
    flops: float


def rehearse(experiment: Experiment, device: Device) -> Rehearsal:
    """The second step of a run, when the optimizer has its state. It takes a few seconds at most.

    >>> from snrise.documents import load
    >>> from snrise.planning.devices import DEVICES
    >>> step = rehearse(Experiment.imagined(load("emoji-32"), 97), DEVICES["h100"])
    >>> step.images, step.static["parameters"] // 2**20, sum(step.kept.values()) < step.peak
    (32, 12, True)
    """
    # The device's precision, not this machine's: also of the optimizer's products.
    experiment = replace(experiment, precision=device.precision(experiment.precision))
    context = experiment.dataset.context
    with imagined(gpu=device.gpu) as ledger:
        module = copied(experiment.network, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype))
        state = TrainState.begun(experiment, module)
        ledger.follow(module)
        _first_step(state)
        before = [p.detach().clone() for p in module.parameters()]
        ledger.begin(device.taken)
        images, kept, flops = _step(state, experiment, context, device, ledger)
        static = {
            "parameters": _bytes(module.parameters()), "average": _bytes(state.ema.parameters.values()),
            "optimizer": _bytes(t for own in state.optimizer.state.values() for t in own.values()),
            "before the step": _bytes(before),
        }
        gradients = _bytes(p for p in module.parameters() if p.requires_grad)
        return Rehearsal(
            images=images, static=static, gradients=gradients, kept=kept, peak=int(ledger.peak), flops=flops
        )


@final
class Steps:
    """Cached rehearsals of one run by checkpoint settings, batch size and accumulation."""

    def __init__(self, experiment: Experiment, device: Device) -> None:
        self.experiment, self.device = experiment, device
        self.network = experiment.settings.network
        #: The network's checkpoint settings, from the highest resolution to the lowest; none of a module of one's own.
        self.settings = tuple(dict.fromkeys(s.checkpoint for s in self.network.stages() if s.checkpoint is not None))
        self._done: dict[tuple[tuple[str, ...], int, int], Rehearsal] = {}

    @property
    def chosen(self) -> tuple[str, ...]:
        """The settings that are on."""
        document = plain(self.network)
        return tuple(s for s in self.settings if functools.reduce(_item, s.split("."), document))

    def __call__(self, checkpoints: Iterable[str], batch: int, accumulate: int = 1) -> Rehearsal:
        chosen = tuple(s for s in self.settings if s in {*checkpoints})
        key = chosen, batch, accumulate
        if key not in self._done:
            experiment = replace(self.experiment, batch=batch, accumulate=accumulate, network=self._network(chosen))
            self._done[key] = rehearse(experiment, self.device)
        return self._done[key]

    def _network(self, chosen: tuple[str, ...]) -> nn.Module:
        """The network with activation checkpointing for the chosen settings alone."""
        if chosen == self.chosen:
            return self.experiment.network
        document = {"network": plain(self.network)}
        for setting in self.settings:
            override(document, f"network.{setting}={str(setting in chosen).lower()}")
        config: NetworkConfig = construct(NetworkConfig, document["network"], "config.network")
        classes = self.experiment.classes
        settings = replace(self.experiment.settings, network=config)
        return network(settings, None if classes is None else len(classes), "meta")


def _item(place: Any, key: str) -> Any:
    return place[int(key)] if isinstance(place, list) else place[key]


def _first_step(state: TrainState) -> None:
    """Create the optimizer's state, as the first step does."""
    for p in state.network.parameters():
        p.grad = torch.empty_like(p) if p.requires_grad else None
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


def _step(
    state: TrainState, experiment: Experiment, context: tuple[int, int] | None, device: Device, ledger: Ledger
) -> tuple[int, dict[str, int], float]:
    """A step as `training.train` takes it: size of its first micro-batch, bytes kept by part, FLOPs an image.

    Of the micro-batches only two: the others hold what the second does.
    """
    ledger.part = "loss"
    count, before = experiment.batch, ledger.flops
    eps = torch.empty(count, *experiment.shape)
    # A GPU draws the noise of the whole batch, and gets the images a micro-batch at a time.
    pictures = torch.empty(1 if device.gpu else count, 3, *experiment.size, dtype=torch.uint8)
    labels = None if Traits(state.network).classes is None else torch.zeros(count, dtype=torch.int64)
    vectors = None if context is None else torch.zeros(count, *context)
    kept: dict[str, int] = {}
    sizes = _parts(count, experiment.accumulate)[:2]
    for size in sizes:
        x = experiment.codec.encode(pictures.new_empty(size, *pictures.shape[1:]) if device.gpu else pictures[:size])
        with autocast(torch.device("cpu"), experiment.precision):
            loss, plain = denoising_loss(
                state.network, experiment.target, x, eps[:size], torch.zeros(size),
                None if labels is None else labels[:size], None if vectors is None else vectors[:size],
                weighting=experiment.weighting, factors=experiment.scales,
            )
        kept = kept or {part: held for part, held in ledger.by_part.items() if held and part}
        ledger.part = ""
        (loss.sum() / count).backward()  # type: ignore[no-untyped-call]
        ledger.part = ""
        del loss, plain
    flops = (ledger.flops - before) / sum(sizes)
    torch.nn.utils.clip_grad_norm_(list(state.network.parameters()), experiment.clip or torch.inf)
    state.optimizer.step()
    state.ema.update(state.network, count, count)
    state.optimizer.zero_grad(set_to_none=True)
    return sizes[0], kept, flops


def _parts(count: int, accumulate: int) -> list[int]:
    """The sizes of a batch's micro-batches, as training cuts it."""
    largest = -(-count // accumulate)
    return [min(largest, count - first) for first in range(0, count, largest)]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
