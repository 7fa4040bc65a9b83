"""`snrise train`: from settings to a run's folder, with a progress bar."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import DataOption, DryRunOption, OutOption, ResolutionOption, SeedOption
from snrise.cli.progress import watched
from snrise.cli.stopping import stop_signals
from snrise.config import to_yaml
from snrise.cpu import keep_freed_memory
from snrise.experiment import Experiment
from snrise.parallel import World, restarts
from snrise.runs import Run, RunFolder
from snrise.runs.starting import paced, prepare, time_for, train_until
from snrise.training import Report

__all__ = ["train"]


def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml] [KEY=VALUE]...",
                       help="A recipe's name or a YAML file, then settings to change, such as training.batch=16."),
    ] = None,
    data: DataOption = None,
    resolution: ResolutionOption = None,
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
    seed: SeedOption = None,
    budget: Annotated[
        str | None, typer.Option(help="How long to train, such as 90s, 10m or 2h: a short measurement says how many "
                                 "images that is. A run that goes on keeps its length.",
                                 show_default="the recipe's training.images")
    ] = None,
    out: OutOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe; the same command again goes on where the run stopped.

    Recipes: emoji-32 (the default); emoji-64, emoji-128 and emoji-256, each of which grows from the one before;
    emoji-64-stem, emoji-128-stem and emoji-256-stem; folder. Ctrl-C saves, then stops; twice stops at once.
    On several processes: torchrun --standalone --nproc-per-node 2 -m snrise train.
    """
    world = World.from_environment()
    console = Console(stderr=dry_run, soft_wrap=True, highlight=False, markup=False, quiet=not world.leads)
    given = [*(arguments or []), *([] if seed is None else [f"seed={seed}"])]
    seconds = None if budget is None else time_for(budget, given)
    measured = seconds is not None or not dry_run
    introduce = world.quiet(console.print) if not restarts() else lambda line: None
    experiment, folder = prepare(
        given, data, resolution, start, grow, out=out, device=world.device(device_of(device)), weights=measured,
        tell=introduce, warn=lambda line: console.print(line, style="yellow"), world=world,
    )
    keep_freed_memory()
    if measured:
        experiment = paced(experiment, folder, seconds, introduce, world)
    if dry_run:
        if world.leads:
            typer.echo(to_yaml(experiment.settings), nl=False)
        return
    _run(experiment, folder, console, world)


def _run(experiment: Experiment, folder: RunFolder, console: Console, world: World) -> None:
    """Train with a progress bar, to the end or until a signal."""
    with Run(experiment, folder.path, console.print, world=world) as run, stop_signals() as stopped:
        with watched(console, experiment.images, done=run.state.images_seen, transient=False) as watch:

            def stop(report: Report) -> bool:
                watch(report.images_seen, note=f"loss {report.loss:.4f}")
                return bool(stopped)

            train_until(run, stop)
        received = world.largest(stopped[0] if stopped else 0)
        if run.data.skipped:
            console.print(f"{len(run.data.skipped)} images could not be read and were skipped: {folder.skipped}")
        if not received:
            console.print(f"done: {run.draw()}\nmore pictures: snrise sample {folder.path}")
    if received:
        console.print(f"stopped at {run.state.images_seen:,} images and saved; the same command goes on")
        raise typer.Exit(128 + received)
