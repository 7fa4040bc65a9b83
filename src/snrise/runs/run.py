"""A run in its folder, from settings to the last checkpoint; iterating over it trains."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

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
from snrise.runs.provenance import made_with
from snrise.runs.resuming import data_facts, resume
from snrise.training import OnFault, Report, TrainState, forget_later, load_latest, save_averages, save_state, train

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
            self.world.copy_([*experiment.network.state_dict().values()])
            self.state = TrainState.of(experiment)
            checkpoint = resume(self.state, experiment, self.folder, self.facts, self.tell, self.world)
            check_alike(self.world, self.folder, self.state, to_yaml(settings), self.facts)
            self.journal = Journal(experiment, self.folder, self.config)
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
        self.close()

    def close(self) -> None:
        """Unlock the folder."""
        self._stack.close()

    def __iter__(self) -> Iterator[Report]:
        """Train to the end, or until no further step is asked for; then it is for the caller to `save`."""
        experiment = self.experiment
        batches = batches_of(self.data, experiment, self.world, self.state.position)
        if experiment.on_fault is OnFault.ROLLBACK and not self.state.step:
            self.save()
        if self.world.leads:
            self.journal.expect(self.state)
        with _memory_errors(self):
            for report in train(self.state, batches, experiment, images=experiment.images, world=self.world):
                self._after(report)
                yield report

    def _after(self, report: Report) -> None:
        """Do what is due after a step."""
        before, after = report.images_seen - report.batch, report.images_seen
        if self.cadence.logs(before, after):
            share_skipped(self.world, self.data.skipped)
        if self.world.leads:
            self.journal.add(report, self.state)
        if report.fault is not None:
            self._fault(report, report.fault)
            return
        if self.cadence.draws(before, after):
            self.draw()
        if self.cadence.saves(before, after):
            self.save()

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
        position, faults = self.state.position, self.state.faults
        checkpoint, _ = load_latest(self.state, self.folder.checkpoints)
        if checkpoint is None:
            raise SnriseError(f"{self.folder.checkpoints}: no checkpoint to roll back to; use training.on_fault=skip")
        self.state.position, self.state.faults = position, faults
        extra = checkpoint.extra
        self.world.first(lambda: self._open(extra))
        if self.world.leads:
            self.journal.expect(self.state)

    def draw(self) -> Path:
        """Write a grid of samples from the averaged weights, always of the same noise and classes; returns its file."""
        return Path(self.world.first(self._draw))

    def _draw(self) -> str:
        count, seed, frequencies = self.experiment.log.grid, self.experiment.seed, self.experiment.frequencies
        labels = None if frequencies is None else draw_labels(frequencies, count, seed)
        generation = Generation.of(self.config, self.state.ema.averaged(self.state.network))
        images = torch.cat(list(generate(generation, labels, count, context=self.data.contexts(count), seed=seed)))
        path = self.folder.samples / f"{self.state.images_seen:012d}.png"
        picture = BytesIO()
        sample_grid(images).save(picture, "PNG")
        write_atomically(path, picture.getvalue())
        return str(path)

    def save(self) -> Path:
        """Write a checkpoint; returns its file."""
        path = Path(self.world.first(self._save))
        self.faults.since_checkpoint = 0
        return path

    def _save(self) -> str:
        log = self.experiment.log
        save_averages(self.state, self.folder.averages)
        path = save_state(
            self.state, self.folder.checkpoints, to_yaml(self.config), self.facts | self.journal.memory(),
            keep=log.keep, keep_every=log.keep_every,
        )
        return str(path)


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
