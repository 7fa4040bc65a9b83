"""`snrise sample`: pictures from a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from snrise import plots
from snrise._errors import require, unknown
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import BatchOption, at_a_time
from snrise.cli.progress import on_stderr, watched
from snrise.cli.sampling import at_resolution, interval_of, on_schedule
from snrise.cli.stopping import stop_signals
from snrise.cli.together import joined, refuse_several
from snrise.cpu import keep_freed_memory
from snrise.files import write_atomically
from snrise.generation import State
from snrise.models import beside
from snrise.parallel import World
from snrise.plots.pictures import ANIMATIONS, animated, frames, grid_size, strip
from snrise.runs.gallery import Gallery, as_png
from snrise.runs.sampling import Clip, check_guidance, with_options
from snrise.samplers import GRIDS, SAMPLERS
from snrise.trained import Trained, load

__all__ = ["sample"]

#: Columns of a strip and frames of an animation, at most.
COLUMNS, FRAMES = 10, 80
#: Pictures whose states are shown, at most.
SHOWN = 16
#: Groups of options.
WHAT, HOW, GUIDE = "What to make", "How, if other than the run says", "Guidance, if other than the run says"


def sample(
    run: Annotated[
        Path, typer.Argument(help="A run's folder (its last checkpoint), one checkpoint, exported weights, the name of "
                             "a built-in model, or hub:USER/NAME[@REVISION].")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Any setting of sampling, such as sampling.steps=16."),
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", "--number", help="How many pictures.", min=1, max=10_000_000,
                                 show_default="64; 4 with --states", rich_help_panel=WHAT)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A grid (….png), or a folder of single PNGs; in a folder, what an interrupted "
                                  "command has left is made.", show_default="RUN/samples-SEED.png",
                                  rich_help_panel=WHAT)
    ] = None,
    states: Annotated[
        Path | None, typer.Option(help="Instead, show how the pictures come about: a strip (….png) or an animation "
                                  "(….gif, ….webp).", show_default=False, rich_help_panel=WHAT)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same pictures, in any batch.", min=0, max=2**63 - 1,
                          rich_help_panel=WHAT)
    ] = 0,
    first: Annotated[
        int, typer.Option(help="The number of the first picture.", min=0, max=10_000_000, rich_help_panel=WHAT)
    ] = 0,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class; may be given several times.",
                                       show_default="as in the data", rich_help_panel=WHAT)
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH, if other than trained at; the schedule is "
                                 "shifted to it. For much larger pictures see --upsample.", rich_help_panel=WHAT)
    ] = None,
    upsample: Annotated[
        int | None, typer.Option(help="So many times as large as trained at; what the trained size shows leads.",
                                 rich_help_panel=WHAT)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps from noise to picture; heun asks the network twice in each.",
                                 rich_help_panel=HOW)
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(SAMPLERS)}.", rich_help_panel=HOW)
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="Noise in a step, from 0, DDIM, to 1, DDPM; of ancestral and dpm_solver_pp.",
                                   rich_help_panel=HOW)
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(help="From 0, the small variance, to 1, the large one; of ancestral.",
                                   rich_help_panel=HOW)
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help=f"Where it stops on its way, one of {', '.join(GRIDS)}.", rich_help_panel=HOW)
    ] = None,
    clip: Annotated[
        Clip | None, typer.Option(help="Whether what is seen in the noise is held within the range of images: cut off, "
                                  "or scaled by its image's own 99.5th percentile.", rich_help_panel=HOW)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="YAML", help="Another schedule than the model was trained with, such as "
                                 "`{kind: cosine, logsnr_max: 10}`: its steps may ask for noise levels that the model "
                                 "never saw.", rich_help_panel=HOW)
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Its scale; 1 is none. Away from the network without classes, or from --weak.",
                                   rich_help_panel=GUIDE)
    ] = None,
    guidance_interval: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Guide only where λ is between these.",
                                 rich_help_panel=GUIDE)
    ] = None,
    rescale: Annotated[
        float | None, typer.Option(help="How far the contrast that guidance adds is taken back, 0 to 1.",
                                   rich_help_panel=GUIDE)
    ] = None,
    weak: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Guide away from this weaker run or earlier checkpoint "
                                  "(autoguidance).", rich_help_panel=GUIDE)
    ] = None,
    ema: Annotated[bool, typer.Option("--ema/--last", help="The averaged weights, or the last ones.")] = True,
    batch: BatchOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Sample from a run, on the schedule that it was trained with.

    Every PNG says how it was made: `snrise show PICTURE.png`.
    On several processes: torchrun --standalone --nproc-per-node 2 -m snrise sample.
    """
    place, number = _place(run, out, states, seed), number or (4 if states else 64)
    if states is not None:
        refuse_several("snrise sample --states")
    changes = {
        "steps": steps, "grid": grid, "guidance": guidance, "guidance_interval": interval_of(guidance_interval),
        "rescale": rescale, "upsample": upsample,
    }
    with joined() as world:
        where, warn = world.device(device_of(device)), world.quiet(_warn)
        trained, other = _open(run, ema, where, warn), None if weak is None else _open(weak, ema, where, warn)
        trained = trained.with_sampling(settings or [])
        trained = with_options(trained, changes, sampler, {"eta": eta, "gamma": gamma}, clip)
        trained = on_schedule(at_resolution(trained, resolution), schedule, warn)
        gallery = Gallery(trained=trained, seed=seed, classes=tuple(classes or ()), weak=other)
        check_guidance(gallery, given=guidance is not None or weak is not None)
        numbers = range(first, first + number)
        gallery.labels(numbers[:1])
        world.agree(str(run), gallery.identities())
        keep_freed_memory()
        batch = at_a_time(batch, number, world)
        if states is not None:
            _write_states(gallery, numbers, place)
        elif place.suffix:
            _write_grid(gallery, numbers, place, batch, world)
        else:
            _fill(gallery, numbers, place, batch, world)


