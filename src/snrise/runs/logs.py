"""Metrics of a run: means over an interval, as JSON lines, for TensorBoard and for Weights & Biases."""

import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from snrise._errors import SnriseError
from snrise.files import write_atomically
from snrise.levels import Levels
from snrise.training.loop import Report

__all__ = ["JsonLines", "Meter", "TensorBoard", "WandB", "Writer", "loss_name", "memory_gib"]

BINS = 10
#: Images in a bin after which half of its mean is new.
HALF_LIFE = 256
MEANS = ("loss", "eps_loss", "grad_norm", "seconds", "data_seconds")


class Meter:
    """Means of reports since they were last read, and the smoothed ε-loss in ten bins of λ.

    The bins are equally likely in training. `state` and `load` carry everything over an interruption, so that the logs
    of an interrupted run are those of one that was not.
    """

    def __init__(self, levels: Levels) -> None:
        t = torch.arange(1, BINS, dtype=torch.float64) / BINS
        self.edges = levels.schedule(t).flip(0).contiguous()
        self.bins: list[float | None] = [None] * BINS
        self._clear()

    def _clear(self) -> None:
        self.steps = self.images = 0
        self.sums = dict.fromkeys(MEANS, 0.0)

    @property
    def centres(self) -> list[float]:
        """A λ for each bin, noisiest first: its middle, or the edge of an unbounded one."""
        edges = self.edges
        return [float(edges[0]), *(0.5 * (edges[:-1] + edges[1:])).tolist(), float(edges[-1])]

    def add(self, report: Report) -> None:
        """Count a step; only the time of one that was dropped."""
        if report.fault is not None:
            self.sums["seconds"] += report.seconds
            return
        self.steps += 1
        self.images += report.batch
        for name in MEANS:
            self.sums[name] += getattr(report, name)
        bins = torch.bucketize(report.logsnr.double().cpu(), self.edges)
        for i in set(bins.tolist()):
            losses = report.eps_losses[bins == i].double()
            new, old = float(losses.mean()), self.bins[i]
            self.bins[i] = new if old is None else new + 0.5 ** (len(losses) / HALF_LIFE) * (old - new)

    def read(self, last: Report) -> dict[str, Any]:
        """The means over the interval, whose last step is `last`; a new interval begins."""
        count, seconds = max(self.steps, 1), max(self.sums["seconds"], 1e-9)
        values = {
            "step": last.step, "images_seen": last.images_seen,
            **{name: self.sums[name] / count for name in ("loss", "eps_loss", "grad_norm")},
            "learning_rate": last.learning_rate, "images_per_second": self.images / seconds,
            "data_share": self.sums["data_seconds"] / seconds, "memory_gib": memory_gib(),
            "loss_by_logsnr": list(self.bins),
        }
        self._clear()
        return values

    def state(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them."""
        return {"steps": self.steps, "images": self.images, "sums": dict(self.sums), "bins": list(self.bins)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.steps, self.images, self.sums, self.bins = (state[k] for k in ("steps", "images", "sums", "bins"))


def memory_gib() -> float:
    """The most memory used so far, in GiB: the accelerator's where there is one, else the process's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@runtime_checkable
class Writer(Protocol):
    """Where metrics are written."""

    def write(self, values: dict[str, Any]) -> None:
        """Write the metrics of an interval."""


class JsonLines:
    """A file with one JSON object per line. Opened at some count, it drops the lines written after that.

    `by` names the entry of a line that holds its count.
    """

    def __init__(self, path: Path, count: int, by: str = "images_seen") -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if _count(line, by) <= count]
        if kept != lines or not path.exists():
            write_atomically(path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, values: dict[str, Any]) -> None:
        """Append a line."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise SnriseError(f"{self.path}: cannot be written: {error.strerror or error}") from error


def _count(line: str, by: str) -> float:
    """The count of a line; infinite for a torn one."""
    try:
        return float(json.loads(line)[by])
    except (ValueError, KeyError, TypeError):
        return math.inf


def loss_name(centre: float) -> str:
    """The name of the curve of a bin of λ."""
    return f"loss_by_logsnr/{centre:+.1f}"


def _scalars(values: Mapping[str, Any], centres: list[float]) -> dict[str, float]:
    """All numbers, each by a name of its own."""
    scalars = {name: v for name, v in values.items() if isinstance(v, int | float)}
    bins = zip(centres, values.get("loss_by_logsnr", ()), strict=False)
    return scalars | {loss_name(centre): v for centre, v in bins if v is not None}


class TensorBoard:
    """The same values as TensorBoard's scalars, against images seen."""

    def __init__(self, folder: Path, images_seen: int, centres: list[float]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import, so only for those who use it

        self.centres = centres
        self.writer = SummaryWriter(str(folder), purge_step=images_seen + 1 if images_seen else None)

    def write(self, values: dict[str, Any]) -> None:
        """Add a point to every curve."""
        for name, value in _scalars(values, self.centres).items():
            if name not in ("step", "images_seen"):
                self.writer.add_scalar(name, value, values["images_seen"])
        self.writer.flush()


class WandB:
    """The same values for Weights & Biases; `mode` is online or offline. Needs the extra `wandb`."""

    def __init__(
        self, folder: Path, name: str, mode: Literal["online", "offline"], config: dict[str, Any], centres: list[float]
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise SnriseError("config.log.wandb: needs Weights & Biases: pip install 'snrise[wandb]'") from None
        os.environ.setdefault("WANDB_SILENT", "true")
        identity = folder.resolve().name
        self.centres = centres
        self.run = wandb.init(
            dir=str(folder), project="snrise", name=name, id=identity, resume="allow", mode=mode, config=config,
        )

    def write(self, values: dict[str, Any]) -> None:
        """Add a point to every curve."""
        self.run.log(_scalars(values, self.centres), step=values["images_seen"])
