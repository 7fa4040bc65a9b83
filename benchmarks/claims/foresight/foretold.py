"""What is said of a training beforehand, and what then happens: its time, its speed and its memory."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

from benchmarks import memory
from benchmarks.claims.claim import RUNS
from benchmarks.claims.texts import digest, one_line, read_json, write_json
from benchmarks.claims.trainings import seconds
from snrise import planning
from snrise._errors import SnriseError
from snrise.config import RunConfig, to_yaml
from snrise.documents import load
from snrise.experiment import Experiment
from snrise.planning.asking import asked
from snrise.quantities import parse_time
from snrise.runs import summarize

__all__ = ["Memory", "Pace", "Time", "error", "speed_told", "spent"]

GIB = 2**30
#: What `train` says when it has measured and begins, and when all is done; what `plan` says of this machine's speed.
BEGINS, ENDS = re.compile(r"[\d,]+ images: about .* on this machine"), re.compile(r"done: ")
SPEED = re.compile(r"a million images.*?([\d,.]+) images/s: measured here")


def error(said: float, happened: float) -> float:
    """What was said over what happened, less 1: above 0 if too much was said.

    >>> error(66.0, 60.0)
    0.1
    """
    return round(said / happened - 1, 4)


def spent(lines: Iterable[str]) -> float:
    """The seconds between the line with which a training begins and the one with which all is done, as they come."""
    begun = None
    for line in lines:
        if BEGINS.match(line):
            begun = time.perf_counter()
        if ENDS.match(line) and begun is not None:
            return time.perf_counter() - begun
    raise SnriseError("snrise train: said nothing of how long it takes, or did not end")


def speed_told(text: str) -> float:
    """Images a second in what `snrise plan --device this` says."""
    found = SPEED.search(text)
    if found is None:
        raise SnriseError(f"snrise plan: said no speed: {text.strip()[-200:]}")
    return float(found[1].replace(",", ""))


@final
@dataclass(frozen=True, kw_only=True)
class Time:
    """The time that `snrise train --budget` promises, over that which it takes until its last grid is drawn."""

    arguments: tuple[str, ...]
    budget: str
    folder: Path = RUNS / "foresight"

    @cached_property
    def settings(self) -> str:
        return f"snrise train {' '.join(self.arguments)} --budget {self.budget}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        _, took = self.run(seed)
        promised = parse_time(self.budget, "budget")
        return {"error": error(promised, took), "said": promised, "happened": round(took, 1)}

    def run(self, seed: int) -> tuple[Path, float]:
        """The folder of the run, and the seconds that it took; one that is there is not trained again."""
        place = self.folder / digest(self.settings) / f"seed{seed}"
        note = place / "seconds.json"
        if not note.exists():
            shutil.rmtree(place, ignore_errors=True)
            command = ["train", *self.arguments, "--budget", self.budget, "--seed", str(seed), "--out", str(place)]
            with subprocess.Popen(
                [sys.executable, "-u", "-m", "snrise", *command], stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None
                took = spent(process.stdout)
            write_json(took, note)
        return place, float(read_json(note))


@final
@dataclass(frozen=True, kw_only=True)
class Pace:
    """The images a second that `snrise plan --device this` measures, over those in the log of a run after that."""

    run: Time

    @cached_property
    def settings(self) -> str:
        return f"snrise plan {' '.join(self.run.arguments)} --device this, then {self.run.settings}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        command = [sys.executable, "-m", "snrise", "plan", *self.run.arguments, "--device", "this"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        folder, _ = self.run.run(seed)
        happened = summarize(folder).lines[-1]["images_seen"] / seconds(folder)
        return {"error": error(said := speed_told(told), happened), "said": said, "happened": round(happened, 1)}


@final
@dataclass(frozen=True, kw_only=True)
class Memory:
    """The peak that `snrise plan` predicts for the CPU, over the resident memory of three steps in a process."""

    recipe: str
    batch: int = 32

    @cached_property
    def settings(self) -> str:
        config, classes = self._asked
        return f"peak of {one_line(config)}, {classes} classes"

    @property
    def _asked(self) -> tuple[RunConfig, int | None]:
        """The settings, and how many classes the data have: of a recipe, or of a preset on a few emoji."""
        if self.recipe in memory.PRESETS:
            return memory.config(self.recipe, self.batch, []), None
        quiet = ["log.every=1", "log.tensorboard=false", "data.cache=none", "data.workers=0"]
        return asked([self.recipe, *quiet], batch=self.batch)

    def __call__(self, seed: int) -> Mapping[str, float]:
        config, classes = self._asked
        said = planning.rehearse(Experiment.imagined(config, classes), planning.device("cpu")).peak
        happened = _resident(replace(config, seed=seed))
        return {"error": error(said, happened), "said": round(said / GIB, 3), "happened": round(happened / GIB, 3)}


def _resident(config: RunConfig) -> int:
    """The bytes that three steps took at most, measured in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(to_yaml(config), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.claims.foresight.foretold", str(file)]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    print(memory.measure(load(sys.argv[1]), apart=False))
