"""An experiment as live objects: data, a network, and how to train it.

>>> import snrise
>>> from snrise.networks import Level, UViTConfig, build
>>> network = build(UViTConfig(levels=(Level(channels=32, blocks=1),)))
>>> pictures = torch.zeros(100, 3, 16, 16, dtype=torch.uint8)
>>> experiment = snrise.Experiment(data=pictures, network=network, images=2000)
>>> experiment.size, experiment.noise.factor, experiment.classes
((16, 16), 0.25, None)
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from snrise._errors import invalid, require, unknown
from snrise._typing import Size, StrEnum, type_name
from snrise.codecs import Codec, Pixels
from snrise.config import (
    DataConfig,
    LevelsConfig,
    Log,
    LossConfig,
    OnFault,
    Parallel,
    RunConfig,
    Sampling,
    Training,
)
from snrise.construct import check_named, construct
from snrise.data import Blank, Data, Dataset, ExternalConfig, Part, Preprocess, as_data, evenly, numbered
from snrise.denoisers import Wrapper
from snrise.levels import Levels
from snrise.nest import Link
from snrise.networks import External, Nested, NetworkConfig, Traits
from snrise.networks import build as build_network
from snrise.networks.base import check_sides
from snrise.optimizers import Optimizer
from snrise.pooling import factors_for
from snrise.precision import Precision
from snrise.process import Prediction, Process, Target
from snrise.rates import Decay
from snrise.samplers import Grid, Sampler
from snrise.schedules import ByResolution, Schedule
from snrise.weightings import VLoss, Weighting

__all__ = ["Experiment", "compared", "dataset", "held_out", "linked", "network", "opened"]


#: Settings of training that may be given by their names, too.
CHOICES: dict[str, type[StrEnum]] = {"precision": Precision, "on_fault": OnFault, "parallel": Parallel}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment(Training):
    """Data, a network, and how to train it. `Run` trains it, `plan` computes its cost; all but the two have defaults.

    Attributes:
        data: a `data.Data`, a map-style data set, a `DataLoader` or any iterable of images: see `data.as_data`.
        network: called (z [b c h w], λ [b], labels [b] or None) -> a prediction [b c h w]. Its optional attribute
            `classes` is the number of classes, and the label of the null class; without it no labels are passed. Its
            optional attribute `edges` names the parameters that Muon leaves to AdamW.
        schedule: the noise schedule at the data's resolution, or a rule for any resolution.
        target: the network's prediction target, and the process.
        levels: the distribution of λ in training; by default that of the schedule.
        weighting: the loss weighting by λ.
        factors: the scales of the multi-scale loss; None is one scale up to 256 px, several above.
        codec: the encoding of images that is diffused; by default their pixels.
        sampling: how to sample images.
        log: intervals of logging and checkpoints.
        seed: determines all randomness.
        config: the settings that data and network were built from; None for live objects.
        warmup: in images; by default a tenth of the run, 1,000 at most.

    The others are those of `config.Training`: images, batch, learning_rate, ….

    Raises:
        SnriseError: for an object whose type has no name in its table, so that it could not be saved.
    """

    data: Any
    network: nn.Module
    images: int = 100_000
    warmup: Any = None
    name: str = "run"
    seed: int = 0
    schedule: ByResolution | Schedule = ByResolution()
    target: Target = Target(Prediction.V)
    levels: Levels | LevelsConfig = LevelsConfig()
    weighting: Weighting = VLoss()
    factors: tuple[int, ...] | None = None
    codec: Codec = Pixels()
    sampling: Sampling = Sampling()
    log: Log = Log()
    config: RunConfig | None = None

    def __post_init__(self) -> None:
        for name, kind in CHOICES.items():
            given = getattr(self, name)
            if given not in tuple(kind):
                raise unknown(f"Experiment.{name}", given, kind, "choice")
            object.__setattr__(self, name, kind(given))
        for name, interface in (("optimizer", Optimizer), ("decay_shape", Decay), ("codec", Codec)):
            if isinstance(getattr(self, name), str):
                member: Any = construct(interface, getattr(self, name), f"Experiment.{name}")
                object.__setattr__(self, name, member)
        if self.warmup is None:
            object.__setattr__(self, "warmup", min(Training.warmup, self.images // 10))
        super().__post_init__()
        object.__setattr__(self, "data", as_data(self.data))
        require(isinstance(self.network, nn.Module), "Experiment.network", type(self.network).__name__, "an nn.Module")
        _check_fit(Traits(self.network).config, self.shape)
        known, named = Traits(self.network).classes, self.dataset.classes
        good = known is None or named is None or len(named) == known
        require(good, "Experiment.network.classes", known, f"{len(named or ())}, as many as the data have, or None")
        linked(self.network, self.target)
        for i, factor in enumerate(self.scales):
            _check_factor(i, factor, self.shape[1:])
        if self.config is None:
            for interface, member, name in self._members():
                check_named(interface, member, f"Experiment.{name}")

    @classmethod
    def of(
        cls, config: RunConfig, *, data: Data | None = None,
        device: torch.device | str | None = None,
    ) -> "Experiment":
        """Build data (unless given) and network (on the device) from settings."""
        images = dataset(config) if data is None else data
        classes = None if images.classes is None else len(images.classes)
        loss = config.loss
        return cls(
            **_training(config.training), data=images, network=network(config, classes, device),
            name=config.name, seed=config.seed, codec=config.codec, schedule=config.schedule,
            target=Target(loss.prediction, config.process), levels=loss.levels, weighting=loss.weighting,
            factors=loss.factors, sampling=config.sampling, log=config.log, config=config,
        )

    @classmethod
    def imagined(
        cls, config: RunConfig, classes: int | None = None, device: torch.device | str = "meta"
    ) -> "Experiment":
        """Build from settings, with random images of `classes` classes; without weights unless a device is given."""
        names = None if classes is None else numbered(classes)
        return cls.of(config, data=Blank(config.data.resolution, names), device=device)

    def lasting(self, images: int, warmup: int | None = None) -> "Experiment":
        """The experiment with another length."""
        return replace(self, images=images, warmup=self.warmup if warmup is None else warmup)

    @property
    def dataset(self) -> Data:
        """The data as a `Data`."""
        given: Data = self.data
        return given

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return self.dataset.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return self.codec.shape(self.size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names; None for an unconditional network."""
        known = Traits(self.network).classes
        if known is None:
            return None
        return self.dataset.classes or numbered(known)

    @property
    def frequencies(self) -> tuple[float, ...] | None:
        """The frequency of each class; None for an unconditional network."""
        classes = self.classes
        return None if classes is None else self.dataset.frequencies or evenly(len(classes))

    @cached_property
    def rule(self) -> ByResolution:
        """The schedule at any resolution."""
        given = self.schedule
        return given if isinstance(given, ByResolution) else ByResolution(base=given, reference=None)

    @cached_property
    def noise(self) -> Schedule:
        """The schedule at the network's resolution."""
        return self.rule(self.shape[1:])

    @cached_property
    def drawn(self) -> Levels:
        """The distribution of λ in training."""
        levels = self.levels
        return levels if isinstance(levels, Levels) else levels.of(self.noise)

    @property
    def scales(self) -> tuple[int, ...]:
        """The scales of the loss."""
        sides = self.shape[1:]
        return self.factors or (factors_for(sides) if min(sides) > 256 else (1,))

    @property
    def settings(self) -> RunConfig:
        """The experiment as settings, for the run's folder; of external data and networks they record the type."""
        levels = self.levels
        if isinstance(levels, Levels):
            draw = None if levels.schedule == self.noise else levels.schedule
            levels = LevelsConfig(stratified=levels.stratified, draw=draw, like=levels.like)
        loss = LossConfig(
            prediction=self.target.prediction, weighting=self.weighting, factors=self.factors, levels=levels
        )
        return RunConfig(
            name=self.name, seed=self.seed, codec=self.codec, process=self.target.process, schedule=self.rule,
            loss=loss,
            data=_described(self.dataset) if self.config is None else self.config.data,
            network=Traits(self.network).config if self.config is None else self.config.network,
            training=Training(**_training(self)), sampling=self.sampling,
            log=self.log,
        )

    def _members(self) -> Iterator[tuple[Any, Any, str]]:
        """Members of tables: interface, object, field name."""
        drawn = self.drawn
        for schedule, name in ((self.rule.base, "schedule"), (drawn.schedule, "levels"), (drawn.like, "levels.like")):
            if schedule is not None:
                yield Schedule, schedule, name
        yield Process, self.target.process, "target.process"
        yield Weighting, self.weighting, "weighting"
        yield Optimizer, self.optimizer, "optimizer"
        yield Decay, self.decay_shape, "decay_shape"
        yield Codec, self.codec, "codec"
        yield from ((Wrapper, wrapper, "sampling.wrappers") for wrapper in self.sampling.wrappers)
        yield Sampler, self.sampling.sampler, "sampling.sampler"
        yield Grid, self.sampling.grid, "sampling.grid"


