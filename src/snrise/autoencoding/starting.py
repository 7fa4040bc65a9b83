"""From a recipe's name, data, a resolution and a time budget to the run of an autoencoder."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from itertools import islice
from pathlib import Path

import torch

from snrise import documents
from snrise._errors import require
from snrise.autoencoding.config import CodecConfig, parse
from snrise.autoencoding.loop import CodecReport, Judge, begun, train
from snrise.autoencoding.run import CodecRun
from snrise.experiment import opened
from snrise.precision import resolved
from snrise.quantities import duration, speed
from snrise.runs.folder import RunFolder, saved_config
from snrise.runs.starting import time_for, with_data

__all__ = ["paced", "prepare", "recipes", "train_codec"]

#: Warm-up steps before a measurement, the fewest steps that it takes, and how long it is.
WARM, LEAST, SECONDS = 1, 2, 5.0


def recipes() -> dict[str, Path]:
    """The recipes for autoencoders that come with the package, by name."""
    folder = Path(str(resources.files("snrise"))) / "recipes" / "codecs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def prepare(
    arguments: Sequence[str], data: str | None, resolution: str | None, out: str | Path | None
) -> tuple[CodecConfig, RunFolder]:
    """The settings of these options of `snrise train-codec`, and its run's folder."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "train-codec", names, "one recipe or config file, then key=value settings")
    recipe = names[0] if names else ("emoji-f8" if data in (None, "emoji") else "folder-f8")
    document = documents.read_document(recipe, recipes())
    with_data(document, data, resolution, arguments)
    config = parse(document)
    folder = Path(out or Path("runs") / config.name)
    require(not folder.is_file(), "--out", str(folder), "a run's folder")
    return config, RunFolder(folder)


def introduction(config: CodecConfig, device: torch.device) -> str:
    """One line on data, network, batch and device."""
    data, (height, width) = opened(config.data), config.data.resolution
    with torch.device("meta"):
        network = config.autoencoder.build()
    parameters, factor = sum(p.numel() for p in network.parameters()), config.autoencoder.factor
    return (
        f"{config.name}: {len(data):,} images at {height}x{width} to codes of {config.autoencoder.channels}x"
        f"{height // factor}x{width // factor}; {parameters / 1e6:.1f} M parameters; batches of "
        f"{config.training.batch} on {device} in {resolved(device, config.training.precision)}"
    )


def objective(config: CodecConfig) -> str:
    """One line on what is minimised, once the length of the run is known."""
    given, terms = config.objective, config.terms
    parts = [f"{terms.reduction} of absolute differences"]
    parts += [f"{given.perceptual_weight:g} {given.perceptual}"] if given.perceptual else []
    late = terms.critic_start >= config.training.images
    told = "begins after the end of the run" if late else f"after {terms.critic_start:,} images"
    parts += [f"{terms.adversarial:g} critic {told}"] if terms.adversarial else []
    return f"objective: {', '.join(parts)}"


def measured(config: CodecConfig, device: torch.device) -> float:
    """Images a second, critic included: from steps on a state of its own."""
    heard = replace(config.objective, critic_start=0)
    trial = replace(config, objective=heard)
    state, data = begun(trial, device), opened(config.data)
    steps = train(state, data.batches(config.training.batch, seed=config.seed), Judge.of(trial, device))
    for _ in islice(steps, WARM):
        pass
    started, images, count = time.perf_counter(), 0, 0
    while count < LEAST or time.perf_counter() - started < SECONDS:
        images, count = images + len(next(steps).indices), count + 1
    return images / (time.perf_counter() - started)


def paced(
    config: CodecConfig, folder: RunFolder, budget: float | None, device: torch.device, tell: Callable[[str], None]
) -> CodecConfig:
    """The settings with the length that a time budget amounts to; an existing run keeps its own."""
    known: CodecConfig | None = saved_config(folder, parse)
    if budget is not None and known is not None:
        config, budget = replace(config, training=replace(config.training, images=known.training.images)), None
    seen, training = folder.images_seen, config.training
    rate = measured(config, device)
    if budget is not None:
        images = max(1, int(budget * rate / training.batch)) * training.batch
        config = replace(config, training=replace(training, images=images, warmup=min(training.warmup, images // 10)))
    images = config.training.images
    left = f"{images:,} images" if not seen else f"{images - seen:,} of {images:,} images left"
    tell(f"{left}: about {duration((images - seen) / rate)} on this machine ({speed(rate)})")
    return config


def train_codec(
    data: str | Path | None = None, *settings: str, recipe: str | None = None, resolution: int | str | None = None,
    budget: str | None = None, out: str | Path | None = None, device: torch.device | str | None = None,
    tell: Callable[[str], None] = print, stop: Callable[[CodecReport], bool] = lambda report: False,
) -> Path:
    """Train an autoencoder to its end, or resume it: what `snrise train-codec` does. Returns its run's folder.

    Args:
        data: a folder of images, WebDataset shards, or "emoji"; None for the recipe's.
        settings: `key=value`, such as "training.batch=16".
        recipe: its name, or a YAML file.
        resolution: a side in pixels, or "HEIGHTxWIDTH".
        budget: how long to train, such as "10m".
        out: the run's folder; by default "runs/NAME".
        device: where to train; by default on a GPU if there is one.
        tell: called with one line at a time about the progress of the run.
        stop: called with each report; the run is saved, and ends, when it is true.

    Raises:
        SnriseError: if any of these is invalid, before anything is computed.
    """
    given = [*([] if recipe is None else [recipe]), *settings]
    seconds = None if budget is None else time_for(budget, given)
    source, side = None if data is None else str(data), None if resolution is None else str(resolution)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    config, folder = prepare(given, source, side, out)
    tell(introduction(config, where))
    config = paced(config, folder, seconds, where, tell)
    tell(objective(config))
    with CodecRun(config, folder.path, tell, where) as run:
        any(stop(report) for report in run)
        run.save()
        tell(f"done: {run.draw()}")
    return folder.path

