"""`snrise train`: settings to a run's folder, with a progress bar on the way."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from snrise import growing
from snrise._errors import require
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.progress import watched
from snrise.cli.stopping import stop_signals
from snrise.config import parse, to_yaml
from snrise.cpu import keep_freed_memory
from snrise.experiment import Experiment, dataset
from snrise.runs import Run, RunFolder
from snrise.runs.starting import cautions, document_for, introduction, paced, time_for

__all__ = ["train"]


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
    seconds = None if budget is None else time_for(budget, given)
    config = growing.with_measured_bands(parse(document_for(given, data, resolution, start, grow)))
    where, images = device_of(device), dataset(config)
    measured = seconds is not None or not dry_run
    experiment = Experiment.of(config, data=images, device=where if measured else "meta")
    for line in introduction(experiment, where):
        console.print(line)
    for line in cautions(experiment, where):
        console.print(line, style="yellow")
    folder = out or Path("runs") / config.name
    require(not folder.is_file(), "--out", str(folder), "a run's folder", "begin with a file's weights: --from FILE")
    keep_freed_memory()
    if measured:
        experiment = paced(experiment, RunFolder(folder), seconds, console.print)
    if dry_run:
        typer.echo(to_yaml(experiment.settings), nl=False)
        return
    with Run(experiment, folder, console.print) as run, stop_signals() as stopped:
        state = run.state
        with watched(console, experiment.images, done=state.images_seen, transient=False) as watch:
            for report in run:
                watch(report.images_seen, note=f"loss {report.loss:.4f}")
                if stopped:
                    break
        run.save()
        if images.skipped:
            console.print(f"{len(images.skipped)} images could not be read and were skipped: {run.folder.skipped}")
        if not stopped:
            console.print(f"done: {run.draw()}\nmore pictures: snrise sample {folder}")
    if stopped:
        console.print(f"stopped at {state.images_seen:,} images and saved; the same command goes on")
        raise typer.Exit(128 + stopped[0])
