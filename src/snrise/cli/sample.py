"""`snrise sample`: pictures from a run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from rich.progress import track
from torch import Tensor

from snrise import build, documents
from snrise._errors import require
from snrise.cli.devices import DeviceOption, device_of
from snrise.construct import construct
from snrise.plots import sample_grid
from snrise.samplers import Ancestral, Sampler, uniform_time
from snrise.schedules import Schedule
from snrise.training import Generation, draw_labels, generate

__all__ = ["sample"]


def sample(
    run: Annotated[Path, typer.Argument(help="A run's folder (its last checkpoint), or one checkpoint file.")],
    number: Annotated[int, typer.Option("-n", "--number", help="How many pictures.", min=1)] = 64,
    steps: Annotated[int | None, typer.Option(help="Network evaluations a picture.", show_default="the run's")] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same pictures, in any batch.", min=0, max=2**63 - 1)
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="A grid (….png) or a folder of single PNGs.", show_default="RUN/samples-SEED.png"),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only this class; may be given several times.", show_default="as in the data"),
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Classifier-free guidance; 1 is none.", show_default="the run's")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="From 0, DDIM, to 1, DDPM.", show_default="the run's")] = None,
    gamma: Annotated[
        float | None, typer.Option(help="From 0, the small variance, to 1, the large one.", show_default="the run's")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="YAML", show_default="the run's", help="Sample on another schedule than the model was "
                     "trained with, such as `{kind: cosine, logsnr_max: 10}`: its steps may ask for noise levels that "
                     "the model never saw."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures at a time.", min=1)] = 64,
    ema: Annotated[bool, typer.Option("--ema/--last", help="The averaged weights, or the last ones.")] = True,
    device: DeviceOption = "auto",
) -> None:
    """Sample from a run, on the schedule that it was trained with."""
    trained = build.open_run(run, ema=ema, device=device_of(device))
    for told in trained.broken:
        typer.secho(f"passed over a broken checkpoint: {told}", err=True, fg="yellow")
    target = out or (run if run.is_dir() else run.parent) / f"samples-{seed}.png"
    grid = target.suffix.lower() == ".png"
    require(grid or not target.suffix, "--out", str(target), "a grid (….png) or a folder")
    require(grid or not target.is_file(), "--out", str(target), "a grid (….png) or a folder; this is a file")
    how = build.generation(trained.config, steps=steps, guidance=guidance, sampler=_sampler(trained, eta, gamma))
    if schedule is not None:
        how = _on_schedule(how, schedule)
    labels = _labels(trained, classes, number, seed)
    parts = generate(trained.network, how, labels, number, seed=seed, batch=batch)
    batches = -(-number // batch)
    if grid:
        images = torch.cat(list(track(parts, "sampling", total=batches)))
        target.parent.mkdir(parents=True, exist_ok=True)
        sample_grid(images).save(target)
        typer.echo(f"{number} pictures in {target}")
        return
    target.mkdir(parents=True, exist_ok=True)
    written = 0
    for images in track(parts, "sampling", total=batches):
        for image in images:
            _png(image).save(target / f"{written:06d}.png")
            written += 1
    typer.echo(f"{written} pictures in {target}{'/'}")


def _sampler(trained: build.Trained, eta: float | None, gamma: float | None) -> Sampler | None:
    """The run's sampler with another eta or gamma, or None for the run's own."""
    if eta is None and gamma is None:
        return None
    own = trained.config.sampling.sampler
    base = own if isinstance(own, Ancestral) else Ancestral(eta=0.0)
    return Ancestral(eta=base.eta if eta is None else eta, gamma=base.gamma if gamma is None else gamma)


def _on_schedule(how: Generation, text: str) -> Generation:
    """The same steps on another schedule, with a warning of what that means."""
    base: Schedule = construct(Schedule, documents.value(text, "--schedule"), "--schedule")
    other = replace(how, logsnrs=uniform_time(base, len(how.logsnrs) - 1))
    own, new = (f"{float(h.logsnrs.min()):.1f} … {float(h.logsnrs.max()):.1f}" for h in (how, other))
    typer.secho(
        f"sampling on another schedule than the model was trained with: λ {new} instead of {own}; levels outside of "
        "those trained are guesses, and steps fall where training spent other shares of its time",
        err=True, fg="yellow",
    )
    return other


def _labels(trained: build.Trained, classes: list[str] | None, number: int, seed: int) -> Tensor | None:
    if classes:
        chosen = trained.labels_of(classes)
        return torch.tensor([chosen[i % len(chosen)] for i in range(number)])
    if trained.classes is None:
        return None
    require(trained.frequencies is not None, "checkpoint.frequencies", None, "the share of each class")
    return draw_labels(trained.frequencies or (), number, seed)


def _png(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())
