"""What the app does, without a browser: from what is asked for to states, pictures, curves, plans and their commands.

>>> order = Order(run="emoji-32", number=2, seed=1, classes=("heart",), steps=2)
>>> moments = list(Job.of(order, Shelf.of()).moments())
>>> [moment.done for moment in moments], moments[-1].state.x.shape
([0, 1, 2], torch.Size([2, 3, 32, 32]))
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from matplotlib.figure import Figure

from snrise import planning, plots
from snrise._errors import require
from snrise.app.shelf import Shelf
from snrise.config import Sampling
from snrise.construct import kind_of
from snrise.experiment import Experiment
from snrise.generation import State
from snrise.planning import Plan, telling
from snrise.planning.asking import asked
from snrise.runs import RunFolder, summarize
from snrise.runs.gallery import Gallery, as_png
from snrise.runs.sampling import check_guidance, with_options
from snrise.runs.telling import about, curves, event_line, rows
from snrise.trained import Trained

__all__ = [
    "LARGEST_SEED", "MOST", "Costs", "Course", "Job", "Moment", "Order", "command", "course", "difference", "planned",
    "stamp",
]

#: Pictures that are made at a time, at most; a browser's numbers are exact up to the largest seed.
MOST, LARGEST_SEED = 16, 2**53 - 1


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """Picture 0 … number − 1 of a seed, of a run; a setting that is None is as the run has it."""

    run: str
    number: int = 4
    seed: int = 0
    classes: tuple[str, ...] = ()
    guidance: float | None = None
    steps: int | None = None
    sampler: str | None = None
    grid: str | None = None

    def __post_init__(self) -> None:
        require(1 <= self.number <= MOST, "number", self.number, f"1 to {MOST}; more with snrise sample")
        require(0 <= self.seed <= LARGEST_SEED, "seed", self.seed, f"0 to {LARGEST_SEED}")

    def changes(self, own: Sampling) -> dict[str, Any]:
        """The settings that are not the run's own."""
        theirs = {"guidance": own.guidance, "steps": own.steps, "sampler": kind_of(own.sampler),
                  "grid": kind_of(own.grid)}
        chosen = {name: getattr(self, name) for name in theirs}
        return {name: value for name, value in chosen.items() if value is not None and value != theirs[name]}


def command(order: Order, own: Sampling, device: str | None = None) -> str:
    """The command that makes these pictures with a run of these settings.

    >>> command(Order(run="runs/a b", number=2, classes=("cat face",), steps=8, guidance=2.0), Sampling())
    "snrise sample 'runs/a b' -n 2 --seed 0 --class 'cat face' --guidance 2 --steps 8"
    """
    words = ["snrise", "sample", order.run, "-n", str(order.number), "--seed", str(order.seed)]
    words += [word for name in order.classes for word in ("--class", name)]
    for name, value in order.changes(own).items():
        words += [f"--{name}", repr(value).removesuffix(".0") if isinstance(value, float) else str(value)]
    words += [] if device is None else ["--device", device]
    return shlex.join(words)


@final
@dataclass(frozen=True, kw_only=True)
class Moment:
    """The pictures after `done` of `steps` steps."""

    done: int
    steps: int
    state: State

    @property
    def is_last(self) -> bool:
        """Whether they are finished."""
        return self.done == self.steps


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """An order with its run loaded, and the command that does the same."""

    order: Order
    gallery: Gallery
    command: str

    @classmethod
    def of(cls, order: Order, shelf: Shelf) -> "Job":
        """Load the run, and check the order.

        Raises:
            SnriseError: for a run that cannot be loaded, an unknown class, guidance without classes.
        """
        trained = shelf.load(order.run)
        own = trained.config.sampling
        gallery = Gallery(trained=_changed(trained, order), seed=order.seed, classes=order.classes)
        check_guidance(gallery, given="guidance" in order.changes(own))
        gallery.labels(range(1))
        return cls(order=order, gallery=gallery, command=command(order, own, shelf.asked))

    def moments(self) -> Iterator[Moment]:
        """The states on the way; nothing is computed between two of them."""
        steps = len(self.gallery.generation.logsnrs) - 1
        for done, state in enumerate(self.gallery.states(range(self.order.number))):
            yield Moment(done=done, steps=steps, state=state)

    def png(self, moment: Moment) -> bytes:
        """The pictures as the file that the command writes, with its origin."""
        origin = {"numbers": [0, self.order.number - 1]} | self.gallery.origin()
        return as_png(plots.sample_grid(moment.state.x), origin)

    @property
    def warnings(self) -> list[str]:
        """What to know of the run that was loaded."""
        return [f"passed over a broken checkpoint: {problem}" for problem in self.gallery.trained.broken]


