"""How well a network fits held-out images: its loss by noise level, and their likelihood, bounded and exact."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from snrise._errors import require
from snrise.codecs import Pixels
from snrise.construct import kind_of
from snrise.data import ByIndex, as_uint8, numbered
from snrise.denoisers import Denoiser, from_network
from snrise.metrics import (
    FlowLikelihood,
    LossByLogsnr,
    VariationalBound,
    flow_likelihood,
    joined,
    loss_by_logsnr,
    rk4_step,
    variational_bound,
)
from snrise.networks.base import evaluating
from snrise.parallel import ALONE, World
from snrise.precision import autocast
from snrise.samplers import generators
from snrise.trained import Trained

__all__ = ["STEPS", "Fit", "fit", "likelihood"]

#: λ at which the loss is measured: most schedules train within them.
LEVELS = torch.tensor([-9.0, -6.0, -3.0, 0.0, 3.0, 6.0, 9.0])
#: Bins of λ of the bound, equally wide.
BINS = 24
#: Beyond the second, a denoiser that does not know that pixels have 256 levels pays for nothing.
ENDS = -20, 10
#: Runge-Kutta steps of the flow: within 0.005 bits of many more for `emoji-32`.
STEPS = 24
#: Network evaluations that `rk4_step` takes.
EVALUATIONS = 4

Result = TypeVar("Result", LossByLogsnr, VariationalBound, FlowLikelihood)


class Fit(NamedTuple):
    """The ε-loss by λ; of pixels the variational bound in bits per dimension, and the flow's likelihood if measured."""

    loss: LossByLogsnr
    bound: VariationalBound | None
    flow: FlowLikelihood | None = None

    def __str__(self) -> str:
        return "\n".join(str(part) for part in self if part is not None)

    def as_json(self) -> dict[str, Any]:
        """Every mean, with its standard error."""
        bound, flow = self.bound, self.flow
        of_bound = {} if bound is None else {
            "bits_per_dimension": bound.total.value, "bits_per_dimension_error": bound.total.standard_error,
            **{name: getattr(bound, name).value for name in ("prior", "diffusion", "reconstruction")},
            "bound_edges": bound.logsnrs.tolist(), "bits_by_logsnr": bound.by_logsnr.tolist(),
        }
        of_flow = {} if flow is None else {
            "flow_bits_per_dimension": flow.total.value, "flow_bits_per_dimension_error": flow.total.standard_error,
            "flow_images": len(flow.bits), "flow_steps": len(flow.logsnrs) - 1,
        }
        return {
            "images": len(self.loss.losses), "logsnrs": self.loss.logsnrs.tolist(),
            "eps_loss": self.loss.mean.tolist(), "eps_loss_error": self.loss.standard_error.tolist(),
            **of_bound, **of_flow,
        }


@torch.no_grad()
def fit(
    trained: Trained, data: ByIndex, number: int, *, batch: int = 64, seed: int = 0, bound: bool = True,
    watch: Callable[[int], None] | None = None, world: World = ALONE,
) -> Fit:
    """Measure loss and bound on `number` images of a data set, evenly spaced in it, without guidance.

    Each image has its own noise, a function of the seed. The network gets the images' classes if they are those that it
    was trained with, and their context vectors. The bound, which takes most of the time and is left out without
    `bound`, is of pixels alone, between the ends of the run's schedule, clipped to −20 and 10. `watch` is called with
    the number of images done. Several processes take batches in turn; all get the same result.

    Raises:
        SnriseError: for images of another size than the network's.
    """
    device, precision = trained.generation().device, trained.config.training.precision
    edges = _logsnrs(trained, BINS)
    losses: list[LossByLogsnr] = []
    bounds: list[VariationalBound] = []
    for mine, done in _batches(trained, data, number, batch, world):
        loss, bits = None, None
        if mine is not None:
            own = generators(seed, mine.first, len(mine.pixels))
            with evaluating(trained.network), autocast(device, precision):
                codec = trained.config.codec
                loss = loss_by_logsnr(mine.denoise, codec.encode(mine.pixels), LEVELS, own, bounds=codec.range)
                if bound and _of_pixels(trained):
                    bits = variational_bound(mine.denoise, mine.pixels, edges, own)
        losses += _of_all(loss, LossByLogsnr, world)
        bounds += _of_all(bits, VariationalBound, world)
        if watch is not None:
            watch(done.stop)
    return Fit(joined(losses), joined(bounds) if bounds else None)


