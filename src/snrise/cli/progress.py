"""The progress bar of long commands; without a terminal, a line at intervals."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snrise.parallel import ALONE, World
from snrise.quantities import duration, speed

__all__ = ["Watch", "on_stderr", "watched"]

#: Without a terminal, seconds before the first line, and between lines.
FIRST, EVERY = 10.0, 30.0


def on_stderr(world: World = ALONE) -> Console:
    """The console for progress of commands that print results on standard output; the first process's alone prints."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, quiet=not world.leads)


@final
class Watch:
    """The progress of a job: call it with the amount done."""

    def __init__(self, name: str, total: float | None, unit: str, done: float) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.begun, self.done, self.note = done, done, ""
        self.started = time.monotonic()

    def __call__(self, done: float, total: float | None = None, note: str | None = None) -> None:
        self.done = done
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return (self.done - self.begun) / max(1e-9, time.monotonic() - self.started)

    @property
    def speed(self) -> str:
        """The rate in words; empty until something is done."""
        return "" if self.rate <= 0 else speed(self.rate, self.unit)

    @property
    def count(self) -> str:
        """The amount done, of the total."""
        total = "" if self.total is None else f" of {self.total:,.0f}"
        return f"{int(self.done):,}{total} {self.unit}"

    def __str__(self) -> str:
        left = "" if self.total is None or not self.speed else f"{duration((self.total - self.done) / self.rate)} left"
        parts = (self.count, self.note, self.speed, left)
        return (f"{self.name}: " if self.name else "") + ", ".join(filter(None, parts))


@contextmanager
def watched(
    console: Console, total: float | None = None, *, name: str = "", unit: str = "images", done: float = 0.0,
    transient: bool = True, first: float = FIRST, every: float = EVERY,
) -> Iterator[Watch]:
    """A bar on a terminal: share, count, speed, time left. Elsewhere a line after `first` seconds, then each `every`.

    A background thread prints them, so that a long step does not delay them.
    """
    watch = Watch(name, total, unit, done)
    show = _bar(console, watch, transient) if console.is_terminal else _lines(console, watch, first, every)
    with show:
        yield watch


@contextmanager
def _ticking(tick: threading.Thread, over: threading.Event) -> Iterator[None]:
    tick.start()
    try:
        yield
    finally:
        over.set()
        tick.join()


@contextmanager
def _lines(console: Console, watch: Watch, first: float, every: float) -> Iterator[None]:
    over = threading.Event()

    def tell() -> None:
        wait = first
        while not over.wait(wait):
            console.print(str(watch))
            wait = every

    with _ticking(threading.Thread(target=tell, daemon=True), over):
        yield


@contextmanager
def _bar(console: Console, watch: Watch, transient: bool) -> Iterator[None]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )
    over = threading.Event()
    with Progress(*columns, console=console, transient=transient, auto_refresh=False) as progress:
        task = progress.add_task(watch.name, total=watch.total, count="", note="")

        def draw() -> None:
            note = "  ".join(filter(None, (watch.note, watch.speed)))
            progress.update(task, completed=watch.done, total=watch.total, count=watch.count, note=note, refresh=True)

        def keep_drawing() -> None:
            while not over.wait(0.25):
                draw()

        with _ticking(threading.Thread(target=keep_drawing, daemon=True), over):
            yield
        draw()
