"""The controls that several tabs share: a run with how it is sampled; and what is asked for with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import gradio as gr

from snrise._errors import SnriseError, require
from snrise.app import views
from snrise.app.jobs import LARGEST_SEED, MOST, Order
from snrise.app.shelf import Shelf
from snrise.config import Sampling
from snrise.construct import kind_of
from snrise.samplers import GRIDS, SAMPLERS

__all__ = ["QUIET", "Run", "Way", "What", "one_line", "order_of"]

#: Of events: they are the page's own, and no interface for programs.
QUIET = {"api_visibility": "private"}
#: The most steps and guidance that a slider offers, unless a run has more.
STEPS, GUIDANCE = 256, 10.0


def told(shelf: Shelf, name: str) -> tuple[str, Sampling, tuple[str, ...]]:
    """A run in HTML, its settings of sampling, and its classes; of one that cannot be read, why."""
    try:
        about = shelf.about(name)
    except (SnriseError, OSError) as error:
        return views.failed(one_line(error)), Sampling(), ()
    return views.line(str(about)), about.config.sampling, about.classes


def one_line(error: BaseException) -> str:
    """An error as it is shown: its first line, and its kind unless it is snrise's own."""
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, MemoryError):
        return f"error: {text or 'out of memory'}"
    kind = "" if isinstance(error, SnriseError | OSError) else f"{type(error).__name__}: "
    return f"error: {kind}{text}"


@final
@dataclass(frozen=True, kw_only=True)
class Run:
    """The control that chooses a run, with a line about it; `after` ends the names of its controls."""

    choice: gr.Dropdown
    line: gr.HTML
    after: str

    @classmethod
    def of(cls, shelf: Shelf, which: str = "", name: str | None = None) -> "Run":
        """Made where a page is being built; `which` tells its controls from others by their names."""
        name, after = name or shelf.names[0], f" {which}" if which else ""
        choice = gr.Dropdown(list(shelf.names), value=name, label=f"Run{after}")
        line = gr.HTML(told(shelf, name)[0], elem_classes="snrise-about")
        choice.change(lambda name: told(shelf, name)[0], choice, line, show_progress="hidden", **QUIET)
        return cls(choice=choice, line=line, after=after)


@final
@dataclass(frozen=True, kw_only=True)
class Way:
    """Controls of how a run is sampled: guidance, steps, sampler and grid."""

    run: Run
    guidance: gr.Slider
    steps: gr.Slider
    sampler: gr.Dropdown
    grid: gr.Dropdown

    @classmethod
    def of(cls, shelf: Shelf, run: Run) -> "Way":
        """Made where a page is being built; they follow the run."""

        def made(name: str) -> list[Any]:
            _, how, classes = told(shelf, name)
            return [control(how, classes) for control in _settings(run.after)]

        guidance, steps, sampler, grid = made(run.choice.value)
        run.choice.change(made, run.choice, [guidance, steps, sampler, grid], show_progress="hidden", **QUIET)
        return cls(run=run, guidance=guidance, steps=steps, sampler=sampler, grid=grid)

    @property
    def inputs(self) -> list[Any]:
        """The controls in the order of `order_of`."""
        return [self.run.choice, self.guidance, self.steps, self.sampler, self.grid]


def _settings(after: str) -> Iterator[Any]:
    """For each control how it is made for a run's settings and classes."""

    def guidance(how: Sampling, classes: tuple[str, ...]) -> Any:
        info = "1 is none" if classes else "this run has no classes to guide by"
        most = max(GUIDANCE, how.guidance)
        return gr.Slider(0, most, how.guidance, step=0.1, label=f"Guidance{after}", info=info,
                         interactive=bool(classes))

    def steps(how: Sampling, classes: tuple[str, ...]) -> Any:
        return gr.Slider(1, max(STEPS, how.steps), how.steps, step=1, label=f"Steps{after}", interactive=True)

    def sampler(how: Sampling, classes: tuple[str, ...]) -> Any:
        return gr.Dropdown(list(SAMPLERS), value=kind_of(how.sampler), label=f"Sampler{after}", interactive=True)

    def grid(how: Sampling, classes: tuple[str, ...]) -> Any:
        return gr.Dropdown(list(GRIDS), value=kind_of(how.grid), label=f"Grid of λ{after}", interactive=True)

    yield from (guidance, steps, sampler, grid)


@final
@dataclass(frozen=True, kw_only=True)
class What:
    """Controls of the number of pictures, the seed and the classes."""

    number: gr.Slider
    seed: gr.Number
    classes: gr.Dropdown

    @classmethod
    def of(cls, shelf: Shelf, *runs: Run) -> "What":
        """Made where a page is being built; the classes are those that all of the chosen runs have."""
        choices = [run.choice for run in runs]
        classes = _classes(shelf, *(choice.value for choice in choices))
        number = gr.Slider(1, MOST, 4, step=1, label="Pictures")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
        for choice in choices:
            choice.change(lambda *names: _classes(shelf, *names), choices, classes, show_progress="hidden", **QUIET)
        return cls(number=number, seed=seed, classes=classes)

    @property
    def inputs(self) -> list[Any]:
        """The controls in the order of `order_of`."""
        return [self.number, self.seed, self.classes]


def _classes(shelf: Shelf, *names: str) -> Any:
    first, *others = ([*told(shelf, name)[2]] for name in names)
    shared = [name for name in first if all(name in other for other in others)]
    return gr.Dropdown(shared, value=[], multiselect=True, label="Classes", visible=bool(shared), interactive=True,
                       info="the pictures cycle through them; without any, as in the data")


def order_of(what: tuple[Any, ...], way: tuple[Any, ...]) -> Order:
    """What the controls say."""
    number, seed, classes = what
    run, guidance, steps, sampler, grid = way
    require(seed is not None, "seed", seed, "a whole number, 0 or more")
    return Order(
        run=run, number=int(number), seed=int(seed), classes=tuple(classes or ()), guidance=round(float(guidance), 4),
        steps=int(steps), sampler=sampler, grid=grid,
    )
