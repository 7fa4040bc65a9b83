"""What a run writes down: means over an interval, as JSON lines and for TensorBoard."""

import json
import math
from pathlib import Path
from typing import Any

from snrise.training.checkpoint import write_atomically
from snrise.training.loop import Report

__all__ = ["JsonLines", "Meter", "TensorBoard"]


class Meter:
    """Means of reports since the last reading."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def add(self, report: Report) -> None:
        """Count a report in."""
        self.reports.append(report._replace(logsnr=report.logsnr[:0], eps_losses=report.eps_losses[:0]))

    def read(self) -> dict[str, float]:
        """The interval's means, and a new interval."""
        reports, self.reports = self.reports, []
        last, count = reports[-1], len(reports)
        seconds = sum(r.seconds for r in reports)
        return {
            "step": last.step, "images_seen": last.images_seen,
            **{name: sum(getattr(r, name) for r in reports) / count for name in ("loss", "eps_loss", "grad_norm")},
            "learning_rate": last.learning_rate, "images_per_second": sum(r.batch for r in reports) / seconds,
            "data_share": sum(r.data_seconds for r in reports) / seconds,
        }


class JsonLines:
    """A file with one JSON object a line. Opened at some number of images, it forgets the lines written after that."""

    def __init__(self, path: Path, images_seen: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _images(line) <= images_seen]
        write_atomically(path, "".join(f"{line}\n" for line in kept).encode())

    def write(self, values: dict[str, Any]) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _images(line: str) -> float:
    """The images_seen of a line; infinite for a torn one."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class TensorBoard:
    """The same values as TensorBoard's scalars, against images seen."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # a second to import, so only for those who use it

        self.writer = SummaryWriter(str(folder), purge_step=images_seen or None)

    def write(self, values: dict[str, Any]) -> None:
        """Add a point to every curve."""
        for name, value in values.items():
            if name not in ("step", "images_seen"):
                self.writer.add_scalar(name, value, values["images_seen"])
        self.writer.flush()