def _training(training: Training) -> dict[str, Any]:
    """The fields of `Training` by name."""
    return {f.name: getattr(training, f.name) for f in fields(Training)}


def _described(data: Data) -> DataConfig:
    """What settings record of external data."""
    given = getattr(data, "items", data)
    return DataConfig(resolution=data.size, source=ExternalConfig(path=type_name(given)))


def _check_fit(network: NetworkConfig, shape: tuple[int, int, int]) -> None:
    """Raise unless the network accepts the shape of encoded images."""
    channels, *sides = shape
    check_sides((sides[0], sides[1]), network.divisor, "config.data.resolution")
    good = isinstance(network, External) or network.image_channels == channels
    allowed, fix = f"{channels}, the channels of the codec", f"add network.image_channels={channels}"
    require(good, "config.network.image_channels", network.image_channels, allowed, fix)


def _check_factor(i: int, factor: int, image: Size) -> None:
    if image[0] % factor or image[1] % factor:
        raise invalid(
            f"config.loss.factors[{i}]", factor, f"a divisor of the resolution {image[0]}x{image[1]}",
            f"such as {max(n for n in range(1, factor) if image[0] % n == image[1] % n == 0)}",
        )


def dataset(config: RunConfig) -> Dataset:
    """The training images at the run's resolution: all but those held out."""
    return opened(config.data)


