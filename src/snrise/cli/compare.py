"""`snrise compare`: configs trained with the same budget and judged alike."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from snrise import documents, plots
from snrise._errors import SnriseError, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import FeaturesOption, MetricOption, metric_named
from snrise.cli.progress import watched
from snrise.cli.stopping import stop_signals
from snrise.codecs import Autoencoder
from snrise.config import RunConfig
from snrise.cpu import keep_freed_memory
from snrise.encoding import encoded, with_measured_codes
from snrise.experiment import Experiment
from snrise.files import write_atomically
from snrise.metrics import Better, extractor_named
from snrise.quantities import parse_count, parse_time
from snrise.runs import measure
from snrise.runs.comparison import Comparison, Point, Row, check_alike, curve, table

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
    features: FeaturesOption = "efficientnet-lite0",
    metric: MetricOption = None,
    out: Annotated[Path, typer.Option(help="The folder of the comparison.")] = Path("runs/comparison"),
    device: DeviceOption = "auto",
) -> None:
    """Train each arm on the same budget, judge all the same way: one table, one plot, the grids side by side.

    The time of an arm on codes begins with the training of its codec. Pictures a second are those that it samples.
    The same command again resumes where it stopped.
    """
    extractor = extractor_named(features, "--features")
    ranked, better = metric_named(metric, extractor)
    require((budget is None) != (images is None), "compare", (budget, images), "either --budget or --images")
    where = device_of(device)
    configs = {name: with_measured_codes(config, where) for name, config in _arms(arms).items()}
    check_alike(configs)
    keep_freed_memory()
    before = {name: seconds for name, config in configs.items() if (seconds := _of_codec(config)) is not None}
    if images is not None:
        lengths = dict.fromkeys(configs, parse_count(images, "--images"))
    else:
        lengths = _lengths(configs, parse_time(budget or "", "--budget"), before, out / "lengths.json", where)
    lasting = {name: replace(config, training=replace(config.training, images=lengths[name]))
               for name, config in configs.items()}
    comparison = Comparison(
        folder=out, arms=lasting, seeds=seeds, number=number, extractor=extractor, points=points,
        before=before,
    )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    results = _run(comparison, ranked, console, where)
    _report(comparison, results, ranked, better, console)


def _arms(texts: list[str]) -> dict[str, RunConfig]:
    """Configs by their names, each of them different."""
    configs: dict[str, RunConfig] = {}
    for text in texts:
        recipe, *settings = shlex.split(text) or [""]
        config = documents.load(recipe, settings)
        if config.name in configs:
            raise SnriseError(f"compare: two arms are called {config.name!r}; give one of them `name=…` in its quotes")
        configs[config.name] = config
    return configs


def _of_codec(config: RunConfig) -> float | None:
    """The seconds that the codec of an arm was trained, where it is an autoencoder that tells them."""
    return config.codec.training_seconds if isinstance(config.codec, Autoencoder) else None


def _lengths(
    configs: dict[str, RunConfig], seconds: float, before: Mapping[str, float], file: Path, device: Any
) -> dict[str, int]:
    """Images that each arm can train on in the time that its codec has left, measured once and cached in a file."""
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    for name, config in configs.items():
        if name not in known:
            left, fix = seconds - before.get(name, 0.0), "give more than that to --budget"
            require(left > 0, f"compare: {name}", f"a codec trained for {before.get(name, 0):.0f} s", "less time", fix)
            pace = measure(encoded(Experiment.of(config, device=device)), grids=False)
            known[name] = pace.images(left, config.training.batch)
            write_atomically(file, json.dumps(known).encode())
    return known


def _run(comparison: Comparison, ranked: str, console: Console, device: Any) -> list[Point]:
    """Train and judge every run, seed by seed, so that an early look shows every arm."""
    results: list[Point] = []
    with stop_signals() as stopped:
        for seed in range(comparison.seeds):
            for arm in comparison.arms:
                name = f"{arm}, seed {seed}"
                with watched(console, comparison.images(arm), name=name) as watch:
                    for seen in (training := comparison.train(arm, seed, device)):
                        watch(seen)
                        if stopped:
                            training.close()
                            console.print("stopped and saved; the same command goes on")
                            raise typer.Exit(128 + stopped[0])
                with watched(console, comparison.number, name=f"{name}: judging", unit="pictures") as watch:
                    points = list(comparison.judge(arm, seed, device, watch))
                results += points
                console.print(f"{name}: {ranked} {points[-1].metrics[ranked]:.4f}, {points[-1].seconds:.0f} s")
    return results


def _report(comparison: Comparison, results: list[Point], ranked: str, better: Better, console: Console) -> None:
    """The table, the chart and the grids."""
    lines = {arm: curve(results, arm, ranked) for arm in comparison.arms}
    console.print(_table(comparison, results, ranked, better, {arm: line[-1][0] for arm, line in lines.items()}))
    document = [point._asdict() for point in results]
    write_atomically(comparison.folder / "comparison.json", (json.dumps(document, indent=1) + "\n").encode())
    title = f"{comparison.seeds} seeds, n = {comparison.number}"
    chart = plots.metric_against(lines, title=title, x="seconds of training", metric=ranked, better=better)
    plots.save(chart, comparison.folder / "comparison.png")
    grids = {f"{arm}, seed {seed}": sorted((comparison.run_folder(arm, seed) / "samples").glob("*.png"))[-1]
             for arm in comparison.arms for seed in range(comparison.seeds)}
    plots.save(plots.captioned(grids, columns=comparison.seeds), comparison.folder / "grids.png")
    console.print(f"written: {comparison.folder}/comparison.json, comparison.png, grids.png")


def _table(
    comparison: Comparison, results: list[Point], ranked: str, better: Better, seconds: Mapping[str, float]
) -> Table:
    """A row an arm, the best first; `seconds` is how long an arm trained."""
    extractor = comparison.extractor
    shown = dict.fromkeys((ranked, extractor.kernel_name, extractor.frechet_name, "recall", "spectral distance"))
    columns = [{row.arm: row for row in table(results, name, better)} for name in shown]
    names = (*(f"{name} ± spread" for name in shown), "images", "seconds", "of its codec", "pictures/s")
    drawn = Table("arm", "n", *names, box=None)
    for arm, row in columns[0].items():
        numbers = (_text(column[arm]) for column in columns)
        told = [point.pictures_per_second for point in results if point.arm == arm]
        rates = [rate for rate in told if rate is not None]
        before, speed = comparison.before.get(arm, 0.0), f"{median(rates):.1f}" if rates else ""
        times = f"{seconds[arm]:.0f}", f"{before:.0f}" if before else "", speed
        drawn.add_row(arm, str(row.n), *numbers, f"{comparison.images(arm):,}", *times)
    return drawn


def _text(row: Row) -> str:
    return f"{row.mean:.4f}" + ("" if row.spread is None else f" ± {row.spread:.4f}")
