"""`snrise train-codec`: an autoencoder for latent diffusion, from settings to a run's folder, with a progress bar."""

from typing import Annotated

import typer
from rich.console import Console

from snrise.autoencoding import CodecReport, CodecRun
from snrise.autoencoding.starting import introduction, objective, paced, prepare
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import DataOption, DryRunOption, OutOption, ResolutionOption, SeedOption
from snrise.cli.progress import watched
from snrise.cli.stopping import stop_signals
from snrise.config import to_yaml
from snrise.cpu import keep_freed_memory
from snrise.runs.starting import time_for

__all__ = ["train_codec"]


def train_codec(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml] [KEY=VALUE]...",
                       help="emoji-f8 (the default), emoji-f4, folder-f8, or a YAML file; then settings to change, "
                       "such as autoencoder.kind=vq or training.batch=8."),
    ] = None,
    data: DataOption = None,
    resolution: ResolutionOption = None,
    seed: SeedOption = None,
    budget: Annotated[
        str | None, typer.Option(help="How long to train, such as 90s, 10m or 2h. A run that goes on keeps its length.",
                                 show_default="the recipe's training.images")
    ] = None,
    out: OutOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Train an autoencoder, whose codes `snrise train codec=FOLDER` diffuses; the same command again goes on.

    It has the networks of diffusers and the objective of latent diffusion: absolute and perceptual differences,
    regularised codes, and after half of the run a critic of patches. Ctrl-C saves, then stops; twice stops at once.
    """
    console = Console(stderr=dry_run, soft_wrap=True, highlight=False, markup=False)
    given = [*(arguments or []), *([] if seed is None else [f"seed={seed}"])]
    seconds, where = None if budget is None else time_for(budget, given), device_of(device)
    config, folder = prepare(given, data, resolution, out)
    console.print(introduction(config, where))
    keep_freed_memory()
    if seconds is not None or not dry_run:
        config = paced(config, folder, seconds, where, console.print)
    console.print(objective(config))
    if dry_run:
        typer.echo(to_yaml(config), nl=False)
        return
    with CodecRun(config, folder.path, console.print, where) as run, stop_signals() as stopped:
        with watched(console, config.training.images, done=run.state.images_seen, transient=False) as watch:

            def stop(report: CodecReport) -> bool:
                watch(report.images_seen, note=f"l1 {report.parts['l1']:.4f}")
                return bool(stopped)

            any(stop(report) for report in run)
        run.save()
        if run.data.skipped:
            console.print(f"{len(run.data.skipped)} images could not be read and were skipped")
        if not stopped:
            console.print(f"done: {run.draw()}\njudge it: snrise evaluate-codec {folder.path}")
    if stopped:
        console.print(f"stopped at {run.state.images_seen:,} images and saved; the same command goes on")
        raise typer.Exit(128 + stopped[0])
