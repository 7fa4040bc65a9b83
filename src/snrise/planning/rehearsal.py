"""A training step on fake tensors: what it would hold in memory and multiply, without computing anything."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import nn

from snrise.construct import construct, plain
from snrise.documents import override
from snrise.experiment import Experiment, network
from snrise.losses import denoising_loss
from snrise.networks import NetworkConfig, Traits
from snrise.networks.cost import copied
from snrise.planning.blocks import gathered
from snrise.planning.devices import Device
from snrise.planning.ledger import Ledger, bytes_of, imagined
from snrise.precision import autocast
from snrise.training import TrainState
from snrise.training.loop import micro_batches

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

    Of a rank that holds a shard: static and gradients are its own, `gathered` the whole parameters and gradients that
    it holds beside them while it computes.
    """

    images: int
    static: Mapping[str, int]
    gradients: int
    kept: Mapping[str, int]
    peak: int
    flops: float
    gathered: int = 0


def rehearse(experiment: Experiment, device: Device, shards: int = 1) -> Rehearsal:
    """The second step of a run, when the optimizer has its state. It takes a few seconds at most.

    With `shards`, that of a rank which holds one of so many shards of parameters, average, optimizer state, and of each
    gradient once it is there. The update's temporaries are divided, too: Muon's products, of whole matrices, are
    assumed to be dealt out by matrices (Liu et al. 2025, arXiv 2502.16982, sec. 2.3). Copies of weights that autocast
    keeps for the way back are whole.

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
        ledger.shards = shards
        module = copied(experiment.network, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype))
        state = TrainState.begun(experiment, module)
        ledger.follow(module)
        _first_step(state)
        before = [p.detach().clone() for p in module.parameters()]
        ledger.begin(device.taken)
        ledger.shards = 1
        images, kept, flops = _passes(state, experiment, context, device, ledger, shards)
        passes, ledger.shards = ledger.begin_update(), shards
        _update(state, experiment)
        static = {
            "parameters": bytes_of(module.parameters()), "average": bytes_of(state.ema.parameters.values()),
            "optimizer": bytes_of(t for own in state.optimizer.state.values() for t in own.values()),
            "before the step": bytes_of(before),
        }
        gradients = bytes_of(p for p in module.parameters() if p.requires_grad)
        beside = gathered(module) if shards > 1 else 0
        return Rehearsal(
            images=images, static={name: _shard(size, shards) for name, size in static.items()},
            gradients=_shard(gradients, shards), kept=kept, peak=int(max(passes + beside, ledger.peak)), flops=flops,
            gathered=beside,
        )


def _shard(size: int, shards: int) -> int:
    """The largest of equal shards."""
    return -(-size // shards)


@final
class Steps:
    """Cached rehearsals of one run by checkpoint settings, batch size and accumulation.

    Of a rank of it, with `shards`, and what the rank `holds` of a rehearsed step. Those for one run and device may
    share what is `done`.
    """

    def __init__(
        self, experiment: Experiment, device: Device, *, shards: int = 1,
        holds: Callable[[Rehearsal], Rehearsal] = lambda step: step, done: dict[Any, Rehearsal] | None = None,
    ) -> None:
        self.experiment, self.device, self.shards, self._holds = experiment, device, shards, holds
        self._done: dict[Any, Rehearsal] = {} if done is None else done
        self.network = experiment.settings.network
        #: The network's checkpoint settings, from the highest resolution to the lowest; none of a module of one's own.
        self.settings = tuple(dict.fromkeys(s.checkpoint for s in self.network.stages() if s.checkpoint is not None))

    @property
    def chosen(self) -> tuple[str, ...]:
        """The settings that are on."""
        document = plain(self.network)
        return tuple(s for s in self.settings if functools.reduce(_item, s.split("."), document))

    def __call__(self, checkpoints: Iterable[str], batch: int, accumulate: int = 1) -> Rehearsal:
        chosen = tuple(s for s in self.settings if s in {*checkpoints})
        key = chosen, batch, accumulate, self.shards
        if key not in self._done:
            experiment = replace(self.experiment, batch=batch, accumulate=accumulate, network=self._network(chosen))
            self._done[key] = rehearse(experiment, self.device, self.shards)
        return self._holds(self._done[key])

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


def _passes(
    state: TrainState, experiment: Experiment, context: tuple[int, int] | None, device: Device, ledger: Ledger,
    shards: int,
) -> tuple[int, dict[str, int], float]:
    """Both passes of a step of `training.train`: size of its first micro-batch, bytes kept by part, FLOPs an image.

    Of the micro-batches only two: the others hold what the second does.
    """
    once: set[int] = set()

    def divide(p: nn.Parameter) -> None:
        if p.grad is not None and id(p) not in once:
            once.add(id(p))
            ledger.divide(p.grad, shards)

    for p in state.network.parameters() if shards > 1 else ():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(divide)  # type: ignore[no-untyped-call]
    ledger.part = "loss"
    count, before = experiment.batch, ledger.flops
    eps = torch.empty(count, *experiment.shape)
    # A GPU draws the noise of the whole batch, and gets the images a micro-batch at a time.
    pictures = torch.empty(1 if device.gpu else count, 3, *experiment.size, dtype=torch.uint8)
    labels = None if Traits(state.network).classes is None else torch.zeros(count, dtype=torch.int64)
    vectors = None if context is None else torch.zeros(count, *context)
    kept: dict[str, int] = {}
    sizes = [part.stop - part.start for part in micro_batches(count, experiment.accumulate)[:2]]
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
    return sizes[0], kept, (ledger.flops - before) / sum(sizes)


def _update(state: TrainState, experiment: Experiment) -> None:
    """The rest of a step."""
    count = experiment.batch
    torch.nn.utils.clip_grad_norm_(list(state.network.parameters()), experiment.clip or torch.inf)
    state.optimizer.step()
    state.ema.update(state.network, count, count)
    state.optimizer.zero_grad(set_to_none=True)
