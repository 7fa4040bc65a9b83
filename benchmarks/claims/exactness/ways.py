"""One training in several ways, by documented commands, and how far its weights are from those of the first."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import final

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.claims.claim import RUNS
from benchmarks.claims.texts import digest, one_line
from snrise import documents
from snrise._errors import SnriseError
from snrise.runs import RunFolder, summarize
from snrise.training import latest

__all__ = ["TINY", "Trainings", "Way", "distances"]

TINY = Path(__file__).parent / "tiny.yaml"
#: A run is interrupted after this share of its images.
BEGUN = 1 / 3
#: Seconds between two looks at the log of a run that is to be interrupted, and those after which one hangs.
LOOK, LONG = 0.002, 3600
WEIGHTS, REST = ("network.", "ema."), ("optimizer.",)


class Way(Enum):
    """How a run is trained: the processes of each part of it, what ends the first part, and more settings."""

    AGAIN = ((1,), None, ())
    STOPPED = ((1, 1), signal.SIGTERM, ())
    KILLED = ((1, 1), signal.SIGKILL, ())
    TWO = ((2,), None, ("training.parallel=ddp",))
    TWO_THEN_ONE = ((2, 1), signal.SIGTERM, ("training.parallel=ddp",))
    SHARDS = ((2,), None, ("training.parallel=fsdp",))


@final
@dataclass(frozen=True, kw_only=True)
class Trainings:
    """Train settings with a seed in one process without a break, and then in another way; compare the checkpoints.

    The run without a break is shared by all ways. Every process has one thread.
    """

    way: Way
    recipe: str = str(TINY)
    overrides: tuple[str, ...] = ()
    folder: Path = RUNS / "exactness"

    @cached_property
    def settings(self) -> str:
        return f"{self.way.name.lower()} of {self._trained}"

    @property
    def _trained(self) -> str:
        return _document(self.recipe, self.overrides)

    def __call__(self, seed: int) -> Mapping[str, float]:
        place = self.folder / digest(self._trained) / f"seed{seed}"
        whole, mine = place / "whole", place / self.way.name.lower()
        if not whole.exists():  # one that was interrupted is no run without a break
            shutil.rmtree(begun := place / "whole-begun", ignore_errors=True)
            replace(self, way=Way.AGAIN)._train(seed, begun)
            begun.rename(whole)
        shutil.rmtree(mine, ignore_errors=True)
        broken = self._train(seed, mine)
        ours, theirs = (load_file(latest(folder / "checkpoints")) for folder in (mine, whole))
        return {**distances(ours, theirs), **({} if broken is None else {"broken off at": broken})}

    def _train(self, seed: int, folder: Path) -> int | None:
        """Train in a folder; the images after which the run was interrupted, if it was."""
        (first, *others), number, more = self.way.value
        arguments = ["train", self.recipe, *self.overrides, *more, "--seed", str(seed), "--out", str(folder)]
        broken = None
        if number is not None:
            _interrupted(_command(first, arguments), folder, number)
            broken = RunFolder(folder).images_seen
        for processes in others if number is not None else [first]:
            done = subprocess.run(
                _command(processes, arguments), env=_environment(), capture_output=True, text=True, timeout=LONG,
                check=False,
            )
            if done.returncode:
                raise SnriseError(f"{folder}: snrise train failed: {done.stderr.strip()[-500:]}")
        return broken


@lru_cache
def _document(recipe: str, overrides: tuple[str, ...]) -> str:
    """All settings of a run, as one line."""
    return one_line(documents.load(recipe, overrides))


def _command(processes: int, arguments: list[str]) -> list[str]:
    """`snrise` with these arguments, on so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "snrise", *arguments]


def _environment() -> dict[str, str]:
    """That of processes with one thread each."""
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _interrupted(command: list[str], folder: Path, number: signal.Signals) -> None:
    """Start a training, and send it a signal once a third of its images is logged and a checkpoint is there.

    Raises:
        SnriseError: if it ended before.
    """
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not _begun(folder):
            time.sleep(LOOK)
        process.send_signal(number)
        _, told = process.communicate(timeout=LONG)
    if process.returncode == 0 or not _begun(folder):
        raise SnriseError(f"{folder}: the run was over before it could be interrupted: {told.strip()[-500:]}")


def _begun(folder: Path) -> bool:
    """Whether a run has come far enough to be interrupted."""
    log = RunFolder(folder).log
    if not log.exists() or not log.stat().st_size or latest(folder / "checkpoints") is None:
        return False
    summary = summarize(folder)
    return bool(summary.lines) and summary.lines[-1]["images_seen"] >= BEGUN * summary.config.training.images


def distances(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, float]:
    """How far the tensors of a checkpoint are from those of another.

    `largest difference` and `relative difference`, ‖a − b‖/‖b‖, are of the weights and their averages; the largest
    difference of the optimizer's state is beside them.

    >>> one, other = {"network.w": torch.tensor([3.0, 4.0])}, {"network.w": torch.tensor([3.0, 4.5])}
    >>> distances(other, one)
    {'largest difference': 0.5, 'relative difference': 0.1, 'largest difference, optimizer': 0.0}

    Raises:
        SnriseError: if they do not hold the same tensors.
    """
    if ours.keys() != theirs.keys():
        raise SnriseError(f"checkpoints: {sorted(ours.keys() ^ theirs.keys())[0]} is in one of the two alone")
    wrong = [(a.double() - theirs[name].double(), theirs[name].double(), name) for name, a in ours.items()]
    weights = [(difference, b) for difference, b, name in wrong if name.startswith(WEIGHTS)]
    rest = [difference for difference, _, name in wrong if name.startswith(REST)]
    norm = torch.stack([b.square().sum() for _, b in weights]).sum().sqrt()
    return {
        "largest difference": _largest([difference for difference, _ in weights]),
        "relative difference": float(torch.stack([d.square().sum() for d, _ in weights]).sum().sqrt() / norm),
        "largest difference, optimizer": _largest(rest),
    }


def _largest(differences: list[Tensor]) -> float:
    return max((float(difference.abs().max()) for difference in differences if difference.numel()), default=0.0)
