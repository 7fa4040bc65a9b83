"""`snrise show`: a run so far, as a table and curves."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from snrise import plots
from snrise.cli.options import check_chart
from snrise.models import located
from snrise.runs import summarize
from snrise.runs.gallery import command_of, origin_of
from snrise.runs.telling import about, curves, event_line, rows
from snrise.trained import saved

__all__ = ["show"]


def show(
    run: Annotated[Path, typer.Argument(
        metavar="RUN|FILE|MODEL|PICTURE", help="A run's folder, a checkpoint, exported weights, a built-in model, or a "
        "picture of `snrise sample`."
    )],
    out: Annotated[
        Path | None, typer.Option(help="The curves: .png, .svg or .pdf.", show_default="RUN/curves.png")
    ] = None,
) -> None:
    """Sum up a run, also one that goes on, and draw its curves; or tell what weights are, or how a picture was made."""
    if run.suffix.lower() == ".png":
        _show_picture(origin_of(run))
        return
    if located(run).is_file():
        _show_weights(located(run))
        return
    path = out or run / "curves.png"
    check_chart(path)
    summary = summarize(run)
    console = _table(rows(run, summary))
    for event in summary.events[-5:]:
        console.print(event_line(event), style="yellow")
    if not summary.lines:
        console.print("nothing is logged yet, so there are no curves")
        return
    console.print(f"written: {plots.save(curves(summary, str(run)), path)}")


def _table(lines: Iterable[tuple[str, str | int]]) -> Console:
    """Print names and values; returns the console."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, value in lines:
        console.print(f"{name:<15}{value}")
    return console


def _show_picture(origin: dict[str, Any]) -> None:
    """The settings embedded in a picture, and the command that reproduces it."""
    console = _table(
        (name, value if isinstance(value, str | int) else json.dumps(value, ensure_ascii=False))
        for name, value in origin.items()
    )
    console.print(f"again: {command_of(origin)}", style="bold")


def _show_weights(file: Path) -> None:
    """The header of a file of weights: what they were trained on, and their classes."""
    header, config = saved(file)
    classes = header.extra.get("classes")
    console = _table([
        *about(config, file), ("images seen", f"{header.images_seen:,}"), ("weights", header.checksums["ema"][:12]),
        ("classes", ", ".join(classes) if classes else "none"),
    ])
    console.print(f"pictures: snrise sample {file}", style="bold")
