"""A run in its folder, from settings to the last checkpoint; iterating over it trains."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snrise._errors import SnriseError
from snrise.config import to_yaml
from snrise.experiment import Experiment
from snrise.files import held, write_atomically
from snrise.generation import Generation, draw_labels, generate
from snrise.parallel import World
from snrise.plots import sample_grid
from snrise.runs.cadence import Cadence
from snrise.runs.faults import FaultPolicy
from snrise.runs.folder import RunFolder, settle
from snrise.runs.joint import batches_of, check_alike, share_skipped
from snrise.runs.journal import Journal
from snrise.runs.movement import Movement
from snrise.runs.provenance import made_with
from snrise.runs.resuming import begin, data_facts
from snrise.runs.saver import Saver
from snrise.sharding import is_sharded
from snrise.training import OnFault, Report, forget_later, load_latest, train

__all__ = ["Run"]


class Run:
    """A run that writes into its folder while it is iterated over, which yields a report for each step.

    Opening it checks the settings against those of the folder, resumes from the newest whole checkpoint, and truncates
    the logs to it. Close it, or use it as a context manager: until then, no other process can train in the folder.

    Args:
        experiment: what is trained; its network is trained in place.
        folder: where the run is, or will be.
        tell: called with one line at a time about the progress of the run.
        world: the processes that train together; by default those that torchrun has started. All of them open the run,
            iterate over it and call `save` and `draw`; the first one alone writes and tells.

    Raises:
        SnriseError: when opened, for settings that are not the run's; when iterated over, for faults that stop it as
            the settings say, when memory runs out, for files that cannot be written, and for a process that has gone.
    """

    def __init__(
        self, experiment: Experiment, folder: str | Path, tell: Callable[[str], None] = print, *,
        world: World | None = None,
    ) -> None:
        self.world = World.from_environment() if world is None else world
        self.experiment, self.data = experiment, experiment.dataset
        self.folder, self.tell = RunFolder(Path(folder)), self.world.quiet(tell)
        self.cadence = Cadence(experiment.log, experiment.images)
        self.faults = FaultPolicy(experiment.on_fault, experiment.fault_limit)
        settings = experiment.settings
        with ExitStack() as stack, self.world.leaving():
            self.world.first(lambda: stack.enter_context(held(self.folder.path)))
            for change in settle(self.folder, settings):
                self.tell(f"changed: {change}")
            self.config = replace(settings, made_with=made_with(self.data))
            self.facts = data_facts(experiment, self.config.made_with["data"])
            self.state, checkpoint = begin(experiment, self.folder, self.facts, self.tell, self.world)
            check_alike(self.world, self.folder, self.state, to_yaml(settings), self.facts)
            self.journal, self.movement = Journal(experiment, self.folder, self.config), Movement(self.world)
            self.saver = Saver(self.folder, to_yaml(self.config), experiment.log, self.world)
            self.world.first(lambda: self._open(None if checkpoint is None else checkpoint.extra))
            self._stack = stack.pop_all()

    def _open(self, saved: Mapping[str, Any] | None) -> None:
        """Write the settings, and take back what is later than the state."""
        write_atomically(self.folder.config, to_yaml(self.config).encode())
        forget_later(self.folder.averages, self.state.images_seen)
        self.journal.open(self.state, saved)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            self.world.leave(error)
            with suppress(Exception):  # the first error is told
                self.saver.wait()
        self.close()

    def close(self) -> None:
        """Wait for what is written in the background, and unlock the folder."""
        with self._stack:
            self.saver.wait()

    def __iter__(self) -> Iterator[Report]:
        """Train to the end, or until no further step is asked for; then it is for the caller to `save`."""
        experiment = self.experiment
        batches = batches_of(self.data, experiment, self.world, self.state.position)
        if experiment.on_fault is OnFault.ROLLBACK and not self.state.step:
            self.save()
        self._expect()
        with _memory_errors(self), self.world.watched():
            for report in train(self.state, batches, experiment, images=experiment.images, world=self.world):
                self._after(report)
                yield report

    def _after(self, report: Report) -> None:
        """Do what is due after a step."""
        before, after = report.images_seen - report.batch, report.images_seen
        if self.cadence.logs(before, after):
            share_skipped(self.world, self.data.skipped)
        moved = self.movement.ratio(self.state) if report.fault is None else None
        if self.world.leads:
            self.journal.add(report, self.state, moved)
        if report.fault is not None:
            self._fault(report, report.fault)
        else:
            if self.cadence.draws(before, after):
                self.draw()
            if self.cadence.saves(before, after):
                self._save()
        self._expect()

    def _fault(self, report: Report, where: str) -> None:
        """Skip, roll back or stop after a step that was dropped."""
        action = self.faults.decide()
        if self.world.leads:
            self.journal.event("fault", report, where=where, action=str(action))
        names = ", ".join(self.data.name(i) for i in report.indices[:2])
        description = (
            f"not finite after {report.images_seen:,} images, step {report.step}: {where}; "
            f"λ {report.logsnr.min():.1f} … {report.logsnr.max():.1f}; "
            f"{names} and {max(0, len(report.indices) - 2)} more, named in {self.folder.events}"
        )
        if action is OnFault.STOP:
            raise self.faults.error(description)
        if action is OnFault.ROLLBACK:
            self._roll_back()
            description += f"; rolled back to {self.state.images_seen:,} images"
        self.tell(f"step dropped: loss or gradient {description}")

    def _roll_back(self) -> None:
        """Restore weights, averages, optimizer and logs of the last checkpoint, but continue in the data from here."""
        self.saver.wait()
        position, faults = self.state.position, self.state.faults
        checkpoint, _ = load_latest(self.state, self.folder.checkpoints, self.world)
        if checkpoint is None:
            raise SnriseError(f"{self.folder.checkpoints}: no checkpoint to roll back to; use training.on_fault=skip")
        self.state.position, self.state.faults = position, faults
        extra = checkpoint.extra
        self.world.first(lambda: self._open(extra))

    def _expect(self) -> None:
        """Prepare for a step that will be logged; of replicas, the first one's is enough."""
        seen = self.state.images_seen
        due = self.cadence.logs(seen, seen + self.experiment.batch)
        self.movement.expect(self.state, due and (self.world.leads or is_sharded(self.state.network)))

    def draw(self) -> Path:
        """Write a grid of samples from the averaged weights, always of the same noise and classes; returns its file."""
        path = self.folder.samples / f"{self.state.images_seen:012d}.png"
        if is_sharded(self.state.network):
            images = self._images()  # every process computes, and gathers what another holds
            self.world.first(lambda: self._write_grid(path, images))
        else:
            self.world.first(lambda: self._write_grid(path, self._images()))
        return path

    def _images(self) -> Tensor:
        count, seed, frequencies = self.experiment.log.grid, self.experiment.seed, self.experiment.frequencies
        labels = None if frequencies is None else draw_labels(frequencies, count, seed)
        with self.world.watched(), self.state.ema.applied(self.state.network) as network:
            generation = Generation.of(self.config, network)
            return torch.cat(list(generate(generation, labels, count, context=self.data.contexts(count), seed=seed)))

    def _write_grid(self, path: Path, images: Tensor) -> None:
        picture = BytesIO()
        sample_grid(images).save(picture, "PNG")
        write_atomically(path, picture.getvalue())

    def save(self) -> Path:
        """Write a checkpoint; returns its file."""
        path = self.saver.save(self.state, self._memory())
        self.faults.since_checkpoint = 0
        return path

    def _save(self) -> None:
        """Write one that is due, in the background if the settings say so."""
        if not self.experiment.log.background:
            self.save()
            return
        self.saver.begin(self.state, self._memory())
        self.faults.since_checkpoint = 0

    def _memory(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        return self.facts | self.journal.memory() if self.world.leads else {}


@contextmanager
def _memory_errors(run: Run) -> Iterator[None]:
    """Say what to lower where memory runs out."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
        if not known and "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        batch, accumulate, (height, width) = run.experiment.batch, run.experiment.accumulate, run.experiment.size
        raise SnriseError(
            f"out of memory: {batch} images of {height}x{width} in {accumulate} parts on {run.state.device}; "
            f"set training.accumulate={min(batch, 2 * accumulate)} (the same result in more parts), or lower "
            f"training.batch or the network; `snrise plan {run.folder.path}` says what fits"
        ) from error
