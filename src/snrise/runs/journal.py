"""The journal of a run: log lines, loss spikes, faults, and files that could not be read."""

import math
from collections.abc import Mapping
from typing import Any

from snrise.config import RunConfig
from snrise.construct import plain
from snrise.experiment import Experiment
from snrise.files import write_atomically
from snrise.runs.cadence import Cadence
from snrise.runs.folder import RunFolder
from snrise.runs.logs import JsonLines, Meter, TensorBoard, WandB, Writer
from snrise.training import Report, Spikes, TrainState

__all__ = ["Journal"]

#: Images that an event in the log names, the worst first.
NAMED = 64


class Journal:
    """Writes into a run's folder what its reports say. `open` it before the first."""

    def __init__(self, experiment: Experiment, folder: RunFolder, config: RunConfig) -> None:
        self.data, self.log, self.batch = experiment.dataset, experiment.log, experiment.batch
        self.folder, self.config, self.cadence = folder, config, Cadence(experiment.log, experiment.images)
        self.meter, self.spikes = Meter(experiment.drawn), Spikes()
        self._skipped = 0

    def open(self, state: TrainState, saved: Mapping[str, Any] | None) -> None:
        """Open the files as of a state, without later lines; `saved` is what `memory` returned then."""
        if saved is not None:
            self.meter.load(saved["meter"])
            self.spikes = Spikes(**saved["spikes"])
        path, seen, centres = self.folder.path, state.images_seen, self.meter.centres
        self.writers: list[Writer] = [JsonLines(self.folder.log, seen)]
        if self.log.tensorboard:
            self.writers.append(TensorBoard(path / "tensorboard", seen, centres))
        if self.log.wandb is not None:
            self.writers.append(WandB(path, self.config.name, self.log.wandb.value, plain(self.config), centres))
        self.events = JsonLines(self.folder.events, state.position, by="position")

    def memory(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that the logs of an interrupted run are those of one that was not."""
        return {"meter": self.meter.state(), "spikes": self.spikes.state()}

    def add(self, report: Report, state: TrainState, moved: float | None) -> None:
        """Take in a step, and write what is due after it; `moved` is how far a logged step moved the weights."""
        self.meter.add(report)
        if len(self.data.skipped) > self._skipped:
            self._write_skipped()
        if report.fault is not None:
            return
        if self.spikes(report.loss):
            self.event("spike", report, usual_loss=self.spikes.mean)
        if self.cadence.logs(report.images_seen - report.batch, report.images_seen):
            values = self.meter.read(report) | {
                "update_ratio": moved, "faults": state.faults, "skipped": len(self.data.skipped),
            }
            for writer in self.writers:
                writer.write(values)

    def event(self, kind: str, report: Report, **more: Any) -> None:
        """Write an event, with the λ, loss and file of the images in the batch, the worst first."""
        losses = report.eps_losses.tolist()
        rows = sorted(zip(losses, report.logsnr.tolist(), report.indices, strict=True), key=_badness, reverse=True)
        images = [
            {"name": self.data.name(i), "logsnr": _json_number(logsnr), "eps_loss": _json_number(loss)}
            for loss, logsnr, i in rows[:NAMED]
        ]
        self.events.write({
            "event": kind, "step": report.step, "images_seen": report.images_seen, "position": report.position,
            "loss": _json_number(report.loss), "grad_norm": _json_number(report.grad_norm), **more, "images": images,
        })

    def _write_skipped(self) -> None:
        skipped = self.data.skipped
        self._skipped = len(skipped)
        write_atomically(self.folder.skipped, "".join(f"{skipped[i]}\n" for i in sorted(skipped)).encode())


def _badness(row: tuple[float, float, int]) -> float:
    return row[0] if math.isfinite(row[0]) else math.inf


def _json_number(value: float) -> float | str:
    """As JSON can hold it."""
    return value if math.isfinite(value) else str(value)
