"""A run in words and curves: what `snrise show` and the app tell of it."""

import math
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from snrise.config import RunConfig
from snrise.plots import training_curves
from snrise.runs.logs import Meter
from snrise.runs.summary import Summary

__all__ = ["about", "curves", "event_line", "rows"]


def about(config: RunConfig, place: Path) -> list[tuple[str, str]]:
    """The fixed properties of a run."""
    made, network = config.made_with, type(config.network).__name__.removesuffix("Config")
    height, width = config.data.resolution
    return [
        ("run", f"{config.name} in {place}"), ("data", f"{made.get('images', '?')} images at {height}x{width}"),
        ("network", f"{network}, predicts {config.loss.prediction.value}"),
        ("made with", ", ".join(f"{name} {made[name]}" for name in ("snrise", "torch", "commit") if name in made)),
    ]


def rows(run: Path, summary: Summary) -> list[tuple[str, str]]:
    """A run so far, in names and values."""
    config, last = summary.config, summary.lines[-1] if summary.lines else None
    told = about(config, run)
    if last is not None:
        seen, total, rate = last["images_seen"], config.training.images, last["images_per_second"]
        left = (total - seen) / rate if rate else math.inf
        ahead = "" if seen >= total else f", {left / 60:.0f} minutes left at this speed"
        told += [
            ("images seen", f"{seen:,} of {total:,}{ahead}"), ("loss", f"{last['loss']:.4f}"),
            ("speed", f"{rate:.0f} images/s, {last['data_share']:.1%} of the time waiting for data"),
            ("memory", f"{last['memory_gib']:.2f} GiB"), ("steps dropped", str(last["faults"])),
        ]
    spikes = sum(event["event"] == "spike" for event in summary.events)
    told += [("loss spikes", str(spikes)), ("files skipped", str(summary.skipped))]
    newest = f"{len(summary.checkpoints)}, the newest {summary.checkpoints[-1]}" if summary.checkpoints else "none yet"
    return [*told, ("checkpoints", newest)]


def event_line(event: dict[str, Any]) -> str:
    """An event in one line."""
    what = f"dropped ({event['where']})" if event["event"] == "fault" else f"spike, usually {event['usual_loss']:.4f}"
    worst = event["images"][0]
    return (
        f"step {event['step']:,}: loss {event['loss']}: {what}; worst: {worst['name']} at λ {worst['logsnr']}, "
        f"ε-loss {worst['eps_loss']}"
    )


def curves(summary: Summary, title: str, columns: int | None = None) -> Figure:
    """The curves of a run that has logged something; `columns` are those of the charts, by default one each."""
    config = summary.config
    levels = config.loss.levels.of(config.schedule(config.shape[1:]))
    return training_curves(summary.lines, Meter(levels).centres, title=title, columns=columns)
