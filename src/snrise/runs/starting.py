"""From a recipe's name, data, a resolution and a time budget to a finished run."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from snrise import documents, growing
from snrise._errors import SnriseError, require
from snrise._typing import Size
from snrise.codecs import Autoencoder
from snrise.config import parse
from snrise.data import Dataset
from snrise.diagnostics import diagnose
from snrise.encoding import encoded, with_measured_codes
from snrise.experiment import Experiment
from snrise.parallel import ALONE, World
from snrise.precision import Precision, bf16_is_native, resolved
from snrise.quantities import duration, parse_size, parse_time, speed
from snrise.runs.folder import RunFolder, saved_config
from snrise.runs.notes import notes
from snrise.runs.pace import measure
from snrise.runs.run import Run
from snrise.trained import Trained, beginning, load, transferred
from snrise.training import Report

__all__ = ["paced", "prepare", "time_for", "train", "train_until", "with_data"]

#: Runs of fewer steps are not measured before they start.
FEW = 80
#: For a run that takes more seconds, the way to a shorter one is named.
LONG = 600


def train(
    data: str | Path | None = None, *settings: str, recipe: str | None = None,
    resolution: int | str | Size | None = None,
    start: str | Path | None = None, grow: int | None = None, budget: str | None = None,
    out: str | Path | None = None, device: torch.device | str | None = None, tell: Callable[[str], None] = print,
) -> Trained:
    """Train a recipe to its end, or resume it: what `snrise train` does. Returns the averaged network.

    Args:
        data: a folder of images, WebDataset shards, or "emoji"; None for the recipe's.
        settings: `key=value`, such as "training.batch=16".
        recipe: its name, or a YAML file; by default "emoji-32", or "folder" for data of one's own.
        resolution: a side in pixels, "HEIGHTxWIDTH" or (height, width).
        start: a run or built-in model to initialise from, with its settings.
        grow: with `start`, 2 for twice its side.
        budget: how long to train, such as "10m".
        out: the run's folder; by default "runs/NAME".
        device: where to train; by default on a GPU if there is one, of several processes each on its own.
        tell: called with one line at a time about the progress of the run.

    Raises:
        SnriseError: if any of these is invalid, before anything is computed.
    """
    given = [*([] if recipe is None else [recipe]), *settings]
    seconds = None if budget is None else time_for(budget, given)
    size = None if resolution is None else str(resolution)
    if isinstance(resolution, tuple):
        size = "x".join(map(str, resolution))
    source, initial = None if data is None else str(data), None if start is None else Path(start)
    world = World.from_environment()
    tell = world.quiet(tell)
    where = world.device(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    experiment, folder = prepare(
        given, source, size, initial, grow, out=out, device=where, tell=tell, warn=tell, world=world
    )
    with Run(paced(experiment, folder, seconds, tell, world), folder.path, tell, world=world) as run:
        train_until(run)
        tell(f"done: {run.draw()}")
    return load(folder.path, device=where)


def prepare(
    arguments: Sequence[str], data: str | None, resolution: str | None, start: Path | None, grow: int | None, *,
    out: str | Path | None, device: torch.device, tell: Callable[[str], None], warn: Callable[[str], None],
    weights: bool = True, world: World = ALONE,
) -> tuple[Experiment, RunFolder]:
    """The experiment of these options of `snrise train`, and its run's folder, with a line on each and warnings.

    Without `weights`, the network is on the meta device, and nothing is encoded.
    """
    config = parse(_document(arguments, data, resolution, start, grow))
    folder = RunFolder(Path(out or Path("runs") / config.name))
    fix = "begin with a file's weights: --from FILE"
    require(not folder.path.is_file(), "--out", str(folder.path), "a run's folder", fix)
    config = growing.with_measured_bands(with_measured_codes(config, device, saved_config(folder), world))
    experiment = Experiment.of(config, device=device if weights else "meta")
    for line in _introduction(experiment, device):
        tell(line)
    for line in _warnings(experiment, device):
        warn(line)
    return (encoded(experiment, tell=tell, world=world) if weights else experiment), folder


def train_until(run: Run, stop: Callable[[Report], bool] = lambda report: False) -> bool:
    """Train a run to its end, or until `stop` is true of a report, and save it; whether it was trained to its end.

    Of several processes, all stop after the step at which one does.
    """
    stopped = any(run.world.largest(stop(report)) for report in run)
    run.save()
    return not stopped


def _document(
    arguments: Sequence[str], data: str | None, resolution: str | None, start: Path | None, grow: int | None
) -> dict[str, Any]:
    """The plain settings of these options."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "train", names, "one recipe or config file, then key=value settings")
    require(grow is None or (start is not None and not names), "--grow", grow, "with --from, and no recipe beside it")
    if start is not None and grow is not None:
        document = growing.grown(start, grow)
    elif start is not None and not names:
        document = transferred(start)
    else:
        default = "folder" if data not in (None, "emoji") else documents.DEFAULT_RECIPE
        document = documents.read_document(names[0] if names else default)
        if start is not None:
            document["training"] = document.get("training", {}) | {"start": beginning(start)}
    with_data(document, data, resolution, arguments)
    documents.resolve(document)
    return document