def _open(run: Path, ema: bool, device: torch.device, warn: Callable[[str], None]) -> Trained:
    trained = load(run, ema=ema, device=device)
    for problem in trained.broken:
        warn(f"passed over a broken checkpoint: {problem}")
    return trained


def _place(run: Path, out: Path | None, states: Path | None, seed: int) -> Path:
    """Where the pictures go; a folder has no suffix."""
    if states is not None:
        require(out is None, "--out", str(out), "either --out or --states")
        if states.suffix.lower() not in (".png", *ANIMATIONS):
            raise unknown("--states", states.suffix, (".png", *ANIMATIONS), "picture format")
        return states
    place = out or (run if run.is_dir() else beside(run).parent) / f"samples-{seed}.png"
    grid = place.suffix.lower() == ".png"
    require(grid or not place.suffix, "--out", str(place), "a grid (….png) or a folder")
    require(grid or not place.is_file(), "--out", str(place), "a grid (….png) or a folder; this is a file")
    return place


def _fill(gallery: Gallery, numbers: range, folder: Path, batch: int, world: World) -> None:
    """Single pictures in a folder; a signal to any process stops all after the current batch."""
    existing, received, tell = None, 0, world.quiet(typer.echo)
    with stop_signals() as stopped, watched(on_stderr(world), len(numbers)) as watch:
        for done in gallery.fill(folder, numbers, batch, watch, world):
            if existing is None:
                existing = watch.begun = done
            watch(done)
            received = world.largest(stopped[0] if stopped else 0)
            if received and done < len(numbers):
                break
    there = f", {existing} of them from before" if existing else ""
    if done < len(numbers):
        tell(f"stopped: {done} of {len(numbers)} pictures in {folder}/{there}; the same command goes on")
        raise typer.Exit(128 + received)
    tell(f"{done} pictures in {folder}/{there}")


def _write_grid(gallery: Gallery, numbers: range, path: Path, batch: int, world: World) -> None:
    _check_pixels(*grid_size(len(numbers), gallery.generation.whole_size), "a folder of single pictures: --out DIR")
    with watched(on_stderr(world), len(numbers)) as watch:
        images = torch.cat(list(gallery.draw(numbers, batch, watch, world)))
    origin = {"numbers": [numbers.start, numbers.stop - 1]} | gallery.origin()
    world.first(lambda: write_atomically(path, as_png(plots.sample_grid(images), origin)))
    world.quiet(typer.echo)(f"{len(numbers)} pictures in {path}")


def _write_states(gallery: Gallery, numbers: range, path: Path) -> None:
    """A strip or an animation of evenly spaced states, including the last."""
    require(len(numbers) <= SHOWN, "--number", len(numbers), f"up to {SHOWN} with --states")
    steps, suffix = len(gallery.generation.logsnrs) - 1, path.suffix.lower()
    shown = min(steps + 1, FRAMES if suffix in ANIMATIONS else COLUMNS)
    height, width = gallery.generation.whole_size
    _check_pixels(2 * len(numbers) * height, COLUMNS * width, "fewer: -n 1")
    chosen = {round(i * steps / (shown - 1)) for i in range(shown)}
    kept: list[State] = []
    with watched(on_stderr(), steps + 1, unit="steps") as watch:
        for i, state in enumerate(gallery.states(numbers)):
            if i in chosen:
                kept.append(state)
            watch(i + 1)
    if suffix in ANIMATIONS:
        write_atomically(path, animated(frames(kept), suffix))
    else:
        shared = {"states": len(kept), "numbers": [numbers.start, numbers.stop - 1]}
        write_atomically(path, as_png(strip(kept), shared | gallery.origin()))
    typer.echo(f"{shown} of {steps + 1} states of {len(numbers)} pictures in {path}")


def _check_pixels(width: int, height: int, fix: str) -> None:
    """Raise for a picture too large for programs to open."""
    most = Image.MAX_IMAGE_PIXELS or 0
    require(width * height <= most, "--number", f"a picture of {width}x{height}", f"up to {most:,} pixels", fix)


def _warn(text: str) -> None:
    typer.secho(text, err=True, fg="yellow")
