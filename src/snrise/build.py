"""From settings to objects: the only place where names become things."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from snrise import documents
from snrise._errors import SnriseError, invalid, require, unknown
from snrise._typing import Size
from snrise.config import DataConfig, RunConfig, SourceKind, parse
from snrise.construct import plain
from snrise.data import Dataset, Emoji, Hub, ImageFolder, Part, Preprocess, Shards, Source
from snrise.levels import Levels
from snrise.models import located, no_checkpoint
from snrise.nest import Link
from snrise.networks import Nested
from snrise.networks import build as build_network
from snrise.networks.base import check_sides
from snrise.pooling import factors_for
from snrise.process import Target
from snrise.samplers import GRIDS, Grid, Sampler
from snrise.schedules import Schedule, interpolated_for_resolution
from snrise.training import (
    WIDEST,
    Checkpoint,
    Ema,
    Generation,
    LearningRate,
    Optimizer,
    Power,
    Recipe,
    TrainState,
    adamw,
    average,
    checkpoints,
    draw_labels,
    generate,
    load_network,
    muon,
    newest_whole,
    read_header,
)

__all__ = [
    "Trained", "averaged", "beginning", "begun", "compared", "dataset", "generation", "held_out", "is_run",
    "learning_rate",
    "levels", "linked", "network", "open_run", "recipe", "saved", "schedule", "source", "state",
]


def schedule(config: RunConfig) -> Schedule:
    """The schedule at the data's resolution."""
    how, image = config.schedule, config.data.resolution
    if how.reference is None:
        if how.noisy_reference is not None:
            raise invalid("config.schedule.noisy_reference", how.noisy_reference, "null while reference is null")
        return how.base
    noisy = how.reference if how.noisy_reference is None else how.noisy_reference
    return interpolated_for_resolution(how.base, image, how.reference, noisy, ends=how.ends)


def source(config: DataConfig) -> Source:
    """Where the images come from."""
    if config.source is SourceKind.EMOJI:
        if config.classes not in (None, "class", "subclass"):
            raise invalid("config.data.classes", config.classes, "class, subclass or null for emoji")
        return Emoji(config.classes, only=config.only)
    if config.only:
        raise invalid("config.data.only", list(config.only), "a list for emoji alone", "leave it out")
    assert config.path is not None, "a config of another source has a path"
    match config.source:
        case SourceKind.SHARDS:
            return Shards(config.path, config.classes)
        case SourceKind.HUB:
            return Hub(config.path, config.classes, split=config.split, column=config.column)
        case _:
            return ImageFolder(config.path, config.classes)


def dataset(config: RunConfig) -> Dataset:
    """The images that the run is trained on, at its resolution: all but those held out."""
    return _dataset(config.data, held_out=False)


def compared(config: RunConfig) -> Dataset:
    """The images that the run is trained on, at the size of its samples: what these are compared with."""
    return _dataset(replace(config.data, resolution=_sampled_size(config)), held_out=False)


def held_out(config: RunConfig) -> Dataset | None:
    """The images that the run does not see, at its resolution; None if it sees all."""
    return None if config.data.hold_out is None else _dataset(config.data, held_out=True)


def _dataset(data: DataConfig, *, held_out: bool) -> Dataset:
    preprocess = Preprocess(data.resolution, fit=data.fit, background=data.background, upscale=data.upscale)
    whole = source(data)
    good = data.hold_out is None or 2 <= data.hold_out <= len(whole)
    allowed = f"a whole number from 2 to the {len(whole):,} images, or null"
    require(good, "config.data.hold_out", data.hold_out, allowed)
    return Dataset(
        whole if data.hold_out is None else Part(whole, data.hold_out, held_out=held_out), preprocess,
        flip=data.flip, unreadable=data.unreadable, cache=data.cache,
        cache_folder=None if data.cache_folder is None else Path(data.cache_folder), workers=data.workers,
    )


def network(config: RunConfig, classes: int | None, device: torch.device | str | None = None) -> nn.Module:
    """The network, checked against the resolution, with weights that depend on the seed alone."""
    check_sides(config.data.resolution, config.network.divisor, "config.data.resolution")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return linked(config, build_network(config.network, classes).to(device))


