"""`snrise sweep`: what samplers, steps and guidance are worth on a trained run."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from snrise import build, plots
from snrise._errors import require, unknown
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.progress import on_stderr, watched
from snrise.cli.sampling import interval_of
from snrise.evaluation import Reference
from snrise.evaluation.sweeping import Way, ways
from snrise.evaluation.sweeping import sweep as measured
from snrise.metrics import FEATURES
from snrise.samplers import GRIDS, SAMPLERS

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
    if features not in FEATURES:
        raise unknown("--features", features, FEATURES, "features")
    folder = out or _home(run) / "sweep"
    trained = build.open_run(run, device=device_of(device))
    asked = {"sampler": sampler, "grid": grid, "guidance": guidance, "steps": steps}
    choices = {name: _split(value, f"--{name}") for name, value in asked.items()}
    intervals = _split(guidance_interval, "--guidance-interval", ";")
    choices["guidance_interval"] = [json.dumps(None if i == "none" else interval_of(i)) for i in intervals]
    chosen = [Way((*(settings or []), *way.settings)) for way in ways(**choices)]
    for way in chosen:
        build.generation(trained.with_sampling(way.settings).config)
    console, told = Console(), on_stderr()
    data = build.compared(trained.with_sampling(settings or []).config)
    with watched(told, name="reference") as watch:
        reference = Reference.of(data, FEATURES[features], watch=watch)
    metric = reference.extractor.kernel_name
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    with watched(told, len(chosen) * seeds * number, unit="pictures") as watch:
        lines = measured(
            trained, chosen, reference, number=number, seeds=seeds, file=folder / "sweep.jsonl", batch=batch,
            watch=watch,
        )
        for line in lines:
            found.setdefault(tuple(line["settings"]), []).append(line)
            told.print(f"{_name(line['settings'])}, seed {line['seed']}: {metric} {line[metric]:.4f}")
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


def _name(settings: list[str] | tuple[str, ...]) -> str:
    return " ".join(setting.removeprefix("sampling.") for setting in settings)


def _table(found: dict[tuple[str, ...], list[dict[str, Any]]], metric: str, second: str) -> Table:
    table = Table("settings", "evaluations", metric, "±", second, "recall", "s/image", box=None)
    for settings, lines in found.items():
        value, error = _value(lines, metric)
        rest = (mean(line[name] for line in lines) for name in (second, "recall"))
        seconds = mean(line["seconds"] / line["number"] for line in lines)
        numbers = (value, error, *rest, seconds)
        table.add_row(_name(settings), f"{lines[0]['evaluations']:.1f}", *(f"{n:.4f}" for n in numbers))
    return table


def _value(lines: list[dict[str, Any]], metric: str) -> tuple[float, float]:
    """The mean over seeds, with their spread or, of one, its own error."""
    values = [line[metric] for line in lines]
    return mean(values), stdev(values) if len(values) > 1 else lines[0][f"{metric} error"]


def _curves(
    found: dict[tuple[str, ...], list[dict[str, Any]]], metric: str
) -> dict[str, list[tuple[float, float, float]]]:
    """A line for each way that differs in more than the number of steps."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for settings, lines in found.items():
        name = _name([s for s in settings if not s.startswith("sampling.steps=")]) or "the run's"
        curves.setdefault(name, []).append((lines[0]["evaluations"], *_value(lines, metric)))
    return curves
