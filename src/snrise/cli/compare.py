"""`snrise compare`: configs trained alike and judged alike."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from snrise import documents, plots
from snrise._errors import SnriseError, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.progress import watched
from snrise.cli.stopping import stop_signals
from snrise.config import RunConfig
from snrise.experiment import Experiment
from snrise.files import write_atomically
from snrise.metrics import FEATURES, extractor_named
from snrise.quantities import parse_count, parse_time
from snrise.runs import measure
from snrise.runs.comparison import Comparison, Point, Row, check_alike, curve, table
from snrise.training.memory import keep_freed_memory

__all__ = ["compare"]


def compare(
    arms: Annotated[list[str], typer.Argument(
        metavar="ARM...", help="A recipe or YAML file each, with settings in the same quotes: "
        "'emoji-32 name=x loss.prediction=x'. The name of an arm is its setting `name`.")],
    budget: Annotated[str | None, typer.Option(help="Training time of each run: 90s, 10m, 2h.")] = None,
    images: Annotated[str | None, typer.Option(help="Images that each run sees: 200k.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each arm.", min=1)] = 3,
    number: Annotated[int, typer.Option("-n", "--number", help="Pictures that each point is judged by.", min=6)] = 500,
    points: Annotated[int, typer.Option(help="Moments of each run that are judged, the end being one.", min=1)] = 4,
    features: Annotated[str, typer.Option(help=f"One of {', '.join(FEATURES)}.")] = "efficientnet-lite0",
    out: Annotated[Path, typer.Option(help="The folder of the comparison.")] = Path("runs/comparison"),
    device: DeviceOption = "auto",
) -> None:
    """Train each arm on the same budget, judge all the same way: one table, one plot, the grids side by side.

    The same command again goes on where it stopped.
    """
    extractor = extractor_named(features, "--features")
    require((budget is None) != (images is None), "compare", (budget, images), "either --budget or --images")
    where = device_of(device)
    configs = _arms(arms)
    check_alike(configs)
    keep_freed_memory()
    if images is not None:
        lengths = dict.fromkeys(configs, parse_count(images, "--images"))
    else:
        lengths = _lengths(configs, parse_time(budget or "", "--budget"), out / "lengths.json", where)
    comparison = Comparison(
        folder=out, arms={name: _lasting(config, lengths[name]) for name, config in configs.items()}, seeds=seeds,
        number=number, extractor=extractor, points=points,
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    found = _run(comparison, console, where)
    _report(comparison, found, console)


def _arms(texts: list[str]) -> dict[str, RunConfig]:
    """Configs by their names, in which a path can be made of them."""
    configs: dict[str, RunConfig] = {}
    for text in texts:
        recipe, *settings = shlex.split(text) or [""]
        config = documents.load(recipe, settings)
        if config.name in configs:
            raise SnriseError(f"compare: two arms are called {config.name!r}; give one of them `name=…` in its quotes")
        configs[config.name] = config
    return configs


def _lasting(config: RunConfig, images: int) -> RunConfig:
    """The same for so many images."""
    return replace(config, training=replace(config.training, images=images))


def _lengths(configs: dict[str, RunConfig], seconds: float, file: Path, device: Any) -> dict[str, int]:
    """Images that fit in the time, by a measurement that is made once and then kept."""
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    for name, config in configs.items():
        if name not in known:
            pace = measure(Experiment.of(config, device=device), grids=False)
            known[name] = pace.images(seconds, config.training.batch)
            write_atomically(file, json.dumps(known).encode())
    return known


def _run(comparison: Comparison, console: Console, device: Any) -> list[Point]:
    """Train and judge every run, seed by seed, so that an early look shows every arm."""
    found: list[Point] = []
    with stop_signals() as stopped:
        for seed in range(comparison.seeds):
            for arm, config in comparison.arms.items():
                name = f"{arm}, seed {seed}"
                with watched(console, config.training.images, name=name) as watch:
                    for seen in (training := comparison.train(arm, seed, device)):
                        watch(seen)
                        if stopped:
                            training.close()
                            console.print("stopped and saved; the same command goes on")
                            raise typer.Exit(128 + stopped[0])
                with watched(console, comparison.number, name=f"{name}: judging", unit="pictures") as watch:
                    mine = list(comparison.judge(arm, seed, device, watch))
                found += mine
                metric = comparison.extractor.kernel_name
                console.print(f"{name}: {metric} {mine[-1].metrics[metric]:.4f}, {mine[-1].seconds:.0f} s")
    return found


def _report(comparison: Comparison, found: list[Point], console: Console) -> None:
    """The table, the plot and the grids."""
    kernel = comparison.extractor.kernel_name
    lines = {arm: curve(found, arm, kernel) for arm in comparison.arms}
    told = (kernel, comparison.extractor.frechet_name, "recall", "spectral distance")
    shown = Table("arm", "n", *(f"{name} ± spread" for name in told), "images", "seconds", box=None)
    rows = [{row.arm: row for row in table(found, name)} for name in told]
    for arm, row in rows[0].items():
        numbers = (_told(by_arm[arm]) for by_arm in rows)
        images, seconds = comparison.arms[arm].training.images, lines[arm][-1][0]
        shown.add_row(arm, str(row.n), *numbers, f"{images:,}", f"{seconds:.0f}")
    console.print(shown)
    document = [point._asdict() for point in found]
    write_atomically(comparison.folder / "comparison.json", (json.dumps(document, indent=1) + "\n").encode())
    title = f"{comparison.seeds} seeds, n = {comparison.number}"
    chart = plots.metric_against(lines, title=title, x="seconds of training", metric=kernel)
    plots.save(chart, comparison.folder / "comparison.png")
    grids = {f"{arm}, seed {seed}": sorted((comparison.run_folder(arm, seed) / "samples").glob("*.png"))[-1]
             for arm in comparison.arms for seed in range(comparison.seeds)}
    plots.save(plots.captioned(grids, columns=comparison.seeds), comparison.folder / "grids.png")
    console.print(f"written: {comparison.folder}/comparison.json, comparison.png, grids.png")


def _told(row: Row) -> str:
    return f"{row.mean:.4f}" + ("" if row.spread is None else f" ± {row.spread:.4f}")
