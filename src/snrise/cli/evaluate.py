"""`snrise evaluate`: the pictures of a run or a folder, judged against data."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from snrise import plots
from snrise._errors import SnriseError, require
from snrise._typing import Size
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import BATCH, BatchOption, FeaturesOption, at_a_time
from snrise.cli.progress import Watch, on_stderr, watched
from snrise.cli.sampling import at_resolution
from snrise.cli.together import joined
from snrise.data import Dataset, Emoji, ImageFolder, Preprocess
from snrise.evaluation import Fit, Judgement, Reference, fit, judge
from snrise.evaluation import likelihood as measured_likelihood
from snrise.evaluation.fitting import EVALUATIONS, STEPS
from snrise.evaluation.judging import unseen
from snrise.experiment import held_out as held_out_of
from snrise.files import write_atomically
from snrise.metrics import extractor_named
from snrise.models import beside
from snrise.parallel import World
from snrise.quantities import parse_size
from snrise.trained import Trained, is_run, load

__all__ = ["evaluate"]

BUILT_IN = "built-in"


def evaluate(
    what: Annotated[Path, typer.Argument(metavar="RUN|FILE|MODEL|DIR", help="What to sample from, or pictures.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="How to sample, such as sampling.steps=16.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="DIR|built-in", help="What to compare with; built-in are the emoji.",
                                 show_default="what the run was trained on")
    ] = None,
    features: FeaturesOption = "efficientnet-lite0",
    number: Annotated[int, typer.Option("-n", "--number", help="How many pictures, at most.", min=6)] = 5000,
    resolution: Annotated[
        str | None, typer.Option(help="Sample at this resolution, the run's schedule shifted to it; or resize a "
                                 "folder's pictures to it.", show_default="the run's, or the first picture's")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many images of the data, at most.", min=6)] = 50_000,
    validation: Annotated[
        str | None, typer.Option(metavar="DIR|built-in", help="Images that the run has not seen, to measure its loss "
                                 "and likelihood on.", show_default="those of data.hold_out")
    ] = None,
    held_out: Annotated[int, typer.Option(help="How many of them, at most.", min=2)] = 256,
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Also their exact likelihood by the probability flow: "
                           f"{EVALUATIONS * STEPS} gradients through the network an image.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The seed that a run's pictures are made of.", min=0)] = 0,
    batch: BatchOption = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the report.", show_default="WHAT-evaluation")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Judge pictures: kernel and Fréchet distance, precision, recall, density, coverage, spectrum, nearest images.

    Of a run also the loss by noise level and bits per dimension, on images that it has not seen. Writes metrics.json,
    spectrum.png and nearest.png. Features of data sets are cached.
    On several processes: torchrun --standalone --nproc-per-node 2 -m snrise evaluate.
    """
    extractor = extractor_named(features, "--features")
    with joined() as world:
        if is_run(what):
            trained = load(what, device=world.device(device_of(device))).with_sampling(settings or [])
            world.agree(str(what), {"weights": trained.fingerprint})
            made_at_once = at_a_time(batch, number, world)
            subject = _of_run(at_resolution(trained, resolution), number, seed, made_at_once, reference)
        else:
            for name, value in (("KEY=VALUE", settings), ("--validation", validation), ("--likelihood", likelihood)):
                require(not value, name, value, "nothing: this is a folder of pictures, and no run")
            allowed = "a folder of images, or built-in, to compare pictures with"
            require(reference is not None, "--reference", None, allowed)
            subject = _of_folder(what, number, resolution, reference or "")
        data = subject.data
        with _watched(world, "reference") as watch:
            compared = Reference.of(data, extractor, limit, watch=watch, world=world)
        with _watched(world, "samples", subject.total) as watch:
            judgement = judge(subject.made(watch=watch, world=world), compared, world=world)
        tell = world.quiet(typer.echo)
        tell(str(judgement))
        if subject.trained is not None:
            found = _fit(subject.trained, validation, held_out, likelihood, world)
            judgement = replace(judgement, fit=found)
        folder = out or _report(what)
        world.first(lambda: _write(folder, judgement, data, subject.about))
        tell(f"written: {folder}/metrics.json, spectrum.png, nearest.png")


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """Pictures to judge, how many, where they are from, and the data that they are compared with.

    `made(watch=…, world=…)` yields them in batches, dealt out to the processes, and calls `watch` with the number done.
    """

    made: Callable[..., Iterable[Tensor]]
    total: int
    about: dict[str, Any]
    data: Dataset
    trained: Trained | None = None


