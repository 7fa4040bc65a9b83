"""From a trained network to images: the way is fixed by what it was trained with, the labels and the seed."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from snrise._errors import require
from snrise._typing import Images, Labels, LogSnr, Network, Scalars, Size
from snrise.data import to_uint8
from snrise.denoisers import Denoiser, clipped, dynamically_clipped, from_network, guided_within, upsampled
from snrise.networks.base import evaluating
from snrise.process import Target
from snrise.samplers import Ancestral, Sampler, generators, last, start
from snrise.training.precision import Precision, autocast

__all__ = ["Generation", "State", "draw_labels", "generate", "trajectory"]

#: Labels are shuffled within blocks of so many.
LABEL_BLOCK = 16


@final
@dataclass(frozen=True, kw_only=True)
class Generation:
    """How images come out.

    Attributes:
        target: what the network predicts, and the process.
        size: height and width of the images, also where they are upsampled.
        logsnrs: λ at which the sampler stops.
        sampler: the way there.
        guidance: its scale; 1 is none. Without labels there is none either, unless there is a weak network.
        guidance_interval: the λ between which there is any.
        weak: a weaker network that guidance leads away from, instead of the same network without labels.
        rescale: φ, how far the contrast that guidance adds is taken back.
        clip: whether x̂ is held within [−1, 1].
        dynamic_clip: the percentile of |x̂| at which it is clipped, to be scaled into that range; None cuts it off.
        upsample: how many times as large as those that the network knows the images are.
        precision: what the network computes in.
    """

    target: Target
    size: Size
    logsnrs: Scalars
    sampler: Sampler = Ancestral()
    guidance: float = 1.0
    guidance_interval: tuple[float, float] = (-torch.inf, torch.inf)
    weak: nn.Module | None = None
    rescale: float = 0.0
    clip: bool = True
    dynamic_clip: float | None = None
    upsample: int = 1
    precision: Precision = Precision.AUTO

    def __post_init__(self) -> None:
        require(self.guidance >= 0, "Generation.guidance", self.guidance, "a number, 0 or more (1 is none)")
        require(self.upsample >= 1, "Generation.upsample", self.upsample, "a whole number, 1 (as trained) or more")
        require(
            self.clip or self.dynamic_clip is None, "Generation.dynamic_clip", self.dynamic_clip,
            "None where nothing is clipped", "clip=True",
        )


def draw_labels(frequencies: Sequence[float], count: int, seed: int) -> Labels:
    """Class numbers in the data's own proportions. Label i depends on the seed and i only, not on `count`. [count]

    >>> draw_labels([0.5, 0.25, 0.25], 64, seed=0).bincount()
    tensor([32, 16, 16])
    """
    chance = torch.tensor(frequencies, dtype=torch.float64)
    edges = (chance / chance.sum()).cumsum(0)
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand((), generator=generator, dtype=torch.float64)
    # Weyl's sequence, i/φ mod 1, is even in [0, 1) from the beginning on; shuffled in blocks, it shows no pattern.
    blocks = -(-count // LABEL_BLOCK)
    shuffled = torch.rand(blocks, LABEL_BLOCK, generator=generator, dtype=torch.float64).argsort(dim=1)
    i = (shuffled + LABEL_BLOCK * torch.arange(blocks)[:, None]).flatten()[:count]
    u = (first + i * ((math.sqrt(5) - 1) / 2)) % 1
    return torch.searchsorted(edges, u, right=True).clamp(max=len(chance) - 1)


class State(NamedTuple):
    """Images on their way, at log-SNR `logsnr`, as pictures: uint8 [k 3 h w] on the CPU.

    z: the noisy images, scaled to α² + σ² = 1 so that no process leaves the range that a picture has.
    x: what the network takes them for, x̂. In the last state z and x both are what `generate` makes.
    """

    logsnr: float
    z: UInt8[Tensor, "k 3 h w"]
    x: UInt8[Tensor, "k 3 h w"]


def generate(
    network: nn.Module, how: Generation, labels: Labels | None, count: int, *, seed: int = 0, batch: int = 64,
    first: int = 0, watch: Callable[[float], None] | None = None,
) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
    """Yield images number first … first+count−1 of a seed, in batches of at most `batch`: uint8 [k 3 h w] on the CPU.

    `labels` [count] are class numbers, or None for no class; others are an error. Image i depends on the seed, i and
    its label only: the batch changes at most its last rounding. `watch` takes how many images are done after each step
    of the sampler, those under way as the share of their steps.
    """
    _check_labels(network, labels, count)
    share = 1 / (len(how.logsnrs) - 1)
    for begin in range(0, count, batch):
        size = min(batch, count - begin)
        part = None if labels is None else labels[begin : begin + size]
        states = _states(_denoiser(network, how, part), _device(network), how, first + begin, size, seed)
        yield _picture(last(states if watch is None else _told(states, watch, begin, size * share)))


def _told(states: Iterator[Images], watch: Callable[[float], None], done: float, step: float) -> Iterator[Images]:
    """The states, each told of before it is yielded: what was done before them, and a step more with each."""
    for i, z in enumerate(states):
        watch(done + i * step)
        yield z


def trajectory(
    network: nn.Module, how: Generation, labels: Labels | None, count: int, *, seed: int = 0, first: int = 0
) -> Iterator[State]:
    """Yield the states that images number first … first+count−1 of a seed pass through, all of them at a time.

    One state for each λ of the grid. The last is, in both its pictures, what `generate` makes of the same arguments.
    """
    _check_labels(network, labels, count)
    denoise, found = _denoiser(network, how, labels), []

    def watched(z: Images, logsnr: LogSnr) -> Images:
        found.append(denoise(z, logsnr))
        return found[-1]

    states = _states(Denoiser(watched, denoise.process), _device(network), how, first, count, seed)
    z = next(states)
    # A sampler's first question in a step is about the state that it is at.
    for logsnr, after in zip(how.logsnrs[:-1], states, strict=True):
        alpha, sigma = how.target.process.alpha_sigma(logsnr)
        yield State(logsnr.item(), _picture(z / (alpha**2 + sigma**2).sqrt().item()), _picture(found[0]))
        found.clear()
        z = after
    yield State(how.logsnrs[-1].item(), _picture(z), _picture(z))


def _check_labels(network: nn.Module, labels: Labels | None, count: int) -> None:
    classes = getattr(network, "classes", None)
    if labels is not None:
        require(classes is not None, "generate.labels", labels.tolist()[:8], "None: this network knows no classes")
        good = len(labels) == count and (not count or 0 <= int(labels.min()) <= int(labels.max()) < (classes or 0))
        require(good, "generate.labels", labels.tolist()[:8], f"{count} class numbers from 0 to {(classes or 0) - 1}")


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _states(
    denoise: Denoiser, device: torch.device, how: Generation, first: int, count: int, seed: int
) -> Iterator[Images]:
    """The sampler's states of images number first … first+count−1 of a seed."""
    own = generators(seed, first, count)
    z = start(denoise, (count, 3, *how.size), how.logsnrs[0], own).to(device)
    return how.sampler(denoise, z, how.logsnrs, own)


