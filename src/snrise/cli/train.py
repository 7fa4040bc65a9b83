"""`snrise train`: settings to a run's folder, with a progress bar on the way."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from snrise import build, documents, growing
from snrise._errors import SnriseError, require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import parse_size, parse_time
from snrise.cli.progress import duration, speed, watched
from snrise.cli.stopping import stop_signals
from snrise.config import RunConfig, parse, to_yaml
from snrise.data import Dataset
from snrise.diagnostics import diagnose
from snrise.runs import Run, RunFolder, measure, notes, saved_config
from snrise.training import Precision
from snrise.training.memory import keep_freed_memory
from snrise.training.precision import bf16_is_native, resolved

__all__ = ["train"]

#: Runs of fewer steps are not measured before they start.
FEW = 80
#: A run that takes more seconds is told how it could be shorter.
LONG = 600


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml] [KEY=VALUE]...",
                       help="A recipe's name or a YAML file, then settings to change, such as training.batch=16."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A folder of images, WebDataset shards (such as 'train-*.tar'), or "
                                      "`emoji`.", show_default=False)] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default=False)
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Begin with the weights and settings of this run or built-in model, "
                                  "such as to go on at another --resolution: its schedule is shifted by the rule.",
                                  show_default=False)
    ] = None,
    grow: Annotated[
        int | None, typer.Option(help="With --from: 2 for twice the side. Its network stays, unchanged, the exact "
                                 "coarse half of a new one, of which a level for what is finer is trained.",
                                 show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Fixes everything that is drawn at random.", show_default="the recipe's")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="How long to train, such as 90s, 10m or 2h: a short measurement says how many "
                                 "images that is. A run that goes on keeps its length.",
                                 show_default="the recipe's training.images")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe; the same command again goes on where the run stopped.

    Recipes: emoji-32 (the default); emoji-64, emoji-128 and emoji-256, each of which grows from the one before;
    emoji-64-stem, emoji-128-stem and emoji-256-stem; folder. Ctrl-C saves, then stops; twice stops at once.
    """
    console = Console(stderr=dry_run, soft_wrap=True, highlight=False, markup=False)
    given = [*(arguments or []), *([] if seed is None else [f"seed={seed}"])]
    seconds = None if budget is None else _seconds(budget, given)
    config = growing.with_measured_bands(parse(_document(given, data, resolution, start, grow)))
    where = device_of(device)
    dataset = build.dataset(config)
    build.recipe(config)
    _introduce(console, config, dataset, where)
    folder = out or Path("runs") / config.name
    require(not folder.is_file(), "--out", str(folder), "a run's folder", "begin with a file's weights: --from FILE")
    keep_freed_memory()
    if seconds is not None or not dry_run:
        config = _paced(console, config, RunFolder(folder), dataset, where, seconds)
    if dry_run:
        typer.echo(to_yaml(config), nl=False)
        return
    state = build.state(config, dataset.class_count, where)
    with Run(config, folder, dataset, state, console.print) as run, stop_signals() as stopped:
        with watched(console, config.training.images, done=state.images_seen, transient=False) as watch:
            for report in run:
                watch(report.images_seen, note=f"loss {report.loss:.4f}")
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


def _document(
    arguments: list[str], data: str | None, resolution: str | None, start: Path | None, grow: int | None
) -> dict[str, Any]:
    """The plain settings that the command line asks for."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "train", names, "one recipe or config file, then key=value settings")
    require(grow is None or (start is not None and not names), "--grow", grow, "with --from, and no recipe beside it")
    if start is not None and grow is not None:
        document = growing.grown(start, grow)
    elif start is not None and not names:
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
        section |= {"source": "shards" if data.endswith(".tar") else "folder", "path": data}
    if resolution is not None:
        section["resolution"] = list(parse_size(resolution, "--resolution"))
    for assignment in arguments:
        if "=" in assignment:
            documents.override(document, assignment)
    documents.resolve(document)
    return document


def _seconds(budget: str, settings: list[str]) -> float:
    """The time that a run shall take; its length follows, and is not to be given as well."""
    given = next((setting for setting in settings if setting.startswith("training.images=")), None)
    require(given is None, "train", ["--budget", given], "--budget or training.images, not both")
    return parse_time(budget, "--budget")


def _paced(
    console: Console, config: RunConfig, folder: RunFolder, dataset: Dataset, device: torch.device,
    budget: float | None,
) -> RunConfig:
    """The settings with the length that a budget means, and a line on how long they will take.

    A run that is there keeps its length. One of so few steps that a measurement would take as long is not measured.
    """
    how, known, seen = config.training, saved_config(folder), folder.images_seen
    if budget is not None and known is not None:
        how, budget = replace(how, images=known.training.images, warmup=known.training.warmup), None
    if budget is None and how.images - seen < FEW * how.batch:
        console.print(f"{how.images:,} images")
        return replace(config, training=how)
    pace = measure(config, dataset, device)
    if budget is not None:
        images = pace.images(budget, how.batch)
        how = replace(how, images=images, warmup=min(how.warmup, images // 10))
    seconds = pace.seconds(how.images - seen)
    left = f"{how.images:,} images" if not seen else f"{how.images - seen:,} of {how.images:,} images left"
    shorter = "; for a shorter run: --budget 10m" if known is None and budget is None and seconds > LONG else ""
    console.print(f"{left}: about {duration(seconds)} on this machine ({speed(pace.images_per_second)}){shorter}")
    return replace(config, training=how)


def _introduce(console: Console, config: RunConfig, dataset: Dataset, device: torch.device) -> None:
    """A few lines on what is about to be trained, and what may be wrong with its data, schedule and precision."""
    height, width = config.data.resolution
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build.network(config, dataset.class_count).parameters())
    classes, wanted = dataset.source.classes, config.training.precision
    kept = {
        "memory": "kept in memory", "disk": f"kept on disk, in {dataset.home}; data.cache=none keeps nothing",
        "none": "decoded each time",
    }[dataset.cached]
    console.print(
        f"{config.name}: {len(dataset):,} images at {height}x{width} ({dataset.bytes / 1e6:,.1f} MB, {kept}), "
        f"{len(classes or ())} classes; {parameters / 1e6:.1f} M parameters; batches of {config.training.batch} on "
        f"{device} in {resolved(device, wanted)}",
    )
    if wanted is Precision.BF16 and not bf16_is_native(device):
        console.print(f"precision: bf16 is emulated on {device}, many times slower; training.precision=auto is not",
                      style="yellow")
    found = diagnose(build.schedule(config), config.data.resolution, config.schedule.reference or (64, 64))
    for told in (*(f"schedule: {problem}" for problem in found.problems), *(f"data: {n}" for n in notes(dataset))):
        console.print(told, style="yellow")
