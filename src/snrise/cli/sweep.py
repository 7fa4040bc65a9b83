"""`snrise sweep`: what samplers, steps and guidance are worth on a trained run."""

import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from snrise import plots
from snrise._errors import invalid, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.progress import on_stderr, watched
from snrise.cli.sampling import interval_of
from snrise.evaluation import Reference
from snrise.evaluation.sweeping import Way, ways
from snrise.evaluation.sweeping import sweep as measured
from snrise.metrics import FEATURES, extractor_named
from snrise.samplers import GRIDS, SAMPLERS
from snrise.trained import Trained, load

__all__ = ["sweep"]

#: What stands between values, and its name.
MARKS = {",": "commas", ";": "semicolons"}


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
    features: Annotated[str, typer.Option(help=f"One of {', '.join(FEATURES)}.")] = "efficientnet-lite0",
    batch: Annotated[int, typer.Option(help="Pictures at a time.", min=1)] = 64,
    out: Annotated[Path | None, typer.Option(help="A folder for the results.", show_default="RUN/sweep")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Judge every combination of steps, samplers, grids and guidance against the network evaluations it takes.

    What was measured before stands in sweep.jsonl and is not measured again.
    """
    extractor = extractor_named(features, "--features")
    folder = out or _home(run) / "sweep"
    opened = cache(partial(_opened, run, device_of(device)))
    widths: list[float | None] = [_width(value) for value in _split(ema, "--ema")] or [None]
    trained = opened(widths[0])
    asked = {"sampler": sampler, "grid": grid, "guidance": guidance, "steps": steps}
    choices = {name: _split(value, f"--{name}") for name, value in asked.items()}
    intervals = _split(guidance_interval, "--guidance-interval", ";")
    choices["guidance_interval"] = [json.dumps(None if i == "none" else interval_of(i)) for i in intervals]
    chosen = [Way((*(settings or []), *way.settings), width) for way in ways(**choices) for width in widths]
    for way in chosen:
        trained.with_sampling(way.settings).generation()
    console, told = Console(), on_stderr()
    data = trained.with_sampling(settings or []).data()
    with watched(told, name="reference") as watch:
        reference = Reference.of(data, extractor, watch=watch)
    metric = reference.extractor.kernel_name
    found: dict[Way, list[dict[str, Any]]] = {}
    with watched(told, len(chosen) * seeds * number, unit="pictures") as watch:
        lines = measured(
            opened, chosen, reference, number=number, seeds=seeds, file=folder / "sweep.jsonl", batch=batch,
            watch=watch,
        )
        for line in lines:
            way = Way(tuple(line["settings"]), line.get("ema"))
            found.setdefault(way, []).append(line)
            told.print(f"{way}, seed {line['seed']}: {metric} {line[metric]:.4f}")
    console.print(_table(found, metric, reference.extractor.frechet_name))
    picture = plots.metric_against(
        _curves(found, metric), title=f"{trained.config.name}, {trained.images_seen:,} images seen, n = {number}",
        x="network evaluations an image", metric=metric,
    )
    console.print(f"written: {plots.save(picture, folder / 'sweep.png')}, {folder / 'sweep.jsonl'}", soft_wrap=True)


def _home(run: Path) -> Path:
    """The folder of the run, or where the file lies."""
    if run.is_dir():
        return run
    return run.parent.parent if run.parent.name == "checkpoints" else run.parent


def _split(values: str | None, where: str, mark: str = ",") -> list[str]:
    if values is None:
        return []
    found = [value.strip() for value in values.split(mark)]
    allowed = f"values, each once, with {MARKS[mark]} between them"
    require(all(found) and len(set(found)) == len(found), where, values, allowed)
    return found


def _opened(run: Path, device: torch.device, width: float | None) -> Trained:
    return load(run, width=width, device=device)


def _width(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise invalid("--ema", text, "a width, such as 0.05") from None


def _table(found: dict[Way, list[dict[str, Any]]], metric: str, second: str) -> Table:
    table = Table("settings", "evaluations", metric, "±", second, "recall", "s/image", box=None)
    for way, lines in found.items():
        value, error = _value(lines, metric)
        rest = (mean(line[name] for line in lines) for name in (second, "recall"))
        seconds = mean(line["seconds"] / line["number"] for line in lines)
        numbers = (value, error, *rest, seconds)
        table.add_row(str(way), f"{lines[0]['evaluations']:.1f}", *(f"{n:.4f}" for n in numbers))
    return table


def _value(lines: list[dict[str, Any]], metric: str) -> tuple[float, float]:
    """The mean over seeds, with their spread or, of one, its own error."""
    values = [line[metric] for line in lines]
    return mean(values), stdev(values) if len(values) > 1 else lines[0][f"{metric} error"]


def _curves(
    found: dict[Way, list[dict[str, Any]]], metric: str
) -> dict[str, list[tuple[float, float, float]]]:
    """A line for each way that differs in more than the number of steps."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for way, lines in found.items():
        rest = replace(way, settings=tuple(s for s in way.settings if not s.startswith("sampling.steps=")))
        curves.setdefault(str(rest), []).append((lines[0]["evaluations"], *_value(lines, metric)))
    return curves
