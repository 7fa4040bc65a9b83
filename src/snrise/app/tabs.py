"""The page: a tab to sample, one to compare, one for curves, one for plans. It asks `jobs`, and shows by `views`."""

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, no_type_check

import gradio as gr

from snrise._errors import invalid
from snrise.app import jobs, views
from snrise.app.controls import QUIET, Run, Way, What, one_line, order_of
from snrise.app.jobs import Job, Moment
from snrise.app.shelf import Shelf
from snrise.documents import DEFAULT_RECIPE, recipes
from snrise.planning import DEVICES

__all__ = ["page"]

#: What computes waits in one queue, one job at a time.
COMPUTE = {"concurrency_limit": 1, "concurrency_id": "compute"}
#: Seconds between two pictures on the way, and between two looks at a run's logs.
EVERY, CURVES_EVERY = 0.4, 5.0
Update = dict[Any, Any]


def page(shelf: Shelf) -> gr.Blocks:
    """The page of some runs."""
    with gr.Blocks(title="snrise", analytics_enabled=False) as built:
        gr.HTML("<h1>snrise</h1><p>Each picture comes with the command that makes it.</p>", elem_classes="snrise-head")
        with gr.Tab("Sample"):
            _sample(shelf)
        with gr.Tab("Compare"):
            _compare(shelf)
        with gr.Tab("Curves"):
            _curves(shelf)
        with gr.Tab("Plan"):
            _plan(shelf)
    return built


def told(job: Callable[..., Iterator[Update]], status: Any) -> Callable[..., Iterator[Update]]:
    """The job, whose errors are one line in the status."""

    @wraps(job)
    @no_type_check  # whose wrapper, in tests, would hide from Gradio that it is a generator
    def without_traceback(*values: Any) -> Iterator[Update]:
        try:
            yield from job(*values)
        except Exception as error:  # whatever it is, the app goes on
            yield {status: views.failed(one_line(error))}

    guarded: Callable[..., Iterator[Update]] = without_traceback
    return guarded


def shown(moments: Iterator[Moment]) -> Iterator[Moment]:
    """The first of them, the last, and one in so many seconds."""
    before = 0.0
    for moment in moments:
        if moment.is_last or time.monotonic() - before >= EVERY:
            yield moment
            before = time.monotonic()


def started(
    button: Any, cancel: Any, job: Callable[..., Iterator[Update]], inputs: list[Any], outputs: list[Any]
) -> None:
    """Let the buttons start and stop the job, whose first output is its status."""
    status = outputs[0]
    event = button.click(
        told(job, status), inputs, outputs, show_progress="full", show_progress_on=[status], **COMPUTE, **QUIET
    )
    if cancel is not None:
        # Closes the job's generator after the step that it is at, which lets the next one begin.
        cancel.click(lambda: views.line("stopped"), None, status, cancels=[event], queue=False,
                     show_progress="hidden", **QUIET)


def _sample(shelf: Shelf) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=320):
            run = Run.of(shelf)
            what = What.of(shelf, run)
            way = Way.of(shelf, run)
        with gr.Column(scale=2, min_width=320):
            button, cancel = _buttons("Sample")
            status, stage = gr.HTML(), gr.HTML()
            command = gr.HTML()

    def sample(*values: Any) -> Iterator[Update]:
        order = order_of(values[:3], values[3:])
        yield {status: views.line(f"loading {order.run}")}
        job = Job.of(order, shelf)
        yield {command: views.command(job.command)}
        for moment in shown(job.moments()):
            yield {status: _status("", job, moment), stage: _pictures(job, moment)}

    started(button, cancel, sample, [*what.inputs, *way.inputs], [status, stage, command])


