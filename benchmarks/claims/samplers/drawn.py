"""Pictures of the built-in `emoji-32`, by a sampler on so many network evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

from torch import Tensor, nn

from benchmarks.claims.claim import RUNS
from benchmarks.claims.records import Record
from benchmarks.claims.texts import digest, one_line
from benchmarks.claims.trainings import judged
from benchmarks.claims.verdict import Expectation, Finding
from snrise import plots
from snrise._errors import require
from snrise.config import Sampling
from snrise.models import located
from snrise.samplers import Ancestral, Ddim, DpmSolverPP, Heun, Sampler
from snrise.trained import load, saved

__all__ = ["MODEL", "SAMPLERS", "Across", "Drawn", "steps_within"]

MODEL = "emoji-32"
#: By the name in tables.
SAMPLERS: dict[str, Sampler] = {
    "ancestral": Ancestral(eta=1.0, gamma=0.0), "DDIM": Ddim(), "Heun": Heun(), "DPM-Solver++": DpmSolverPP(eta=0.0),
    "SDE-DPM-Solver++": DpmSolverPP(eta=1.0),
}


def steps_within(sampler: str, evaluations: int) -> int:
    """The most steps of a sampler that take no more than so many evaluations."""
    taken = SAMPLERS[sampler].evaluations
    require(evaluations >= taken(1), "evaluations", evaluations, f"{taken(1)} or more")
    steps = 1
    while taken(steps + 1) <= evaluations:
        steps += 1
    return steps


@lru_cache
def _model() -> tuple[str, Sampling]:
    """The checksum of the model's weights, and its sampling settings."""
    header, config = saved(located(Path(MODEL)))
    return header.checksums["ema"], config.sampling


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Draw pictures without guidance in at most so many network evaluations each, and judge them.

    The seed is that of sampling; evaluations are counted at the network.
    """

    sampler: str
    evaluations: int
    pictures: int = 250

    @cached_property
    def settings(self) -> str:
        return f"{MODEL} {_model()[0]}, {one_line(self._sampling)}, {self.pictures} pictures"

    @property
    def _sampling(self) -> Sampling:
        steps = steps_within(self.sampler, self.evaluations)
        return replace(_model()[1], sampler=SAMPLERS[self.sampler], steps=steps, guidance=1.0)

    def __call__(self, seed: int) -> Mapping[str, float]:
        model = load(MODEL)
        model = replace(model, config=replace(model.config, sampling=self._sampling))
        count = _Count()
        with model.network.register_forward_pre_hook(count):
            samples = model.sample(self.pictures, seed=seed)
        self.picture(seed).parent.mkdir(parents=True, exist_ok=True)
        plots.sample_grid(samples[:16], columns=8).save(self.picture(seed))
        return {**judged(samples, model.data()), "evaluations": count.images / self.pictures}

    def picture(self, seed: int) -> Path:
        """The file with its first samples."""
        return RUNS / "samplers" / "samples" / f"{digest(self.settings)}-seed{seed}.png"


class _Count:
    """A hook that counts the images that a network is asked about."""

    images = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.images += len(inputs[0])


@final
@dataclass(frozen=True, kw_only=True)
class Across:
    """What is expected of one arm from case to case: in `expected` the arm is the case, and the cases are its arms."""

    arm: str
    expected: Expectation

    def __call__(self, records: Sequence[Record]) -> Finding:
        return self.expected([replace(r, case=self.arm, arm=r.case) for r in records if r.arm == self.arm])
