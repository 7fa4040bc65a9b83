"""From a trained network to images: a function of what it was trained with, the labels and the seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from snrise._errors import require, unknown
from snrise._typing import Images, Labels, LogSnr, Network, Scalars, Size
from snrise.codecs import Codec, Pixels
from snrise.config import RunConfig, Sampling
from snrise.denoisers import Denoiser, Guided, clipped, dynamically_clipped, from_network, upsampled
from snrise.networks.base import Traits, evaluating
from snrise.parallel import ALONE, World
from snrise.precision import Precision, autocast
from snrise.process import Target
from snrise.samplers import generators, last, start
from snrise.schedules import Schedule
from snrise.training.randomness import weyl

__all__ = [
    "Generation", "State", "class_numbers", "draw_labels", "generate", "labels_for", "states", "trajectory",
]

#: Labels are shuffled within blocks of so many.
LABEL_BLOCK = 16
#: Labels of so many images come from float32, which earlier versions used; it is too coarse for those after them.
COARSE = 4096


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Generation:
    """A network, and all that is needed to make images with it.

    Attributes:
        network: trained for `target` and `schedule`.
        target: what the network predicts, and the process.
        schedule: at the network's resolution.
        size: height and width of the images; upsampled ones are larger.
        codec: encodes images for the network, and decodes its samples.
        sampling: the settings of the sampler.
        weak: a weaker network to guide away from (autoguidance), instead of the same network without labels.
        precision: what the network computes in.
    """

    network: nn.Module
    target: Target
    schedule: Schedule
    size: Size
    codec: Codec = Pixels()
    sampling: Sampling = Sampling()
    weak: nn.Module | None = None
    precision: Precision = Precision.AUTO

    @classmethod
    def of(cls, config: RunConfig, network: nn.Module, weak: nn.Module | None = None) -> "Generation":
        """For the network of a run, on the schedule that it was trained with."""
        return cls(
            network=network, target=Target(config.loss.prediction, config.process), codec=config.codec,
            schedule=config.schedule(config.shape[1:]), size=config.data.resolution, sampling=config.sampling,
            weak=weak, precision=config.training.precision,
        )

    @property
    def whole_size(self) -> Size:
        """Height and width of the generated images."""
        return self.sampling.enlarged(self.size)

    @cached_property
    def logsnrs(self) -> Scalars:
        """The sampler's grid of λ."""
        return self.sampling.grid(self.schedule, self.sampling.steps)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def denoiser(self, labels: Labels | None = None, context: Tensor | None = None) -> Denoiser:
        """z [b c h w], λ [b] -> x̂, guided, upsampled and clipped as the settings say, for images of these labels.

        Guidance leads away from the weak network if there is one, else from no labels and no context (zeros).
        """
        sampling, device = self.sampling, self.device
        labels, context = (None if t is None else t.to(device) for t in (labels, context))
        asked = _asked(self.network, self.precision)
        denoise, reference = from_network(asked, self.target, labels, context), None
        if self.weak is not None:
            reference = from_network(_asked(self.weak, self.precision), self.target, labels, context)
        elif labels is not None or context is not None:
            none = None if context is None else torch.zeros_like(context)
            reference = from_network(asked, self.target, None, none)
        guided = Guided(scale=sampling.guidance, interval=sampling.guidance_interval, rescale=sampling.rescale)
        for wrap in (guided, *sampling.wrappers):
            denoise = wrap(denoise, reference)
        if sampling.upsample > 1:
            denoise = upsampled(denoise, sampling.upsample)
        if not sampling.clip or self.codec.range is None:
            return denoise
        low, high = self.codec.range
        if sampling.dynamic_clip is None:
            return clipped(denoise, low, high)
        return dynamically_clipped(denoise, sampling.dynamic_clip, high)


