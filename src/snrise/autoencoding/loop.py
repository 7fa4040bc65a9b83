"""A step of autoencoder and critic, and the loop: a generator that yields a report after each step."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise._typing import Images
from snrise.autoencoding.config import CodecConfig
from snrise.autoencoding.critic import Critic
from snrise.autoencoding.objective import (
    adaptive_weight,
    critic_loss,
    generator_loss,
    negative_log_likelihood,
    reconstruction,
)
from snrise.codecs import Pixels, codes_of, load_autoencoder
from snrise.data import Batch
from snrise.metrics import Perceptual, perceptual
from snrise.precision import autocast
from snrise.training import Ema, TrainState
from snrise.training.faults import nonfinite_gradient, nonfinite_weight
from snrise.training.loop import awaited, clip_gradient
from snrise.training.randomness import noise, uniform
from snrise.training.state import optimizer_of

__all__ = ["Adversaries", "CodecReport", "Judge", "begun", "reconstructed", "train"]

#: Of diffusers' autoencoders, their encoders and decoders: where images and codes enter and leave, and the book.
EDGES = {"conv_in", "conv_out", "quant_conv", "post_quant_conv", "quantize"}


@final
class Adversaries(nn.Module):
    """What is trained: an autoencoder of diffusers, a critic, and the logarithm of the variance of the likelihood."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.autoencoder = config.autoencoder.build()
        self.critic = Critic(config.objective.critic_channels) if config.terms.adversarial else None
        self.logvar = nn.Parameter(torch.tensor(config.objective.logvar), config.objective.learn_logvar)
        self.to(memory_format=torch.channels_last)  # a sixth faster on CPUs than the order of diffusers

    @property
    def edges(self) -> frozenset[str]:
        """What Muon leaves to AdamW, of `networks.Traits`: the critic, and where images and codes enter and leave."""
        names = (name for name, _ in self.named_parameters())
        return frozenset(n for n in names if not n.startswith("autoencoder.") or EDGES & {*n.split(".")[1:3]})


class CodecReport(NamedTuple):
    """The counts after a step, and means over the batch of what the objective is made of: `parts` by name.

    `batch` is the number of images that the step trained on: 0 for a dropped one, where `fault` names what was not
    finite.
    """

    step: int
    images_seen: int
    position: int
    batch: int
    parts: dict[str, float]
    grad_norm: float
    learning_rate: float
    seconds: float
    data_seconds: float
    indices: list[int]
    fault: str | None

    @property
    def loss(self) -> float:
        """What the autoencoder lowers, the critic's part left out: its weight changes from step to step."""
        return self.parts["loss"]


@final
@dataclass(frozen=True, eq=False)
class Judge:
    """The settings, and the perceptual network that they name; it is not trained."""

    config: CodecConfig
    distance: Perceptual | None

    @classmethod
    def of(cls, config: CodecConfig, device: torch.device) -> "Judge":
        """The judge of a run.

        Raises:
            SnriseError: where the weights of the perceptual network are missing.
        """
        name = config.objective.perceptual
        if name is None:
            return cls(config, None)
        network = perceptual(name, "config.objective.perceptual").to(device).to(memory_format=torch.channels_last)
        least, sides, fix = network.least, config.sides, "set objective.perceptual=null"
        where = "config.data.resolution" if config.training.crop is None else "config.training.crop"
        require(min(sides) >= least, where, list(sides), f"sides of {least} pixels or more", fix)
        return cls(config, network)


def begun(config: CodecConfig, device: torch.device, start: str | None = None) -> TrainState:
    """The initial state of a run: its weights depend on the seed alone, or are those of the autoencoder `start`.

    Raises:
        SnriseError: if there are none that fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Adversaries(config).to(device)
    if start is not None:
        load_autoencoder(network.autoencoder, start, "config.training.start")
    optimizer = optimizer_of(config.training, network)
    if network.critic is not None:
        _set_apart(optimizer, network.critic, config.training.critic_rate)
    return TrainState(network=network, ema=Ema(network, config.training.ema_half_life), optimizer=optimizer)


def _set_apart(optimizer: torch.optim.Optimizer, critic: nn.Module, rate: float) -> None:
    """Give the critic's parameters groups of their own, with a multiple of the learning rate."""
    own = {id(p) for p in critic.parameters()}
    for group in list(optimizer.param_groups):
        mine = [p for p in group["params"] if id(p) in own]
        if mine:
            group["params"] = [p for p in group["params"] if id(p) not in own]
            optimizer.param_groups.append({**group, "params": mine, "lr_scale": rate})


def reconstructed(autoencoder: Any, images: Images) -> Images:
    """Images −1…1 [b 3 h w] -> what the decoder makes of their codes: of a distribution, of its mean."""
    with torch.no_grad():
        given: Tensor = autoencoder.decode(codes_of(autoencoder.encode(images))).sample
    return given.float().clamp(-1, 1)


def train(
    state: TrainState, batches: Iterable[Batch], judge: Judge, *, images: int | None = None
) -> Iterator[CodecReport]:
    """Train until `images` are seen or the batches end, whichever comes first; yields a report after each step.

    Both networks are trained on the same reconstructions, which are made once a step. `batches` must start at
    `state.position`. The state changes in place and is whole between reports; a step whose loss or gradient is not
    finite leaves the weights as they were.
    """
    state.network.train()
    for batch, started in awaited(state, batches, images):
        yield _step(state, batch, judge, started, time.perf_counter() - started)