def _report(what: Path) -> Path:
    place = beside(what)
    return place.with_name(f"{place.stem}-evaluation")


def _of_run(trained: Trained, number: int, seed: int, batch: int, reference: str | None) -> _Subject:
    """Pictures of a run, beside other data, or those that it was trained on, at their size."""
    about = {"run": trained.config.name, "images_seen": trained.images_seen, "seed": seed}
    made = partial(trained.samples, number, seed=seed, batch=batch)
    data = trained.data() if reference is None else _dataset(reference, trained.generation().whole_size)
    return _Subject(made=made, total=number, about=about, data=data, trained=trained)


def _of_folder(folder: Path, number: int, resolution: str | None, reference: str) -> _Subject:
    """The pictures of a folder, beside other data."""
    source = ImageFolder(str(folder))
    width, height = source.read(0).size
    size = (height, width) if resolution is None else parse_size(resolution, "--resolution")
    if resolution is None:
        for i in range(len(source)):
            if source.read(i).size != (width, height):
                raise SnriseError(f"{source.name(i)}: not {height}x{width} as {source.name(0)}; give --resolution")
    pictures, count = Dataset(source, Preprocess(size)), min(number, len(source))
    made, data = partial(_read, pictures, count), _dataset(reference, size)
    return _Subject(made=made, total=count, about={"folder": str(folder)}, data=data)


def _read(pictures: Dataset, count: int, watch: Callable[[float], None], world: World) -> Iterator[Tensor]:
    for first, firsts in world.rounds(range(0, count, BATCH)):
        numbers = range(0) if first is None else range(first, min(first + BATCH, count))
        yield pictures.images(numbers) if numbers else torch.empty(0, 3, *pictures.size, dtype=torch.uint8)
        watch(min(firsts[-1] + BATCH, count))


def _fit(trained: Trained, validation: str | None, most: int, exact: bool, world: World) -> Fit | None:
    """Loss and likelihood on images that the run has not seen, printed; None without such images."""
    size = trained.config.data.resolution
    images = _dataset(validation, size) if validation else held_out_of(trained.config)
    tell = world.quiet(typer.echo)
    if images is None:
        tell("no unseen images to measure a loss on: train with data.hold_out=10, or give --validation DIR")
        return None
    number = min(most, len(images))
    with _watched(world, "unseen images", number) as watch:
        fitted = fit(trained, images, number, batch=world.batch(64, number), watch=watch, world=world)
    if exact:
        with _watched(world, f"likelihood, {EVALUATIONS * STEPS} gradients an image", number) as watch:
            flow = measured_likelihood(
                trained, images, number, batch=world.batch(16, number), watch=watch, world=world)
            fitted = fitted._replace(flow=flow)
    tell(unseen(fitted))
    return fitted


def _watched(world: World, name: str, total: int | None = None) -> AbstractContextManager[Watch]:
    return watched(on_stderr(world), total, name=name)


def _dataset(name: str, size: Size) -> Dataset:
    return Dataset(Emoji() if name == BUILT_IN else ImageFolder(name), Preprocess(size))


def _write(folder: Path, judgement: Judgement, data: Dataset, about: dict[str, Any]) -> None:
    document = about | {"size": list(data.size)} | judgement.as_json()
    write_atomically(folder / "metrics.json", (json.dumps(document, indent=2) + "\n").encode())
    title = about.get("run") or about["folder"]
    decibels = judgement.spectrum.decibels.tolist()
    plots.save(plots.octaves({title: decibels}, judgement.spectrum.names, title="Spectrum"), folder / "spectrum.png")
    near = torch.stack([data.images(row) for row in judgement.twins])
    plots.save(plots.twins(judgement.pictures, near, judgement.distances.tolist()), folder / "nearest.png")