def _compare(shelf: Shelf) -> None:
    with gr.Row():
        with gr.Column(min_width=320):
            left = Run.of(shelf, "A")
            first = Way.of(shelf, left)
        with gr.Column(min_width=320):
            right = Run.of(shelf, "B", shelf.names[min(1, len(shelf.names) - 1)])
            second = Way.of(shelf, right)
    with gr.Row():
        what = What.of(shelf, left, right)
    button, cancel = _buttons("Compare")
    status = gr.HTML()
    sides = []
    with gr.Row():
        for _ in "AB":
            with gr.Column(min_width=320):
                sides.append((gr.HTML(), gr.HTML()))

    def compare(*values: Any) -> Iterator[Update]:
        orders = [order_of(values[:3], values[3 + 5 * i :][:5]) for i in range(2)]
        yield {status: views.line(f"loading {' and '.join(dict.fromkeys(order.run for order in orders))}")}
        both = [Job.of(order, shelf) for order in orders]
        yield {
            command: views.command(job.command, f"Command {name}")
            for name, (_, command), job in zip("AB", sides, both, strict=True)
        }
        ends = []
        for name, (stage, _), job in zip("AB", sides, both, strict=True):
            for moment in shown(job.moments()):
                yield {status: _status(f"{name}: ", job, moment), stage: _pictures(job, moment)}
            ends.append(moment.state)
        yield {status: views.line(jobs.difference(*ends))}

    started(button, cancel, compare, [*what.inputs, *first.inputs, *second.inputs],
            [status, *(part for side in sides for part in side)])


def _curves(shelf: Shelf) -> None:
    with gr.Row():
        run = gr.Dropdown(list(shelf.names), value=shelf.names[0], label="Run of the curves")
        live = gr.Checkbox(label="Live", info=f"looks for more every {CURVES_EVERY:g} seconds")
    button = gr.Button("Show", variant="primary")
    status, stage = gr.HTML(), gr.HTML()
    command, seen, timer = gr.HTML(), gr.State(""), gr.Timer(CURVES_EVERY, active=False)

    def show(name: str, before: str) -> Iterator[Update]:
        now = jobs.stamp(name)
        if now == before:
            yield {seen: now}
            return
        course = jobs.course(name, shelf)
        yield {status: "", stage: views.course(course), command: views.command(course.command), seen: now}

    def again(name: str) -> Iterator[Update]:
        yield from show(name, "")

    outputs, apart = [status, stage, command, seen], {"concurrency_limit": 1, "concurrency_id": "curves"}
    for trigger in (button.click, run.change):
        trigger(told(again, status), run, outputs, show_progress="minimal", show_progress_on=[status], **apart, **QUIET)
    timer.tick(told(show, status), [run, seen], outputs, show_progress="hidden", **apart, **QUIET)
    live.change(lambda on: gr.Timer(active=on), live, timer, show_progress="hidden", **QUIET)


def _plan(shelf: Shelf) -> None:
    with gr.Row():
        name = gr.Dropdown([*recipes(), *shelf.folders], value=DEFAULT_RECIPE, label="Recipe or run")
        resolution = gr.Textbox(label="Resolution", placeholder="its own", info="such as 256, or 256x384")
        batch = gr.Textbox(label="Images in a step", placeholder="its own", info="a whole number")
        device = gr.Dropdown([*DEVICES, "cpu", "this"], label="Device", info="this is timed, in half a minute")
    button = gr.Button("Plan", variant="primary")
    status, stage, command = gr.HTML(), gr.HTML(), gr.HTML()

    def plan(name: str, resolution: str, batch: str, device: str) -> Iterator[Update]:
        yield {status: views.line(f"planning {name} on {device}")}
        costs = jobs.planned(name, device, shelf, resolution=resolution.strip() or None, batch=_whole(batch.strip()))
        yield {status: "", stage: views.costs(costs), command: views.command(costs.command)}

    started(button, None, plan, [name, resolution, batch, device], [status, stage, command])


def _whole(text: str) -> int | None:
    """A number of images; None if none is given."""
    if text and not (text.isdecimal() and int(text)):
        raise invalid("--batch", text, "a whole number above 0")
    return int(text) if text else None


def _buttons(name: str) -> tuple[Any, Any]:
    with gr.Row():
        return gr.Button(name, variant="primary"), gr.Button("Cancel")


def _status(name: str, job: Job, moment: Moment) -> str:
    if not moment.is_last:
        return views.progress(name, moment)
    return views.line("; ".join([f"{name}{moment.steps} steps done", *job.warnings]))


def _pictures(job: Job, moment: Moment) -> str:
    return views.picture(job, moment) if moment.is_last else views.frame(moment)