def _step(state: TrainState, batch: Batch, judge: Judge, started: float, data_seconds: float) -> CodecReport:
    count, training, network = len(batch.images), judge.config.training, state.network
    rate = training.rate(state.images_seen + count // 2)
    state.set_rate(rate)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]  # the critic's batch statistics
    parts = _gradient(state, batch, judge)
    norm = clip_gradient(network, training.clip)
    fault = None
    if all(map(math.isfinite, (*parts.values(), norm))):
        state.optimizer.step()
        state.step += 1
        state.images_seen += count
        state.ema.update(network, state.images_seen, count)
    else:
        bad = next((f"{name} of the objective" for name, value in parts.items() if not math.isfinite(value)), None)
        fault = nonfinite_weight(network) or bad or nonfinite_gradient(network) or "the norm of the gradient"
        state.faults += 1
        for buffer, before in buffers:
            buffer.copy_(before)
    state.optimizer.zero_grad(set_to_none=True)
    state.position += count
    return CodecReport(
        step=state.step, images_seen=state.images_seen, position=state.position, batch=0 if fault else count,
        parts=parts, grad_norm=norm, learning_rate=rate, seconds=time.perf_counter() - started,
        data_seconds=data_seconds, indices=batch.indices, fault=fault,
    )


def _gradient(state: TrainState, batch: Batch, judge: Judge) -> dict[str, float]:
    """Set the gradients of both networks; the parts of the objective by name.

    The gradients of likelihood and critic with respect to the reconstruction are computed once. Their chain through
    the last layer alone gives the adaptive weight, and the weighted sum is then passed back through the whole decoder.
    """
    network: Any = state.network
    config, terms, objective = judge.config, judge.config.terms, judge.config.objective
    x = Pixels().encode(cropped(batch, config).to(state.device)).contiguous(memory_format=torch.channels_last)

    def noise_like(codes: Tensor) -> Tensor:  # the noise of a code belongs to its image's number
        b, c, h, w = codes.shape
        return noise(config.seed, batch.position + batch.begin, (b, c, h, w), codes.device)

    with autocast(state.device, config.training.precision):
        given, regular, parts = config.autoencoder.coded(network.autoencoder, x, noise_like)
    leaf = given.detach().float().requires_grad_()
    with autocast(state.device, config.training.precision):
        errors = reconstruction(x, leaf, judge.distance, objective.perceptual_weight)
    likelihood = negative_log_likelihood(errors.float(), network.logvar, terms.reduction)
    likelihood.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    pull, first = leaf.grad, (x - leaf.detach()).abs().mean()
    parts |= {"loss": likelihood.detach() + regular.detach(), "nll": likelihood.detach(), "l1": first}
    parts |= {"perceptual": errors.detach().mean() - first, "logvar": network.logvar.detach()}
    if network.critic is not None and state.images_seen >= terms.critic_start:
        push, told = _criticised(network.critic, x, leaf, state.device, config)
        last = config.autoencoder.last(network.autoencoder)
        weight = terms.adversarial * adaptive_weight(*(_at(last, given, g) for g in (pull, push)))
        parts |= told | {"critic_weight": weight}
        pull = pull + weight * push
    torch.autograd.backward([given, regular], [pull.to(given.dtype), None])
    return {name: float(value) for name, value in parts.items()}


def cropped(batch: Batch, config: CodecConfig) -> Tensor:
    """The squares of images that a step is trained on; where, belongs to an image's number."""
    crop, first, count = config.training.crop, batch.position + batch.begin, len(batch.images)
    if crop is None:
        return batch.images
    height, width = batch.images.shape[-2:]
    tops = (uniform(config.seed, "top", first, count) * (height - crop + 1)).long().tolist()
    lefts = (uniform(config.seed, "left", first, count) * (width - crop + 1)).long().tolist()
    found = zip(batch.images, tops, lefts, strict=True)
    return torch.stack([image[:, top : top + crop, left : left + crop] for image, top, left in found])


def _criticised(
    critic: nn.Module, x: Images, leaf: Images, device: torch.device, config: CodecConfig
) -> tuple[Images, dict[str, Tensor]]:
    """The gradient of the generator's loss with respect to reconstructions; sets that of the critic's own loss."""
    with autocast(device, config.training.precision):
        fake, real = critic(leaf).float(), critic(x).float()
    generator, own = generator_loss(fake), critic_loss(real, fake)
    (push,) = torch.autograd.grad(generator, leaf, retain_graph=True)
    own.backward(inputs=list(critic.parameters()))  # type: ignore[no-untyped-call]
    told = {"generator": generator, "critic": own, "real": real.mean(), "fake": fake.mean()}
    return push, {name: value.detach() for name, value in told.items()}


def _at(weight: Tensor, given: Images, gradient: Images) -> Tensor:
    """The gradient of a weight, of one with respect to the reconstructions."""
    found: tuple[Tensor, ...] = torch.autograd.grad(given, weight, gradient.to(given.dtype), retain_graph=True)
    return found[0]
