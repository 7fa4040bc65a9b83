"""Writes a run's checkpoints, if asked in the background."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any, final

from snrise.config import Log
from snrise.parallel import World
from snrise.runs.folder import RunFolder
from snrise.training import TrainState
from snrise.training.averages import Averages
from snrise.training.saving import Snapshot

__all__ = ["Saver"]


@final
class Saver:
    """Writes the checkpoints and averages of a run. All processes call it, and the first one writes.

    Args:
        config: YAML text.
        world: the processes; a thread talks to those of the others on connections of its own.
    """

    def __init__(self, folder: RunFolder, config: str, log: Log, world: World) -> None:
        self.folder, self.config, self.log, self.world = folder, config, log, world
        self._apart = world.apart() if log.background else world
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def save(self, state: TrainState, extra: Mapping[str, Any]) -> Path:
        """Write a state; `extra` is what the checkpoint's header keeps beside it.

        Raises:
            SnriseError: as `save_state`, or as the save before, in the background, did.
        """
        self.wait()
        return self._write(Snapshot.of(state, extra), Averages.of(state), self.world)

    def begin(self, state: TrainState, extra: Mapping[str, Any]) -> None:
        """Begin to write a copy of a state, and return; the next call, or `wait`, raises what this one would."""
        self.wait()
        snapshot, averages = Snapshot.of(state, extra).copied(), Averages.of(state)
        self._thread = Thread(target=self._run, args=[lambda: self._write(snapshot, averages, self._apart)])
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:  # for who waits
            self._error = error

    def _write(self, snapshot: Snapshot, averages: Averages, world: World) -> Path:
        averages.save(self.folder.averages, world)
        return snapshot.save(
            self.folder.checkpoints, self.config, keep=self.log.keep, keep_every=self.log.keep_every, world=world
        )
