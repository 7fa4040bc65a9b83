"""snrise: the trunk of the recipe emoji-32 behind a wavelet stem, trained by the library's own trainer."""

import time
from dataclasses import dataclass
from typing import final

import torch

from benchmarks.claims import trainings
from benchmarks.claims.peers.contender import HALF_LIFE, WARMUP, Made, Order
from benchmarks.claims.peers.training import all_cores, paced
from snrise import experiment
from snrise.config import RunConfig
from snrise.cpu import keep_freed_memory
from snrise.experiment import Experiment
from snrise.training import TrainState, train

__all__ = ["SAMPLERS", "Snrise"]

#: Samplers of the library, as settings.
SAMPLERS = {
    "ancestral": "{kind: ancestral, eta: 1.0, gamma: 0.0}",
    "DPM-Solver++ (2M) SDE": "{kind: dpm_solver_pp, eta: 1.0}",
}


@final
@dataclass(frozen=True, kw_only=True)
class Snrise:
    """A U-ViT 16 and 8 cells wide at every side, without classes."""

    side: int
    channels: tuple[int, int]
    blocks: tuple[int, int]
    settings: tuple[str, ...] = ()

    def config(self, rate: float, images: int) -> RunConfig:
        """The settings of a run."""
        (wide, low), (many, few) = self.channels, self.blocks
        levels = f"[{{channels: {wide}, blocks: {many}}}, {{channels: {low}, blocks: {few}, attention: true}}]"
        length = (f"training.learning_rate={rate}", f"training.warmup={int(WARMUP * images)}",
                  f"training.ema_half_life={HALF_LIFE * images}")
        size = f"data.resolution=[{self.side},{self.side}]"
        plain = ("name=snrise", "data.classes=null", "sampling.guidance=1")
        return trainings.config(*plain, size, f"network.levels={levels}", *self.settings, *length, images=images)

    def parameters(self) -> int:
        return sum(p.numel() for p in experiment.network(self.config(1e-3, 32), None, "meta").parameters())

    def pace(self, seconds: float) -> float:
        keep_freed_memory()
        how = Experiment.of(self.config(1e-3, 10**6))
        state = TrainState.of(how)
        with torch.random.fork_rng(devices=[]), all_cores():
            return paced(train(state, how.dataset.batches(how.batch, seed=0), how), seconds)

    def make(self, order: Order) -> Made:
        keep_freed_memory()
        model, _ = trainings.trained(self.config(order.rate, order.images), order.seed)
        way = [f"sampling.sampler={SAMPLERS[order.way.sampler]}", f"sampling.steps={order.way.steps}"]
        started = time.perf_counter()
        pictures = model.with_sampling(way).sample(order.pictures, seed=order.seed)
        seconds = time.perf_counter() - started
        return Made(pictures, len(pictures) / seconds)


def pixels(side: int) -> tuple[str, ...]:
    """The settings that follow from the side: above 32 px the stem, the prediction, the schedule, the loss's scales."""
    if side <= 32:
        return ()
    factors = [2**octave for octave in range((side // 32).bit_length())]
    return (f"network.stem={side // 16}", "network.stem_kind=wavelet", "schedule.reference=[32,32]",
            "loss.prediction=x", f"loss.factors={factors}")


def of(side: int, channels: tuple[int, int], blocks: tuple[int, int]) -> Snrise:
    """A network of these widths and blocks at a side."""
    return Snrise(side=side, channels=channels, blocks=blocks, settings=pixels(side))
