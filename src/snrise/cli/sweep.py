"""`snrise sweep`: samplers, steps and guidance compared on a trained run."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, TypeAlias

import torch
import typer
from rich.console import Console
from rich.table import Table

from snrise import plots
from snrise._errors import invalid, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import BatchOption, FeaturesOption, MetricOption, at_a_time, metric_named
from snrise.cli.progress import on_stderr, watched
from snrise.cli.sampling import interval_of
from snrise.cli.together import joined
from snrise.evaluation import Reference
from snrise.evaluation.sweeping import Way, ways
from snrise.evaluation.sweeping import sweep as measured
from snrise.metrics import Better, Extractor, extractor_named
from snrise.models import beside
from snrise.samplers import GRIDS, SAMPLERS
from snrise.trained import Trained, load

__all__ = ["sweep"]

#: Separators of values, and their names.
MARKS = {",": "commas", ";": "semicolons"}

#: The lines of sweep.jsonl, one a seed.
Results: TypeAlias = dict[Way, list[dict[str, Any]]]


def sweep(
    run: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint, exported weights, or a built-in model.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For all, such as sampling.rescale=0.7.")
    ] = None,
    steps: Annotated[str, typer.Option(metavar="A,B,…", help="Numbers of steps.")] = "8,16,32,64",
    sampler: Annotated[str | None, typer.Option(metavar="A,B,…", help=f"Of {', '.join(SAMPLERS)}.")] = None,
    grid: Annotated[str | None, typer.Option(metavar="A,B,…", help=f"Of {', '.join(GRIDS)}.")] = None,
    guidance: Annotated[str | None, typer.Option(metavar="A,B,…", help="Scales of guidance; 1 is none.")] = None,
    guidance_interval: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH;…", help="Where λ is guided, such as '-3,5;none': none is "
                                 "everywhere.", show_default="the run's")
    ] = None,
    ema: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Widths of the average, such as 0.03,0.05,0.1, of a run with "
                                 "training.averages.", show_default="the run's half-life")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="Pictures for each point.", min=6)] = 500,
    seeds: Annotated[int, typer.Option(help="Sampling seeds for each point.", min=1)] = 1,
    features: FeaturesOption = "efficientnet-lite0",
    metric: MetricOption = None,
    batch: BatchOption = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the results.", show_default="RUN/sweep")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Judge every combination of steps, samplers, grids and guidance against the network evaluations it takes.

    Results are kept in sweep.jsonl, and none is measured twice.
    On several processes: torchrun --standalone --nproc-per-node 2 -m snrise sweep.
    """
    extractor = extractor_named(features, "--features")
    ranked, better = metric_named(metric, extractor)
    folder = out or _home(run) / "sweep"
    choices = {"sampler": sampler, "grid": grid, "guidance": guidance, "steps": steps}
    chosen = _chosen(choices, guidance_interval, ema, settings or [])
    with joined() as world:
        opened = cache(partial(_opened, run, world.device(device_of(device))))
        trained = opened(chosen[0].ema)
        for way in chosen:
            trained.with_sampling(way.settings).generation()
        progress = on_stderr(world)
        with watched(progress, name="reference") as watch:
            data = trained.with_sampling(settings or []).data()
            reference = Reference.of(data, extractor, watch=watch, world=world)
        results: Results = {}
        with watched(progress, len(chosen) * seeds * number, unit="pictures") as watch:
            for line in measured(opened, chosen, reference, number=number, seeds=seeds, file=folder / "sweep.jsonl",
                                 batch=at_a_time(batch, number, world), watch=watch, world=world):
                way = Way(tuple(line["settings"]), line.get("ema"))
                results.setdefault(way, []).append(line)
                progress.print(f"{way}, seed {line['seed']}: {ranked} {line[ranked]:.4f}")
        title = f"{trained.config.name}, {trained.images_seen:,} images seen, n = {number}"
        world.first(lambda: _report(results, extractor, ranked, better, title, folder))


def _chosen(
    choices: Mapping[str, str | None], intervals: str | None, ema: str | None, settings: list[str]
) -> list[Way]:
    """Every combination of the values in options, and of widths of the average."""
    values = {name: _split(text, f"--{name}") for name, text in choices.items()}
    values["guidance_interval"] = [
        json.dumps(None if interval == "none" else interval_of(interval))
        for interval in _split(intervals, "--guidance-interval", ";")
    ]
    widths: list[float | None] = [_width(value) for value in _split(ema, "--ema")] or [None]
    return [Way((*settings, *way.settings), width) for way in ways(**values) for width in widths]


def _report(
    results: Results, extractor: Extractor, ranked: str, better: Better, title: str, folder: Path
) -> None:
    """The table and the chart."""
    others = [name for name in (extractor.kernel_name, extractor.frechet_name, "recall") if name != ranked]
    console = Console()
    console.print(_table(results, ranked, others))
    chart = plots.metric_against(
        _curves(results, ranked), title=title, x="network evaluations an image", metric=ranked, better=better,
    )
    console.print(f"written: {plots.save(chart, folder / 'sweep.png')}, {folder / 'sweep.jsonl'}", soft_wrap=True)


def _home(run: Path) -> Path:
    """The run's folder, or the folder of a file of weights."""
    run = beside(run)
    if run.is_dir():
        return run
    return run.parent.parent if run.parent.name == "checkpoints" else run.parent


def _split(values: str | None, where: str, mark: str = ",") -> list[str]:
    if values is None:
        return []
    parts = [value.strip() for value in values.split(mark)]
    allowed = f"values, each once, with {MARKS[mark]} between them"
    require(all(parts) and len(set(parts)) == len(parts), where, values, allowed)
    return parts


def _opened(run: Path, device: torch.device, width: float | None) -> Trained:
    return load(run, width=width, device=device)


def _width(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise invalid("--ema", text, "a width, such as 0.05") from None


def _table(results: Results, metric: str, others: Sequence[str]) -> Table:
    table = Table("settings", "evaluations", metric, "±", *others, "s/image", box=None)
    for way, lines in results.items():
        rest = (mean(line[name] for line in lines) for name in others)
        seconds = mean(line["seconds"] / line["number"] for line in lines)
        numbers = (*_value(lines, metric), *rest, seconds)
        table.add_row(str(way), f"{lines[0]['evaluations']:.1f}", *(f"{n:.4f}" for n in numbers))
    return table


def _value(lines: list[dict[str, Any]], metric: str) -> tuple[float, float]:
    """The mean over seeds, and their standard deviation or, of one seed, its standard error: NaN if it has none."""
    values = [line[metric] for line in lines]
    return mean(values), stdev(values) if len(values) > 1 else lines[0].get(f"{metric} error", math.nan)


def _curves(results: Results, metric: str) -> dict[str, list[tuple[float, float, float]]]:
    """A line for each combination of settings other than the number of steps."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for way, lines in results.items():
        rest = replace(way, settings=tuple(s for s in way.settings if not s.startswith("sampling.steps=")))
        curves.setdefault(str(rest), []).append((lines[0]["evaluations"], *_value(lines, metric)))
    return curves