def linked(config: RunConfig, model: nn.Module) -> nn.Module:
    """The network, with every nest in it told the target."""
    for module in model.modules():
        if isinstance(module, Nested):
            module.link = Link(Target(config.loss.prediction, config.process))
    return model


def levels(config: RunConfig) -> Levels:
    """How training draws λ."""
    how = config.loss.levels
    return Levels(schedule=how.draw or schedule(config), stratified=how.stratified, like=how.like)


def learning_rate(config: RunConfig) -> LearningRate:
    """The learning rate over the run."""
    how = config.training
    return LearningRate(
        peak=how.learning_rate, total=how.images, warmup=how.warmup, decay=how.decay, shape=how.decay_shape
    )


def recipe(config: RunConfig) -> Recipe:
    """What a training step does."""
    how, loss, image = config.training, config.loss, config.data.resolution
    factors = loss.factors or (factors_for(image) if min(image) > 256 else (1,))
    for i, factor in enumerate(factors):
        if image[0] % factor or image[1] % factor:
            raise invalid(
                f"config.loss.factors[{i}]", factor, f"a divisor of the resolution {image[0]}x{image[1]}",
                f"such as {max(n for n in range(1, factor) if image[0] % n == image[1] % n == 0)}",
            )
    return Recipe(
        target=Target(loss.prediction, config.process), levels=levels(config), learning_rate=learning_rate(config),
        weighting=loss.weighting, factors=factors, clip=how.clip, class_dropout=how.class_dropout,
        accumulate=how.accumulate, precision=how.precision, seed=config.seed,
    )


def state(config: RunConfig, classes: int | None, device: torch.device | str | None = None) -> TrainState:
    """A run at its beginning."""
    return begun(config, network(config, classes, device))


def begun(config: RunConfig, model: nn.Module) -> TrainState:
    """A run at its beginning, with this network."""
    how = config.training
    make = partial(muon, precision=how.precision) if how.optimizer is Optimizer.MUON else adamw
    optimizer = make(model, betas=how.betas, weight_decay=how.weight_decay)
    powers = tuple(Ema(model, Power(width)) for width in how.averages)
    return TrainState(network=model, ema=Ema(model, how.ema_half_life), optimizer=optimizer, powers=powers)


def generation(
    config: RunConfig, *, steps: int | None = None, guidance: float | None = None, sampler: Sampler | None = None,
    grid: Grid | None = None, weak: nn.Module | None = None,
) -> Generation:
    """How the run makes images, on the schedule that it was trained with; arguments replace the run's own settings.

    `weak`: a weaker network that guidance leads away from (autoguidance).
    """
    how = config.sampling
    return Generation(
        target=Target(config.loss.prediction, config.process), size=_sampled_size(config),
        logsnrs=(grid or GRIDS[how.grid])(schedule(config), how.steps if steps is None else steps),
        sampler=sampler or how.sampler, guidance=how.guidance if guidance is None else guidance,
        guidance_interval=how.guidance_interval or (-torch.inf, torch.inf), weak=weak, rescale=how.rescale,
        clip=how.clip, dynamic_clip=how.dynamic_clip, upsample=how.upsample, precision=config.training.precision,
    )


def _sampled_size(config: RunConfig) -> Size:
    height, width = config.data.resolution
    return config.sampling.upsample * height, config.sampling.upsample * width


@final
@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run's network as of a checkpoint, and what the run knew of its classes.

    `fingerprint` tells these weights from any others; `broken` says what is wrong with newer checkpoints, which were
    passed over.
    """

    config: RunConfig
    network: nn.Module
    images_seen: int
    fingerprint: str
    classes: tuple[str, ...] | None
    frequencies: tuple[float, ...] | None
    broken: tuple[str, ...] = ()

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Class numbers from names."""
        require(self.classes is not None, "classes", list(names), "none: this run was trained without classes")
        return [_label(name, self.classes or ()) for name in names]

    def samples(
        self, count: int, *, seed: int = 0, batch: int = 64, watch: Callable[[float], None] | None = None
    ) -> Iterator[UInt8[Tensor, "k 3 h w"]]:
        """Yield images number 0 … count − 1 of a seed as the run's settings say, of classes as in its data."""
        labels = None if self.frequencies is None else draw_labels(self.frequencies, count, seed)
        return generate(self.network, generation(self.config), labels, count, seed=seed, batch=batch, watch=watch)

    def with_sampling(self, settings: Sequence[str]) -> "Trained":
        """The same network with some settings of sampling changed, each a `sampling.key=value`."""
        document = plain(self.config)
        for setting in settings:
            where = "sampling.key=value, such as sampling.steps=16"
            require(setting.startswith("sampling."), "settings", setting, where, "a trained run fixes the others")
            documents.override(document, setting)
        return replace(self, config=parse(document))