def draw_labels(frequencies: Sequence[float], count: int, seed: int) -> Labels:
    """Class numbers in the data's proportions, [count]. Label i depends on the seed and i only, not on `count`.

    >>> draw_labels([0.5, 0.25, 0.25], 64, seed=0).bincount()
    tensor([32, 16, 16])
    """
    chance = torch.tensor(frequencies, dtype=torch.float64)
    edges = (chance / chance.sum()).cumsum(0)
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand((), generator=generator, dtype=torch.float64)
    # Even in [0, 1) from the beginning on; shuffled in blocks, it shows no pattern.
    blocks = -(-count // LABEL_BLOCK)
    shuffled = torch.rand(blocks, LABEL_BLOCK, generator=generator, dtype=torch.float64).argsort(dim=1)
    i = (shuffled + LABEL_BLOCK * torch.arange(blocks)[:, None]).flatten()[:count]
    u = torch.where(i < COARSE, weyl(first, i.float()).double(), weyl(first, i.double()))
    return torch.searchsorted(edges, u, right=True).clamp(max=len(chance) - 1)


def class_numbers(wanted: Sequence[str], names: Sequence[str] | None) -> list[int]:
    """The class numbers of names.

    Raises:
        SnriseError: for a name that is none of `names`, or where there are none.

    >>> class_numbers(["b", "a"], ("a", "b"))
    [1, 0]
    """
    require(names is not None, "classes", list(wanted), "none: this run was trained without classes")
    known = list(names or ())
    for name in wanted:
        if name not in known:
            raise unknown("classes", name, known, "class")
    return [known.index(name) for name in wanted]


def labels_for(
    numbers: range, seed: int, wanted: Sequence[str], names: Sequence[str] | None, frequencies: Sequence[float] | None
) -> Labels | None:
    """The class numbers of some images of a seed; None for a network without classes.

    They cycle through the wanted classes; without any, classes are drawn in the data's proportions.
    """
    if wanted:
        chosen = class_numbers(wanted, names)
        return torch.tensor([chosen[i % len(chosen)] for i in numbers])
    if names is None:
        return None
    require(frequencies is not None, "checkpoint.frequencies", None, "the share of each class")
    return draw_labels(frequencies or (), numbers.stop, seed)[numbers.start :]


class State(NamedTuple):
    """An intermediate state of sampling at log-SNR `logsnr`, as pictures: uint8 [k 3 h w] on the CPU.

    z: the noisy images, scaled to α² + σ² = 1 so that they stay in the range of a picture for any process.
    x: the denoised estimate, x̂. In the last state, both z and x are the images of `generate`.
    """

    logsnr: float
    z: UInt8[Tensor, "k 3 h w"]
    x: UInt8[Tensor, "k 3 h w"]


def generate(
    generation: Generation, labels: Labels | None, count: int, *, context: Tensor | None = None, seed: int = 0,
    batch: int = 64, first: int = 0, watch: Callable[[float], None] | None = None, world: World = ALONE,
) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
    """Yield images number first … first+count−1 of a seed, in batches of at most `batch`: uint8 [k 3 h w] on the CPU.

    `labels` [count] are class numbers, or None for the null class. `context` [count m d] are vectors that the network
    attends to. Image i depends on the seed, i, its label and its context only: the batch changes rounding at most.
    `watch` is called after each step of the sampler with the number of images done, a batch in progress counted by the
    fraction of its steps.

    Several processes each yield as many batches: these in turn, and then an empty one for those that none is left for.

    Raises:
        SnriseError: for labels that the network does not have.
    """
    _check_labels(generation.network, labels, count)
    share = 1 / (len(generation.logsnrs) - 1)
    for begin, begins in world.rounds(range(0, count, batch)):
        if begin is None:
            yield torch.empty(0, 3, *generation.whole_size, dtype=torch.uint8)
            continue
        size, together = min(batch, count - begin), min(len(begins) * batch, count - begins[0])
        told = (None if t is None else t[begin : begin + size] for t in (labels, context))
        walk = states(generation, generation.denoiser(*told), first + begin, size, seed)
        if watch is not None:
            walk = _told(walk, watch, begins[0], together * share)
        yield _picture(generation, last(walk))


def _told(states: Iterator[Images], watch: Callable[[float], None], done: float, step: float) -> Iterator[Images]:
    """The states; `watch` is called before each with the images done, a `step` more each time."""
    for i, z in enumerate(states):
        watch(done + i * step)
        yield z


def trajectory(
    generation: Generation, labels: Labels | None, count: int, *, context: Tensor | None = None, seed: int = 0,
    first: int = 0,
) -> Iterator[State]:
    """Yield the states of sampling images number first … first+count−1 of a seed, as one batch.

    One state for each λ of the grid. The last is, in both its pictures, what `generate` gives for the same arguments.
    """
    _check_labels(generation.network, labels, count)
    denoise, estimates = generation.denoiser(labels, context), []

    def watched(z: Images, logsnr: LogSnr) -> Images:
        estimates.append(denoise(z, logsnr))
        return estimates[-1]

    walk = states(generation, Denoiser(watched, denoise.process), first, count, seed)
    z = next(walk)
    # A sampler's first question in a step is about the state that it is at.
    for logsnr, after in zip(generation.logsnrs[:-1], walk, strict=True):
        alpha, sigma = generation.target.process.alpha_sigma(logsnr)
        scaled = z / (alpha**2 + sigma**2).sqrt().item()
        yield State(logsnr.item(), _picture(generation, scaled), _picture(generation, estimates[0]))
        estimates.clear()
        z = after
    yield State(generation.logsnrs[-1].item(), _picture(generation, z), _picture(generation, z))


def _check_labels(network: nn.Module, labels: Labels | None, count: int) -> None:
    classes = Traits(network).classes
    if labels is not None:
        require(classes is not None, "generate.labels", labels.tolist()[:8], "None: this network knows no classes")
        good = len(labels) == count and (not count or 0 <= int(labels.min()) <= int(labels.max()) < (classes or 0))
        require(good, "generate.labels", labels.tolist()[:8], f"{count} class numbers from 0 to {(classes or 0) - 1}")


def states(
    generation: Generation, denoise: Denoiser, first: int, count: int, seed: int, noise: Images | None = None
) -> Iterator[Images]:
    """The sampler's states of images number first … first+count−1 of a seed, as the codec encodes them [count c h w].

    They begin with `noise` of variance 1, by default that of the seed.
    """
    own = generators(seed, first, count)
    shape = count, *generation.codec.shape(generation.whole_size)
    z = start(denoise, shape, generation.logsnrs[0], own, noise).to(generation.device)
    return generation.sampling.sampler(denoise, z, generation.logsnrs, own)


def _asked(network: nn.Module, precision: Precision) -> Network:
    """The network for inference: in evaluation mode, without gradients, in its precision.

    The contexts are open only while it computes, never while a generator is suspended: a caller may train it meanwhile.
    """
    device = next(network.parameters()).device

    def ask(z: Tensor, logsnr: Tensor, labels: Tensor | None = None, /, *context: Tensor) -> Tensor:
        with evaluating(network), torch.no_grad(), autocast(device, precision):
            prediction: Tensor = network(z, logsnr, labels, *context)
            return prediction

    return ask


def _picture(generation: Generation, x: Images) -> UInt8[Tensor, "b 3 H W"]:
    return generation.codec.decode(x.float()).cpu()