def _changed(trained: Trained, order: Order) -> Trained:
    changes = order.changes(trained.config.sampling)
    sampler = changes.pop("sampler", None)
    return with_options(trained, changes, sampler, {}, None)


def difference(first: State, second: State) -> str:
    """How far two sets of pictures are from each other, in words."""
    a, b = first.x, second.x
    if a.shape != b.shape:
        sizes = " and ".join(f"{len(x)} of {x.shape[-2]}×{x.shape[-1]} px" for x in (a, b))
        return f"not compared: {sizes}"
    apart = (a.float() - b.float()).abs().mean().item()
    return "the same to the last bit" if bool((a == b).all()) else f"mean absolute difference {apart:.2f} of 255"


@final
@dataclass(frozen=True, kw_only=True)
class Course:
    """A run so far: names and values, the last events, and its curves, or why there are none."""

    command: str
    rows: list[tuple[str, str]]
    events: list[str]
    figure: Figure | None
    note: str = ""


def course(name: str, shelf: Shelf) -> Course:
    """How a run has gone so far; weights without a folder have settings alone."""
    shown = shlex.join(["snrise", "show", name])
    if name not in shelf.folders:
        known = shelf.about(name)
        told = [*about(known.config, Path(name)), ("images seen", f"{known.images_seen:,}")]
        return Course(command=shown, rows=told, events=[], figure=None, note="weights alone: no logs, so no curves")
    summary = summarize(Path(name))
    figure = curves(summary, name, columns=2) if summary.lines else None
    return Course(
        command=shown, rows=rows(Path(name), summary), events=[event_line(event) for event in summary.events[-5:]],
        figure=figure, note="" if summary.lines else "nothing is logged yet, so there are no curves",
    )


@final
@dataclass(frozen=True, kw_only=True)
class Costs:
    """A plan, and what else `snrise plan` says of it."""

    command: str
    plan: Plan
    rows: list[tuple[str, str]]
    warnings: list[str]


def stamp(name: str) -> str:
    """What changes when a run has logged more."""
    folder = RunFolder(Path(name))
    files = [file.stat() for file in (folder.log, folder.events, folder.config) if file.exists()]
    return f"{name} {[(file.st_mtime_ns, file.st_size) for file in files]}"


def planned(
    name: str, device: str, shelf: Shelf, *, resolution: str | None = None, batch: int | None = None
) -> Costs:
    """What a recipe or a run's settings would cost on a device; `this` times some steps, for half a minute or so."""
    words = ["snrise", "plan", name]
    words += [] if resolution is None else ["--resolution", resolution]
    words += [] if batch is None else ["--batch", str(batch)]
    where = planning.device(device)
    config, classes = asked([name], None, resolution, batch)
    costs = planning.plan(Experiment.imagined(config, classes), where)
    there = shelf.device if device == "this" else "cpu"
    lines = [*telling.memory(costs), ("a million images", telling.million_images(costs, classes, device, there=there)),
             ("schedule", telling.verdict(costs))]
    fits = [] if costs.fits else ["does not fit" + (":" if costs.advice else ""), *costs.advice]
    return Costs(command=shlex.join([*words, "--device", device]), plan=costs, rows=lines,
                 warnings=[*telling.unwise(costs), *fits])