def with_data(
    document: dict[str, Any], data: str | None, resolution: str | None, arguments: Sequence[str]
) -> None:
    """Enter data, a resolution, and the settings among some arguments into a document of settings."""
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


def time_for(budget: str, settings: Sequence[str]) -> float:
    """The seconds of a time budget, which excludes a length given in images."""
    given = next((setting for setting in settings if setting.startswith("training.images=")), None)
    require(given is None, "train", ["--budget", given], "--budget or training.images, not both")
    return parse_time(budget, "--budget")


def paced(
    experiment: Experiment, folder: RunFolder, budget: float | None, tell: Callable[[str], None], world: World = ALONE
) -> Experiment:
    """The experiment with the length that a time budget amounts to, and a line on how long it will take.

    An existing run keeps its length. One of so few steps that a measurement would take as long is not measured.
    """
    known, seen = saved_config(folder), folder.images_seen
    if budget is not None and known is not None:
        experiment, budget = experiment.lasting(known.training.images, known.training.warmup), None
    if budget is None and experiment.images - seen < FEW * experiment.batch:
        tell(f"{experiment.images:,} images")
        return experiment
    pace = measure(experiment, world=world)
    if budget is not None:
        images = pace.images(budget, experiment.batch)
        experiment = experiment.lasting(images, min(experiment.warmup, images // 10))
    images = experiment.images
    seconds = pace.seconds(images - seen)
    left = f"{images:,} images" if not seen else f"{images - seen:,} of {images:,} images left"
    shorter = "; for a shorter run: --budget 10m" if known is None and budget is None and seconds > LONG else ""
    each = "" if world.alone else f", {speed(pace.images_per_second / world.size)} in each of {world.size} processes"
    tell(f"{left}: about {duration(seconds)} on this machine ({speed(pace.images_per_second)}{each}){shorter}")
    return experiment


def _introduction(experiment: Experiment, device: torch.device) -> Iterator[str]:
    """One line on data, network, batch and device."""
    (height, width), data = experiment.size, experiment.dataset
    parameters, stored = sum(p.numel() for p in experiment.network.parameters()), ""
    count = "images of an unknown number" if data.length is None else f"{data.length:,} images"
    if isinstance(data, Dataset):
        kept = {
            "memory": "kept in memory", "disk": f"kept on disk, in {data.home}; data.cache=none keeps nothing",
            "none": "decoded each time",
        }[data.cached]
        stored = f" ({data.bytes / 1e6:,.1f} MB, {kept})"
    codes = " as codes of {}x{}x{}".format(*experiment.shape) if isinstance(experiment.codec, Autoencoder) else ""
    yield (
        f"{experiment.name}: {count} at {height}x{width}{stored}{codes}, {len(data.classes or ())} classes; "
        f"{parameters / 1e6:.1f} M parameters; batches of {experiment.batch} on {device} in "
        f"{resolved(device, experiment.precision)}"
    )


def _warnings(experiment: Experiment, device: torch.device) -> Iterator[str]:
    """Possible problems of precision, schedule and data, a line for each."""
    if experiment.precision is Precision.BF16 and not bf16_is_native(device):
        yield f"precision: bf16 is emulated on {device}, many times slower; training.precision=auto is not"
    sides = experiment.shape[1:]
    usual = sides if isinstance(experiment.codec, Autoencoder) else (64, 64)  # codes are no pooled pictures
    diagnosis = diagnose(experiment.noise, sides, experiment.rule.reference or usual)
    yield from (f"schedule: {problem}" for problem in diagnosis.problems)
    if isinstance(experiment.dataset, Dataset):
        yield from (f"data: {note}" for note in notes(experiment.dataset))