def compared(config: RunConfig) -> Dataset:
    """The training images at the size of the samples, as the reference for evaluation."""
    return opened(replace(config.data, resolution=config.sampling.enlarged(config.data.resolution)))


def held_out(config: RunConfig) -> Dataset | None:
    """The held-out images at the run's resolution; None without hold-out."""
    return None if config.data.hold_out is None else opened(config.data, held_out=True)


def opened(data: DataConfig, *, held_out: bool = False) -> Dataset:
    """The images that settings name: all but those held out, or these."""
    preprocess = Preprocess(data.resolution, fit=data.fit, background=data.background, upscale=data.upscale)
    whole = data.source.open()
    good = data.hold_out is None or 2 <= data.hold_out <= len(whole)
    allowed = f"a whole number from 2 to the {len(whole):,} images, or null"
    require(good, "config.data.hold_out", data.hold_out, allowed)
    return Dataset(
        whole if data.hold_out is None else Part(whole, data.hold_out, held_out=held_out), preprocess,
        flip=data.flip, unreadable=data.unreadable, cache=data.cache,
        cache_folder=None if data.cache_folder is None else Path(data.cache_folder), workers=data.workers,
    )


def network(config: RunConfig, classes: int | None, device: torch.device | str | None = None) -> nn.Module:
    """The network, checked against the resolution; its initial weights depend on the seed alone.

    On the device "meta" it has no weights and costs nothing.
    """
    _check_fit(config.network, config.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if device == "meta":
            made = build_network(config.network, classes, device="meta")
        else:
            made = build_network(config.network, classes).to(device)
    return linked(made, Target(config.loss.prediction, config.process))


def linked(model: nn.Module, target: Target) -> nn.Module:
    """The network itself, the target passed to every nest within it."""
    for module in model.modules():
        if isinstance(module, Nested):
            module.link = Link(target)
    return model