def likelihood(
    trained: Trained, data: ByIndex, number: int, *, steps: int = STEPS, batch: int = 16, seed: int = 0,
    watch: Callable[[float], None] | None = None, world: World = ALONE,
) -> FlowLikelihood:
    """The exact likelihood of the same images under the probability-flow ODE, in bits per dimension, in float32.

    Between the same λ as the bound of `fit`, by `steps` Runge-Kutta steps: four evaluations of the network each, with a
    vector-Jacobian product. See `metrics.flow_likelihood`. `watch` is called with the number of images done, those in
    progress in part. Several processes take batches in turn; all get the same result.

    Raises:
        SnriseError: for images of another size than the network's.
    """
    require(steps >= 1, "likelihood.steps", steps, "a whole number above 0")
    require(_of_pixels(trained), "config.codec", kind_of(trained.config.codec), "pixels, whose likelihood it is")
    parts: list[FlowLikelihood] = []
    for mine, done in _batches(trained, data, number, batch, world):
        found = None
        if mine is not None:
            own, denoise = generators(seed, mine.first, len(mine.pixels)), mine.denoise
            if watch is not None:
                denoise = _counted(denoise, watch, done.start, len(done) / (EVALUATIONS * steps))
            with evaluating(trained.network):
                found = flow_likelihood(denoise, mine.pixels, _logsnrs(trained, steps), own, step=rk4_step)
        parts += _of_all(found, FlowLikelihood, world)
    return joined(parts)


def _of_pixels(trained: Trained) -> bool:
    """Whether it is pixels that the network diffuses, so that likelihoods of pixels are defined."""
    return trained.config.codec == Pixels()


def _logsnrs(trained: Trained, bins: int) -> Tensor:
    """The edges of equal bins of λ between the ends of the run's schedule."""
    low, high = trained.generation().schedule(torch.tensor([1.0, 0.0], dtype=torch.float64)).clamp(*ENDS).tolist()
    return torch.linspace(low, high, bins + 1, dtype=torch.float64)


def _of_all(mine: Result | None, kind: type[Result], world: World) -> list[Result]:
    """The results of all processes that have one, by rank."""
    return [kind(**told) for told in world.parts(None if mine is None else vars(mine))]


class _Batch(NamedTuple):
    """Images on the network's device, the number of the first, and the denoiser for their labels and context."""

    first: int
    pixels: UInt8[Tensor, "b 3 h w"]
    denoise: Denoiser


def _batches(
    trained: Trained, data: ByIndex, number: int, batch: int, world: World
) -> Iterator[tuple[_Batch | None, range]]:
    """This process's batch of each round, if one is left for it, and the numbers of all images of the round."""
    generation = trained.generation()
    known, device = trained.classes, generation.device
    require(data.size == generation.size, "data.size", data.size, f"{generation.size}, the size of the run's images")
    labelled = known is not None and (data.classes or numbered(len(known))) == known
    number = min(number, len(data))
    chosen = [i * len(data) // number for i in range(number)]
    for first, firsts in world.rounds(range(0, number, batch)):
        of_round = range(firsts[0], min(number, firsts[-1] + batch))
        if first is None:
            yield None, of_round
            continue
        part = data.take(chosen[first : first + batch])
        given = (part.labels if labelled else None, part.context)
        labels, context = (None if t is None else t.to(device) for t in given)
        denoise = from_network(trained.network, generation.target, labels, context)
        yield _Batch(first, as_uint8(part.images).to(device), denoise), of_round


def _counted(denoise: Denoiser, watch: Callable[[float], None], done: float, share: float) -> Denoiser:
    """The denoiser, with `watch` called after each call: `share` more images are done."""
    calls = itertools.count(1)

    def function(z: Tensor, logsnr: Tensor) -> Tensor:
        x = denoise(z, logsnr)
        watch(done + next(calls) * share)
        return x

    return Denoiser(function, denoise.process)