def _denoiser(network: nn.Module, how: Generation, labels: Labels | None) -> Denoiser:
    asked = _asked(network, how.precision)
    labels = None if labels is None else labels.to(_device(network))
    denoise = from_network(asked, how.target, labels)
    reference = None if labels is None else from_network(asked, how.target)
    if how.weak is not None:
        reference = from_network(_asked(how.weak, how.precision), how.target, labels)
    if reference is not None:
        denoise = guided_within(denoise, reference, how.guidance, how.guidance_interval, how.rescale)
    if how.upsample > 1:
        denoise = upsampled(denoise, how.upsample)
    if how.dynamic_clip is not None:
        return dynamically_clipped(denoise, how.dynamic_clip)
    return clipped(denoise) if how.clip else denoise


def _asked(network: nn.Module, precision: Precision) -> Network:
    """The network as it is asked for images: evaluating, without gradients, in its precision.

    The contexts are open while it computes only, never while a generator waits: who trains it meanwhile finds it as it
    was.
    """
    device = _device(network)

    def ask(z: Tensor, logsnr: Tensor, labels: Tensor | None = None, /) -> Tensor:
        with evaluating(network), torch.no_grad(), autocast(device, precision):
            prediction: Tensor = network(z, logsnr, labels)
            return prediction

    return ask


def _picture(images: Images) -> UInt8[Tensor, "k 3 h w"]:
    return to_uint8(images.float().cpu())
