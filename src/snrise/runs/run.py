"""A run in its folder, from settings to the last checkpoint; iterating over it trains."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from snrise._errors import SnriseError
from snrise.config import to_yaml
from snrise.construct import plain
from snrise.experiment import Experiment
from snrise.files import held, write_atomically
from snrise.generation import Generation, draw_labels, generate
from snrise.plots import sample_grid
from snrise.runs.folder import RunFolder, settle
from snrise.runs.logs import JsonLines, Meter, TensorBoard, WandB, Writer, crosses
from snrise.runs.provenance import made_with
from snrise.trained import newest
from snrise.training import (
    Checkpoint,
    OnFault,
    Report,
    Spikes,
    TrainState,
    forget_later,
    load_latest,
    save_averages,
    save_state,
    start_from,
    train,
)

__all__ = ["Run"]

#: Images that an event in the log names, the worst first.
NAMED = 64


class Run:
    """A run that writes into its folder while it is iterated over; a report a step.

    Opening it checks the settings against those of the folder, loads the newest whole checkpoint, and cuts the logs to
    it. Close it, or use it as a context: then no other process trains in the folder.

    Args:
        experiment: what is trained, its network in place.
        folder: where the run is, or will be.
        tell: takes one line at a time on what goes on.

    Raises:
        SnriseError: when opened, for settings that are not the run's; when iterated over, for what the settings say
            shall stop it, for lack of memory, and for files that cannot be written.
    """

    def __init__(self, experiment: Experiment, folder: str | Path, tell: Callable[[str], None] = print) -> None:
        self.experiment, self.data = experiment, experiment.dataset
        self.folder, self.tell = RunFolder(Path(folder)), tell
        self.meter, self.spikes = Meter(experiment.drawn), Spikes()
        self._before: list[Tensor] | None = None
        self._since_checkpoint = 0
        self._told = 0
        settings = experiment.settings
        with ExitStack() as stack:
            stack.enter_context(held(self.folder.path))
            for change in settle(self.folder, settings):
                tell(f"changed: {change}")
            self.config = replace(settings, made_with=made_with(self.data))
            self.state = TrainState.of(experiment)
            self._resume()
            write_atomically(self.folder.config, to_yaml(self.config).encode())
            self._open_logs()
            self._stack = stack.pop_all()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        self._stack.close()

    def __iter__(self) -> Iterator[Report]:
        """Train to the end, or until nobody asks for the next step; `save` is for the caller to say then."""
        how = self.experiment
        batches = self.data.batches(how.batch, seed=how.seed, position=self.state.position)
        if how.on_fault is OnFault.ROLLBACK and not self.state.step:
            self.save()
        self._remember(self.state.images_seen)
        try:
            for report in train(self.state, batches, how, images=how.images):
                self._see(report)
                yield report
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            self._out_of_memory(error)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
                raise
            self._out_of_memory(error)

    def _resume(self) -> None:
        """Put the newest whole checkpoint into the state, if there is any."""
        checkpoint, broken = load_latest(self.state, self.folder.checkpoints)
        for told in broken:
            self.tell(f"passed over a broken checkpoint: {told}")
        if checkpoint is None:
            self._start()
            return
        self._check_data(checkpoint.extra)
        self._recall(checkpoint)
        self.tell(f"going on from {self.state.images_seen:,} images ({checkpoint.path})")

    def _start(self) -> None:
        """Begin with the weights of another run, if the settings say so."""
        if self.experiment.start is None:
            return
        file = newest(Path(self.experiment.start))
        own = start_from(self.state, file)
        kept = f"; as drawn: {', '.join(own[:4])}{f' and {len(own) - 4} more' if len(own) > 4 else ''}" if own else ""
        self.tell(f"beginning with the weights of {file}{kept}")

    def _recall(self, checkpoint: Checkpoint) -> None:
        """Go on with the means and the usual loss of a checkpoint."""
        self.meter.load(checkpoint.extra["meter"])
        self.spikes = Spikes(**checkpoint.extra["spikes"])

    def _check_data(self, extra: dict[str, Any]) -> None:
        """Raise if the data are not those of the run so far; tell if they may not be."""
        mine = self._data()
        for name in ("images", "classes"):
            if extra[name] != mine[name]:
                was, now = (len(e[name]) if name == "classes" and e[name] else e[name] for e in (extra, mine))
                told = f"{name} were {was}, now {now}" if was != now else f"{name} have other names"
                raise SnriseError(f"{self.folder.path}: holds a run on other data: {told}; choose another --out")
        if extra["fingerprint"] != mine["fingerprint"]:
            self.tell("the files have changed since the last checkpoint: the run is no longer exactly repeatable")

    def _data(self) -> dict[str, Any]:
        classes, frequencies = self.experiment.classes, self.experiment.frequencies
        return {
            "images": self.data.length, "fingerprint": self.config.made_with["data"],
            "classes": None if classes is None else list(classes),
            "frequencies": None if frequencies is None else list(frequencies),
        }

    def _open_logs(self) -> None:
        log, seen = self.experiment.log, self.state.images_seen
        forget_later(self.folder.averages, seen)
        path = self.folder.path
        self.journal: list[Writer] = [JsonLines(self.folder.log, seen)]
        if log.tensorboard:
            self.journal.append(TensorBoard(path / "tensorboard", seen, self.meter.centres))
        if log.wandb is not None:
            self.journal.append(WandB(path, self.config.name, log.wandb.value, plain(self.config), self.meter.centres))
        self.events = JsonLines(self.folder.events, self.state.position, by="position")

    def _see(self, report: Report) -> None:
        log, end = self.experiment.log, report.images_seen >= self.experiment.images
        self.meter.add(report)
        if len(self.data.skipped) > self._told:
            self._write_skipped()
        if report.fault is not None:
            self._fault(report, report.fault)
            return
        if self.spikes(report.loss):
            self._event("spike", report, usual_loss=self.spikes.mean)
        if end or self._due(report, log.every):
            values = self.meter.read(report) | {
                "update_ratio": self._update_ratio(), "faults": self.state.faults, "skipped": len(self.data.skipped),
            }
            for writer in self.journal:
                writer.write(values)
        self._remember(report.images_seen)
        if not end and self._due(report, log.samples):
            self.draw()
        if not end and self._due(report, log.checkpoint):
            self.save()

    @staticmethod
    def _due(report: Report, every: int) -> bool:
        """Whether this step crossed a multiple of `every` images."""
        return crosses(report.images_seen - report.batch, report.images_seen, every)

    def _remember(self, seen: int) -> None:
        """Keep the weights as they are before a step that will be logged, to measure how far it moves them."""
        end = seen + self.experiment.batch
        logged = end >= self.experiment.images or crosses(seen, end, self.experiment.log.every)
        weights = self.state.network.parameters()
        self._before = [p.detach().clone() for p in weights] if logged else None

    def _update_ratio(self) -> float | None:
        """‖Δw‖/‖w‖ of the last step, over all weights."""
        if self._before is None:
            return None
        after = [p.detach() for p in self.state.network.parameters()]
        moved, size = (
            math.hypot(*(float(n) for n in torch._foreach_norm(tensors)))
            for tensors in (torch._foreach_sub(after, self._before), self._before)
        )
        return moved / max(size, 1e-12)

    def _event(self, kind: str, report: Report, **more: Any) -> None:
        """Write down what happened, with the λ, loss and file of the images in the batch, the worst first."""
        losses = report.eps_losses.tolist()
        rows = sorted(zip(losses, report.logsnr.tolist(), report.indices, strict=True), key=_badness, reverse=True)
        images = [
            {"name": self.data.name(i), "logsnr": _number(logsnr), "eps_loss": _number(loss)}
            for loss, logsnr, i in rows[:NAMED]
        ]
        self.events.write({
            "event": kind, "step": report.step, "images_seen": report.images_seen, "position": report.position,
            "loss": _number(report.loss), "grad_norm": _number(report.grad_norm), **more, "images": images,
        })

    def _fault(self, report: Report, where: str) -> None:
        """Skip, roll back or stop after a step that was dropped."""
        how, limit = self.experiment.on_fault, self.experiment.fault_limit
        self._since_checkpoint += 1
        stop = how is OnFault.STOP or self._since_checkpoint > limit
        self._event("fault", report, where=where, action=str(OnFault.STOP if stop else how))
        logsnr = f"{report.logsnr.min():.1f} … {report.logsnr.max():.1f}"
        names = ", ".join(self.data.name(i) for i in report.indices[:2])
        told = (
            f"not finite after {report.images_seen:,} images, step {report.step}: {where}; λ {logsnr}; "
            f"{names} and {max(0, len(report.indices) - 2)} more, named in {self.folder.events}"
        )
        if stop:
            reason = "" if how is OnFault.STOP else f" {self._since_checkpoint} times since the last checkpoint;"
            raise SnriseError(
                f"loss or gradient{reason} {told}; the last good checkpoint is kept; lower training.learning_rate, set "
                "training.precision=fp32, or look at these files"
            )
        if how is OnFault.ROLLBACK:
            self._roll_back()
            told += f"; rolled back to {self.state.images_seen:,} images"
        self.tell(f"step dropped: loss or gradient {told}")

    def _roll_back(self) -> None:
        """Take weights, average, optimizer and logs of the last checkpoint, but go on in the data from here."""
        position, faults = self.state.position, self.state.faults
        checkpoint, _ = load_latest(self.state, self.folder.checkpoints)
        if checkpoint is None:
            raise SnriseError(f"{self.folder.checkpoints}: no checkpoint to roll back to; use training.on_fault=skip")
        self.state.position, self.state.faults = position, faults
        self._recall(checkpoint)
        self._open_logs()
        self._remember(self.state.images_seen)

    def _write_skipped(self) -> None:
        skipped = self.data.skipped
        self._told = len(skipped)
        write_atomically(self.folder.skipped, "".join(f"{skipped[i]}\n" for i in sorted(skipped)).encode())

    def draw(self) -> Path:
        """A grid of samples from the averaged weights, always of the same noise and classes; its file."""
        count, seed, frequencies = self.experiment.log.grid, self.experiment.seed, self.experiment.frequencies
        labels = None if frequencies is None else draw_labels(frequencies, count, seed)
        context = self.data.contexts(count)
        how = Generation.of(self.config, self.state.ema.averaged(self.state.network))
        images = torch.cat(list(generate(how, labels, count, context=context, seed=seed)))
        path = self.folder.samples / f"{self.state.images_seen:012d}.png"
        path.parent.mkdir(exist_ok=True)
        sample_grid(images).save(path)
        return path

    def save(self) -> Path:
        """A checkpoint of where the run is; its file."""
        log = self.experiment.log
        extra = self._data() | {"meter": self.meter.state(), "spikes": self.spikes.state()}
        save_averages(self.state, self.folder.averages)
        path = save_state(
            self.state, self.folder.checkpoints, to_yaml(self.config), extra, keep=log.keep, keep_every=log.keep_every,
        )
        self._since_checkpoint = 0
        return path

    def _out_of_memory(self, error: BaseException) -> NoReturn:
        how, (height, width) = self.experiment, self.experiment.size
        parts = min(how.batch, 2 * how.accumulate)
        raise SnriseError(
            f"out of memory: {how.batch} images of {height}x{width} in {how.accumulate} parts on {self.state.device}; "
            f"set training.accumulate={parts} (the same result in more parts), or lower training.batch or the network; "
            f"`snrise plan {self.folder.path}` says what fits"
        ) from error


def _badness(row: tuple[float, float, int]) -> float:
    return row[0] if math.isfinite(row[0]) else math.inf


def _number(value: float) -> float | str:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else str(value)
