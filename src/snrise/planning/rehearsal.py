"""A training step on fake tensors: what it would hold in memory and multiply, without computing anything."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import nn

from snrise.codecs import Autoencoder
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

__all__ = ["Done", "Rehearsal", "Steps", "Update", "rehearse", "rehearse_update"]


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


@final
@dataclass(frozen=True, kw_only=True)
class Update:
    """The memory of a step outside of its passes, in bytes: neither batch size nor activation checkpointing changes it.

    static, gradients: as in `Rehearsal`, but whole. held: what persists between steps, with the network's buffers.
    peak: the most while the optimizer steps, with the allocator's overhead.
    """

    static: Mapping[str, int]
    gradients: int
    held: float
    peak: float


def rehearse(experiment: Experiment, device: Device, shards: int = 1, update: Update | None = None) -> Rehearsal:
    """The second step of a run, when the optimizer has its state. It takes a few seconds at most.

    With `shards`, that of a rank which holds one of so many shards of parameters, average, optimizer state, and of each
    gradient once it is there. The update's temporaries are divided, too: Muon's products, of whole matrices, are
    assumed to be dealt out by matrices (Liu et al. 2025, arXiv 2502.16982, sec. 2.3). Copies of weights that autocast
    keeps for the way back are whole. An `update` of the same run that is known is not rehearsed again.

    >>> from snrise.documents import load
    >>> from snrise.planning.devices import DEVICES
    >>> step = rehearse(Experiment.imagined(load("emoji-32"), 97), DEVICES["h100"])
    >>> step.images, step.static["parameters"] // 2**20, sum(step.kept.values()) < step.peak
    (32, 12, True)
    """
    # The device's precision, not this machine's: also of the optimizer's products.
    experiment = replace(experiment, precision=device.precision(experiment.precision))
    update = update or rehearse_update(experiment, device)
    context = experiment.dataset.context  # may look at the data, which are no fake tensors
    with imagined(gpu=device.gpu) as ledger:
        module = _imaginary(experiment)
        ledger.follow(module)
        ledger.weighted = update.held / shards  # the module among it
        ledger.begin(device.taken)
        images, kept, flops = _passes(module, experiment, context, device, ledger, shards)
        beside = gathered(module) if shards > 1 else 0
        return Rehearsal(
            images=images, static={name: _shard(size, shards) for name, size in update.static.items()},
            gradients=_shard(update.gradients, shards), kept=kept, flops=flops, gathered=beside,
            peak=int(max(ledger.peak + beside, update.peak / shards)),
        )


def rehearse_update(experiment: Experiment, device: Device) -> Update:
    """A second step without its passes."""
    experiment = replace(experiment, precision=device.precision(experiment.precision))
    with imagined(gpu=device.gpu) as ledger:
        state = TrainState.begun(experiment, _imaginary(experiment))
        _fill_gradients(state)
        state.optimizer.step()  # the first step creates the optimizer's state
        state.optimizer.zero_grad(set_to_none=True)
        before = [p.detach().clone() for p in state.network.parameters()]
        held = ledger.weighted
        ledger.begin(device.taken)
        _fill_gradients(state)
        _update(state, experiment)
        parameters = list(state.network.parameters())
        static = {
            "parameters": bytes_of(parameters), "average": bytes_of(state.ema.parameters.values()),
            "optimizer": bytes_of(t for own in state.optimizer.state.values() for t in own.values()),
            "before the step": bytes_of(before),
        }
        gradients = bytes_of(p for p in parameters if p.requires_grad)
        return Update(static=static, gradients=gradients, held=held, peak=ledger.peak)


def _imaginary(experiment: Experiment) -> nn.Module:
    """The network with parameters that are imagined."""
    return copied(experiment.network, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype))


def _shard(size: int, shards: int) -> int:
    """The largest of equal shards."""
    return -(-size // shards)


@final
@dataclass
class Done:
    """Rehearsals of one run on one device: its update, and steps by what they differ in."""

    update: Update | None = None
    steps: dict[Any, Rehearsal] = field(default_factory=dict)


@final
class Steps:
    """Cached rehearsals of one run by checkpoint settings, batch size and accumulation.

    Of a rank of it, with `shards`, and what the rank `holds` of a rehearsed step. Those for one run and device may
    share what is `done`.
    """

    def __init__(
        self, experiment: Experiment, device: Device, *, shards: int = 1,
        holds: Callable[[Rehearsal], Rehearsal] = lambda step: step, done: Done | None = None,
    ) -> None:
        self.experiment, self.device, self.shards, self._holds = experiment, device, shards, holds
        self._done = Done() if done is None else done
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
        done = self._done
        if key not in done.steps:
            done.update = done.update or rehearse_update(self.experiment, self.device)
            experiment = replace(self.experiment, batch=batch, accumulate=accumulate, network=self._network(chosen))
            done.steps[key] = rehearse(experiment, self.device, self.shards, done.update)
        return self._holds(done.steps[key])

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


def _fill_gradients(state: TrainState) -> None:
    for p in state.network.parameters():
        p.grad = torch.empty_like(p) if p.requires_grad else None


def _passes(
    network: nn.Module, experiment: Experiment, context: tuple[int, int] | None, device: Device, ledger: Ledger,
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

    for p in network.parameters() if shards > 1 else ():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(divide)  # type: ignore[no-untyped-call]
    ledger.part = "loss"
    count = experiment.batch
    eps = torch.empty(count, *experiment.shape)
    # A GPU draws the noise of the whole batch, and gets the images a micro-batch at a time.
    codes = isinstance(experiment.codec, Autoencoder)  # which a run reads, once they are computed
    shape, dtype = (experiment.shape, torch.float32) if codes else ((3, *experiment.size), torch.uint8)
    pictures = torch.empty(1 if device.gpu else count, *shape, dtype=dtype)
    labels = None if Traits(network).classes is None else torch.zeros(count, dtype=torch.int64)
    vectors = None if context is None else torch.zeros(count, *context)
    kept: dict[str, int] = {}
    sizes = [part.stop - part.start for part in micro_batches(count, experiment.accumulate)[:2]]
    for size in sizes:
        given = pictures.new_empty(size, *pictures.shape[1:]) if device.gpu else pictures[:size]
        x = given if codes else experiment.codec.encode(given)
        with autocast(torch.device("cpu"), experiment.precision):
            loss, plain = denoising_loss(
                network, experiment.target, x, eps[:size], torch.zeros(size),
                None if labels is None else labels[:size], None if vectors is None else vectors[:size],
                weighting=experiment.weighting, factors=experiment.scales,
            )
        kept = kept or {part: held for part, held in ledger.by_part.items() if held and part}
        ledger.part = ""
        (loss.sum() / count).backward()  # type: ignore[no-untyped-call]
        ledger.part = ""
        del loss, plain
    return sizes[0], kept, ledger.flops / sum(sizes)


def _update(state: TrainState, experiment: Experiment) -> None:
    """The rest of a step."""
    count = experiment.batch
    torch.nn.utils.clip_grad_norm_(list(state.network.parameters()), experiment.clip or torch.inf)
    state.optimizer.step()
    state.ema.update(state.network, count, count)
    state.optimizer.zero_grad(set_to_none=True)
