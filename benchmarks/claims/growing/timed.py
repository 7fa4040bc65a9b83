"""Trainings for so many seconds of the machine at hand: their lengths are measured once, and kept."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from benchmarks.claims.claim import RUNS
from benchmarks.claims.records import machine
from benchmarks.claims.texts import digest, read_json, write_json
from benchmarks.claims.trainings import Judged, seconds, trained
from snrise import documents, growing
from snrise.config import RunConfig, parse
from snrise.experiment import Experiment
from snrise.models import located
from snrise.runs import Pace, measure
from snrise.runs.starting import with_data
from snrise.trained import saved, transferred

__all__ = ["BASE", "Grown", "Lengths", "Timed", "begun", "going_on", "grown", "lasting"]

#: Where lengths and pictures are kept.
FOLDER = RUNS / "growing"
#: The length of settings whose length is yet to be measured: a step.
UNMEASURED = 32
#: All grow from this built-in model, or go on from it.
BASE = Path("emoji-32")


def begun(recipe: str, *settings: str) -> RunConfig:
    """A run of yet unknown length that begins anew."""
    return documents.load(recipe, [*settings, f"training.images={UNMEASURED}"])


def going_on(start: Path, *settings: str, resolution: str) -> RunConfig:
    """What `snrise train --from START --resolution R SETTINGS` trains."""
    return _parsed(transferred(start), resolution, settings)


def grown(start: Path, *settings: str) -> RunConfig:
    """What `snrise train --from START --grow 2 SETTINGS` trains; the images' detail bands are yet unmeasured."""
    return _parsed(growing.grown(start, 2), None, settings)


def _parsed(document: dict[str, Any], resolution: str | None, settings: Sequence[str]) -> RunConfig:
    with_data(document, None, resolution, [*settings, f"training.images={UNMEASURED}"])
    documents.resolve(document)
    return parse(document)


def lasting(config: RunConfig, images: int) -> RunConfig:
    """Settings with a length, logged seldom; the warm-up is a tenth of it at most, as after `--budget`."""
    log = replace(
        config.log, samples=images, checkpoint=max(1600, images // 8), keep=1, grid=16, every=max(320, images // 16),
        tensorboard=False,
    )
    training = replace(config.training, images=images, warmup=min(config.training.warmup, images // 10))
    return replace(config, training=training, log=log)


@final
@dataclass(frozen=True, kw_only=True)
class Lengths:
    """The lengths in images of trainings for so many seconds, by machine, in a file: what is there is not measured."""

    file: Path = FOLDER / "lengths.json"

    def __call__(self, config: RunConfig, seconds: float) -> int:
        """Whole batches that this machine trains in the time."""
        stored = read_json(self.file)
        here = stored.setdefault(machine(), {})
        name = f"{config.name}, {seconds:g} s, {_digest(config)}"
        if name not in here:
            # Nothing is drawn while these train.
            pace = Pace(measure(Experiment.of(config), grids=False).images_per_second, 0.0, every=1)
            here[name] = pace.images(seconds, config.training.batch)
            write_json(stored, self.file)
        return int(here[name])


def _digest(config: RunConfig) -> str:
    """Of all that the speed depends on: not of the weights at the beginning."""
    alike = replace(config, training=replace(config.training, start=None))
    return digest(Judged(config=alike).settings)


@final
@dataclass(frozen=True, kw_only=True)
class Timed:
    """Train with these settings for so many seconds, sample, and judge; of a nest, measure the detail bands first."""

    config: RunConfig
    seconds: float
    pictures: int
    lengths: Lengths = Lengths()

    @cached_property
    def settings(self) -> str:
        start, told = self.config.training.start, Judged(config=self.config, pictures=self.pictures).settings
        weights = "" if start is None else f" from {saved(located(Path(start)))[0].checksums['ema']}"
        return f"{self.seconds:g} s of {told}{weights}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        config = growing.with_measured_bands(self.config)
        job = Judged(config=lasting(config, self.lengths(config, self.seconds)), pictures=self.pictures)
        scores = job(seed)
        _keep(job.picture(seed), self.picture(seed))
        return scores

    def picture(self, seed: int) -> Path:
        """The file with its first samples."""
        return _picture(self.settings, seed)


@final
@dataclass(frozen=True, kw_only=True)
class Grown:
    """Train a base for half of the seconds, grow it for the other half with some settings, sample, and judge."""

    base: RunConfig
    grown: tuple[str, ...]
    seconds: float
    pictures: int
    lengths: Lengths = Lengths()

    @cached_property
    def settings(self) -> str:
        half = f"{self.seconds / 2:g} s"
        base = Judged(config=self.base, pictures=self.pictures).settings
        return f"{half} of {base}, then {half} grown, {' '.join(self.grown)}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        length = self.lengths(self.base, self.seconds / 2)
        folder = trained(lasting(self.base, length), seed)[1]
        outer = Timed(
            config=grown(folder, *self.grown), seconds=self.seconds / 2, pictures=self.pictures, lengths=self.lengths,
        )
        scores = outer(seed)
        _keep(outer.picture(seed), self.picture(seed))
        spent = round(scores["training seconds"] + seconds(folder), 1)
        return {**scores, "training seconds": spent, "images": scores["images"] + length}

    def picture(self, seed: int) -> Path:
        """The file with its first samples."""
        return _picture(self.settings, seed)


def _picture(settings: str, seed: int) -> Path:
    """Where the samples of settings are, whose training's folder has a length in its name."""
    return FOLDER / "samples" / f"{digest(settings)}-seed{seed}.png"


def _keep(picture: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture, place)