def _label(name: str, classes: tuple[str, ...]) -> int:
    if name not in classes:
        raise unknown("classes", name, classes, "class")
    return classes.index(name)


def newest(path: Path) -> Path:
    """The newest whole checkpoint of a run's folder, the file itself, or that of a built-in model's name."""
    files = _files(path)
    found, broken = newest_whole(files, lambda file: (read_header(file), file)[1])
    if found is None:
        raise SnriseError("; ".join(broken))
    return found


def saved(file: Path) -> tuple[Checkpoint, RunConfig]:
    """What a file of weights says of itself, and the settings of the run that they are of."""
    header = read_header(file)
    return header, parse(documents.document_of(header.config, str(file)))


def beginning(path: Path) -> str:
    """What a run that begins with these weights remembers: the newest checkpoint, or a built-in model by its name."""
    return str(path) if located(path) != path else str(newest(path))


def transferred(path: Path) -> dict[str, Any]:
    """The settings of a run, to begin another with its weights: at any resolution, its schedule follows the rule.

    A schedule that was right at the run's own resolution, and is stated for none, is stated for that one.
    """
    start = beginning(path)
    _, config = saved(located(Path(start)))
    reference = config.schedule.reference or config.data.resolution
    begun = replace(
        config, name=f"{config.name}-on", schedule=replace(config.schedule, reference=reference), made_with={},
        training=replace(config.training, start=start),
    )
    return dict(plain(begun))


def _files(path: Path) -> list[Path]:
    found = located(path)
    files = [found] if found.is_file() else checkpoints(found / "checkpoints")
    if not files:
        raise no_checkpoint(path)
    return files


def is_run(path: Path) -> bool:
    """Whether it is for `open_run`: a run's folder, a file, or a built-in model's name."""
    found = located(path)
    return found.is_file() or (found / "checkpoints").is_dir()


def open_run(
    path: Path, *, ema: bool = True, width: float | None = None, device: torch.device | str | None = None
) -> Trained:
    """The network of a run's folder (its newest whole checkpoint), of one checkpoint, or of exported weights.

    Of those, there are some built in, by name: see `models`. A path that exists comes before such a name. `width` is
    that of the average, for a run that keeps some to make others of: see `training.averages`.

    Raises:
        SnriseError: if there is none, or none is whole; or without `ema`, for exported weights, which are averaged; or
            with a width, where no averages were kept.
    """
    trained, broken = newest_whole(_files(path), lambda file: _open(file, ema, width, device))
    if trained is None:
        raise SnriseError("; ".join(broken))
    return replace(trained, broken=tuple(broken))


def averaged(file: Path, width: float | None) -> dict[str, Tensor]:
    """The average of a width as of a checkpoint, of the parameters that its run trains; none without a width."""
    if width is None:
        return {}
    require(0 < width < WIDEST, "--ema", width, f"a width above 0, below {WIDEST:.3f}")
    return average(file.parent.parent / "averages", width, read_header(file).images_seen)


def _open(file: Path, ema: bool, width: float | None, device: torch.device | str | None) -> Trained:
    header, config = saved(file)
    names, frequencies = header.extra.get("classes"), header.extra.get("frequencies")
    model = network(config, None if names is None else len(names), device)
    load_network(model, file, ema=ema)
    model.load_state_dict(averaged(file, width), strict=False)
    kept = header.checksums["ema" if ema else "network"]
    return Trained(
        config=config, network=model, images_seen=header.images_seen,
        fingerprint=kept if width is None else f"{kept}, ema {width}", classes=None if names is None else tuple(names),
        frequencies=None if frequencies is None else tuple(frequencies),
    )
