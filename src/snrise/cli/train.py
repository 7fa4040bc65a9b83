"""`snrise train`: settings to a run's folder, with a progress bar on the way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from snrise import build, documents
from snrise._errors import SnriseError, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import parse_size
from snrise.cli.stopping import stop_signals
from snrise.config import RunConfig, parse, to_yaml
from snrise.data import Dataset
from snrise.diagnostics import diagnose
from snrise.runs import Run, notes
from snrise.training import Report, TrainState
from snrise.training.logs import crosses
from snrise.training.memory import keep_freed_memory

__all__ = ["train"]


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml] [KEY=VALUE]...",
                       help="A recipe's name or a YAML file, then settings to change, such as training.batch=16."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder of images, or `emoji`.", show_default=False)] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default=False)
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Begin with the weights and settings of this run or built-in model, "
                                  "such as to go on at another --resolution: its schedule is shifted by the rule.",
                                  show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Fixes everything that is drawn at random.", show_default="the recipe's")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe; the same command again goes on where the run stopped.

    Recipes: emoji-32 (the default), emoji-64, emoji-128, emoji-256, folder. Ctrl-C saves, then stops; twice stops at
    once.
    """
    console = Console(stderr=dry_run, soft_wrap=True, highlight=False, markup=False)
    given = [*(arguments or []), *([] if seed is None else [f"seed={seed}"])]
    config = parse(_document(given, data, resolution, start))
    where = device_of(device)
    dataset = build.dataset(config)
    state = build.state(config, dataset.class_count, where)
    build.recipe(config)
    _introduce(console, config, dataset, state)
    if dry_run:
        typer.echo(to_yaml(config), nl=False)
        return
    folder = out or Path("runs") / config.name
    require(not folder.is_file(), "--out", str(folder), "a run's folder", "begin with a file's weights: --from FILE")
    keep_freed_memory()
    with Run(config, folder, dataset, state, console.print) as run, stop_signals() as stopped:
        with _progress(console, state, config) as advance:
            for report in run:
                advance(report)
                if stopped:
                    break
        run.save()
        if dataset.skipped:
            console.print(f"{len(dataset.skipped)} images could not be read and were skipped: {run.folder.skipped}")
        if not stopped:
            console.print(f"done: {run.draw()}\nmore pictures: snrise sample {folder}")
    if stopped:
        console.print(f"stopped at {state.images_seen:,} images and saved; the same command goes on")
        raise typer.Exit(128 + stopped[0])


def _document(arguments: list[str], data: str | None, resolution: str | None, start: Path | None) -> dict[str, Any]:
    """The plain settings that the command line asks for."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "train", names, "one recipe or config file, then key=value settings")
    if start is not None and not names:
        document = build.transferred(start)
    else:
        default = "folder" if data not in (None, "emoji") else documents.DEFAULT_RECIPE
        document = documents.read_document(names[0] if names else default)
        if start is not None:
            document["training"] = document.get("training", {}) | {"start": build.beginning(start)}
    section = document.setdefault("data", {})
    if not isinstance(section, dict):
        raise SnriseError("config.data: not settings; give each as `name: value`")
    if data == "emoji":
        section |= {"source": "emoji", "path": None}
    elif data is not None:
        if section.get("source", "emoji") == "emoji":
            section |= {"classes": None, "only": []}
        section |= {"source": "folder", "path": data}
    if resolution is not None:
        section["resolution"] = list(parse_size(resolution, "--resolution"))
    for assignment in arguments:
        if "=" in assignment:
            documents.override(document, assignment)
    documents.resolve(document)
    return document


def _introduce(console: Console, config: RunConfig, dataset: Dataset, state: TrainState) -> None:
    """A few lines on what is about to be trained, and what may be wrong with its data and schedule."""
    height, width = config.data.resolution
    parameters = sum(p.numel() for p in state.network.parameters())
    classes = dataset.source.classes
    kept = {"memory": "kept in memory", "disk": "kept on disk", "none": "decoded each time"}[dataset.cached]
    console.print(
        f"{config.name}: {len(dataset):,} images at {height}x{width} ({dataset.bytes / 1e6:,.1f} MB, {kept}), "
        f"{len(classes or ())} classes; {parameters / 1e6:.1f} M parameters; {config.training.images:,} images in "
        f"batches of {config.training.batch} on {state.device}",
    )
    found = diagnose(build.schedule(config), config.data.resolution, config.schedule.reference or (64, 64))
    for told in (*(f"schedule: {problem}" for problem in found.problems), *(f"data: {n}" for n in notes(dataset))):
        console.print(told, style="yellow")


@contextmanager
def _progress(console: Console, state: TrainState, config: RunConfig) -> Iterator[Callable[[Report], None]]:
    """A progress bar over images: share, loss, images/s, time left; without a terminal, a line at each interval."""
    columns = (
        BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,.0f} images"), TextColumn("{task.description}"),
        TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )
    total, every = config.training.images, config.log.every
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, completed=state.images_seen, rate="")

        def advance(report: Report) -> None:
            progress.update(task, completed=report.images_seen, description=f"loss {report.loss:.4f}")
            speed = progress.tasks[0].speed
            rate = "" if speed is None else f"{speed:.0f} images/s"
            progress.update(task, rate=rate)
            if not console.is_terminal and crosses(report.images_seen - report.batch, report.images_seen, every):
                console.print(f"{report.images_seen:,} of {total:,} images, loss {report.loss:.4f}, {rate}")

        yield advance
