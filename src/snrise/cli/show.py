"""`snrise show`: a run so far, as a table and curves."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from snrise import plots
from snrise.cli.options import check_chart
from snrise.config import RunConfig
from snrise.models import located
from snrise.runs import Summary, summarize
from snrise.runs.gallery import command_of, origin_of
from snrise.runs.logs import Meter
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
    console = _table(_rows(run, summary))
    for event in summary.events[-5:]:
        console.print(_event(event), style="yellow")
    if not summary.lines:
        console.print("nothing is logged yet, so there are no curves")
        return
    config = summary.config
    levels = config.loss.levels.of(config.schedule(config.shape[1:]))
    centres = Meter(levels).centres
    console.print(f"written: {plots.save(plots.training_curves(summary.lines, centres, title=str(run)), path)}")


def _table(rows: Iterable[tuple[str, str | int]]) -> Console:
    """Print names and values; returns the console."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, value in rows:
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
        *_about(config, file), ("images seen", f"{header.images_seen:,}"), ("weights", header.checksums["ema"][:12]),
        ("classes", ", ".join(classes) if classes else "none"),
    ])
    console.print(f"pictures: snrise sample {file}", style="bold")


def _about(config: RunConfig, place: Path) -> list[tuple[str, str]]:
    """The fixed properties of a run."""
    made, network = config.made_with, type(config.network).__name__.removesuffix("Config")
    height, width = config.data.resolution
    return [
        ("run", f"{config.name} in {place}"), ("data", f"{made.get('images', '?')} images at {height}x{width}"),
        ("network", f"{network}, predicts {config.loss.prediction.value}"),
        ("made with", ", ".join(f"{name} {made[name]}" for name in ("snrise", "torch", "commit") if name in made)),
    ]


def _rows(run: Path, summary: Summary) -> list[tuple[str, str]]:
    """The rows of the table."""
    config, last = summary.config, summary.lines[-1] if summary.lines else None
    rows = _about(config, run)
    if last is not None:
        seen, total, rate = last["images_seen"], config.training.images, last["images_per_second"]
        left = (total - seen) / rate if rate else math.inf
        ahead = "" if seen >= total else f", {left / 60:.0f} minutes left at this speed"
        rows += [
            ("images seen", f"{seen:,} of {total:,}{ahead}"), ("loss", f"{last['loss']:.4f}"),
            ("speed", f"{rate:.0f} images/s, {last['data_share']:.1%} of the time waiting for data"),
            ("memory", f"{last['memory_gib']:.2f} GiB"), ("steps dropped", str(last["faults"])),
        ]
    spikes = sum(event["event"] == "spike" for event in summary.events)
    rows += [("loss spikes", str(spikes)), ("files skipped", str(summary.skipped))]
    newest = f"{len(summary.checkpoints)}, the newest {summary.checkpoints[-1]}" if summary.checkpoints else "none yet"
    return [*rows, ("checkpoints", newest)]


def _event(event: dict[str, Any]) -> str:
    """An event in one line."""
    what = f"dropped ({event['where']})" if event["event"] == "fault" else f"spike, usually {event['usual_loss']:.4f}"
    worst = event["images"][0]
    return (
        f"step {event['step']:,}: loss {event['loss']}: {what}; worst: {worst['name']} at λ {worst['logsnr']}, "
        f"ε-loss {worst['eps_loss']}"
    )
