"""What a run is made of, as objects: data, a network, and how one is trained on the other.

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
from snrise.config import (
    DataConfig,
    LevelsConfig,
    Log,
    LossConfig,
    OnFault,
    RunConfig,
    Sampling,
    SourceKind,
    Training,
)
from snrise.construct import check_named, construct
from snrise.data import Blank, Data, Dataset, Emoji, Hub, ImageFolder, Part, Preprocess, Shards, Source, as_data
from snrise.data.dataset import evenly
from snrise.levels import Levels
from snrise.nest import Link
from snrise.networks import External, Nested, NetworkConfig
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

__all__ = ["Experiment", "compared", "dataset", "held_out", "network", "source"]


#: Settings of training that may be given by their names, too.
CHOICES: dict[str, type[StrEnum]] = {
    "decay_shape": Decay, "precision": Precision, "on_fault": OnFault,
}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment(Training):
    """Data and a network; all else has a good default. What `Run` trains, and `plan` works out the cost of.

    Attributes:
        data: see `data.as_data`: a data set of snrise's or of map style, a `DataLoader`, any iterable of images.
        network: called (z [b c h w], λ [b], labels [b] or None) -> a prediction [b c h w]. Its attribute `classes`, if
            there is one, is how many classes it knows, and the label for none; without it no labels are passed. Its
            attribute `edges` says which parameters Muon leaves to AdamW.
        schedule: of the noise: for the data's resolution, or a rule for any.
        target: what the network predicts, and the process.
        levels: how training draws λ; by default from the schedule.
        weighting: how errors count by λ.
        factors: the scales of the loss; None is one up to 256 px, several above.
        sampling: how images are made.
        log: how often things are written.
        seed: fixes all that is drawn at random.
        config: the settings that data and network were built from; None for objects of one's own.
        warmup: in images; by default a tenth of the run, 1,000 at most.

    The others are those of `config.Training`: images, batch, learning_rate, ….

    Raises:
        SnriseError: for an object of a type that has no name in its table, so that it could not be saved.
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
    sampling: Sampling = Sampling()
    log: Log = Log()
    config: RunConfig | None = None

    def __post_init__(self) -> None:
        for name, kind in CHOICES.items():
            given = getattr(self, name)
            if given not in tuple(kind):
                raise unknown(f"Experiment.{name}", given, kind, "choice")
            object.__setattr__(self, name, kind(given))
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", construct(Optimizer, self.optimizer, "Experiment.optimizer"))
        if self.warmup is None:
            object.__setattr__(self, "warmup", min(Training.warmup, self.images // 10))
        super().__post_init__()
        object.__setattr__(self, "data", as_data(self.data))
        require(isinstance(self.network, nn.Module), "Experiment.network", type(self.network).__name__, "an nn.Module")
        network_config = getattr(self.network, "config", None)
        if isinstance(network_config, NetworkConfig):
            check_sides(self.size, network_config.divisor, "config.data.resolution")
        known, named = getattr(self.network, "classes", None), self.dataset.classes
        good = known is None or named is None or len(named) == known
        require(good, "Experiment.network.classes", known, f"{len(named or ())}, as many as the data have, or None")
        _link(self.network, self.target)
        for i, factor in enumerate(self.scales):
            _check_factor(i, factor, self.size)
        if self.config is None:
            for interface, member, name in self._members():
                check_named(interface, member, f"Experiment.{name}")

    @classmethod
    def of(
        cls, config: RunConfig, *, data: Data | None = None,
        device: torch.device | str | None = None,
    ) -> "Experiment":
        """What settings describe: the data, unless they are given, and the network, which is built on the device."""
        images = dataset(config) if data is None else data
        classes = None if images.classes is None else len(images.classes)
        loss = config.loss
        return cls(
            **_training(config.training), data=images, network=network(config, classes, device),
            name=config.name, seed=config.seed, schedule=config.schedule,
            target=Target(loss.prediction, config.process), levels=loss.levels, weighting=loss.weighting,
            factors=loss.factors, sampling=config.sampling, log=config.log, config=config,
        )

    @classmethod
    def imagined(
        cls, config: RunConfig, classes: int | None = None, device: torch.device | str = "meta"
    ) -> "Experiment":
        """What settings describe with noise for data, `classes` of it; without weights, unless there is a device."""
        names = None if classes is None else tuple(map(str, range(classes)))
        return cls.of(config, data=Blank(config.data.resolution, names), device=device)

    def lasting(self, images: int, warmup: int | None = None) -> "Experiment":
        """The same for so many images."""
        return replace(self, images=images, warmup=self.warmup if warmup is None else warmup)

    @property
    def dataset(self) -> Data:
        """The data, as training takes them."""
        given: Data = self.data
        return given

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return self.dataset.size

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes that the network is told; None if it is told none."""
        known = getattr(self.network, "classes", None)
        if known is None:
            return None
        return self.dataset.classes or tuple(map(str, range(known)))

    @property
    def frequencies(self) -> tuple[float, ...] | None:
        """The share of each class among the images; None where the network is told none."""
        classes = self.classes
        return None if classes is None else self.dataset.frequencies or evenly(len(classes))

    @cached_property
    def rule(self) -> ByResolution:
        """The schedule at any resolution."""
        given = self.schedule
        return given if isinstance(given, ByResolution) else ByResolution(base=given, reference=None)

    @cached_property
    def noise(self) -> Schedule:
        """The schedule at the data's resolution."""
        return self.rule(self.size)

    @cached_property
    def drawn(self) -> Levels:
        """How training draws λ."""
        how = self.levels
        return how if isinstance(how, Levels) else how.of(self.noise)

    @property
    def scales(self) -> tuple[int, ...]:
        """The factors of the loss's scales."""
        return self.factors or (factors_for(self.size) if min(self.size) > 256 else (1,))

    @property
    def settings(self) -> RunConfig:
        """All of it as settings, for a run's folder: of data and a network of one's own, what they are."""
        how = self.levels
        if isinstance(how, Levels):
            draw = None if how.schedule == self.noise else how.schedule
            how = LevelsConfig(stratified=how.stratified, draw=draw, like=how.like)
        loss = LossConfig(
            prediction=self.target.prediction, weighting=self.weighting, factors=self.factors, levels=how
        )
        return RunConfig(
            name=self.name, seed=self.seed, process=self.target.process, schedule=self.rule, loss=loss,
            data=_described(self.dataset) if self.config is None else self.config.data,
            network=_network_of(self.network) if self.config is None else self.config.network,
            training=Training(**_training(self)), sampling=self.sampling,
            log=self.log,
        )

    def _members(self) -> Iterator[tuple[Any, Any, str]]:
        """Objects that settings name by a kind: interface, object, name of the field."""
        drawn = self.drawn
        for schedule, name in ((self.rule.base, "schedule"), (drawn.schedule, "levels"), (drawn.like, "levels.like")):
            if schedule is not None:
                yield Schedule, schedule, name
        yield Process, self.target.process, "target.process"
        yield Weighting, self.weighting, "weighting"
        yield Optimizer, self.optimizer, "optimizer"
        yield Sampler, self.sampling.sampler, "sampling.sampler"
        yield Grid, self.sampling.grid, "sampling.grid"


def _training(how: Training) -> dict[str, Any]:
    """The settings of training by name, also of an experiment, which has others beside them."""
    return {f.name: getattr(how, f.name) for f in fields(Training)}


def _described(data: Data) -> DataConfig:
    """What settings say of data of one's own."""
    given = getattr(data, "items", data)
    return DataConfig(resolution=data.size, source=SourceKind.EXTERNAL, path=type_name(given))


def _network_of(network: nn.Module) -> NetworkConfig:
    """What settings say of a network: all, of one of snrise's."""
    own = getattr(network, "config", None)
    return own if isinstance(own, NetworkConfig) else External.of(network)


def _check_factor(i: int, factor: int, image: Size) -> None:
    if image[0] % factor or image[1] % factor:
        raise invalid(
            f"config.loss.factors[{i}]", factor, f"a divisor of the resolution {image[0]}x{image[1]}",
            f"such as {max(n for n in range(1, factor) if image[0] % n == image[1] % n == 0)}",
        )


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
        case SourceKind.EXTERNAL:
            raise invalid(
                "config.data.source", f"external, {config.path}", "data that the settings say how to find",
                "give the data in Python, as to snrise.Experiment or snrise.evaluate: data=…",
            )
        case _:
            return ImageFolder(config.path, config.classes)


def dataset(config: RunConfig) -> Dataset:
    """The images that the run is trained on, at its resolution: all but those held out."""
    return _dataset(config.data, held_out=False)


def compared(config: RunConfig) -> Dataset:
    """The images that the run is trained on, at the size of its samples: what these are compared with."""
    return _dataset(replace(config.data, resolution=config.sampling.enlarged(config.data.resolution)), held_out=False)


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
    """The network, checked against the resolution, with weights that depend on the seed alone.

    On the device "meta" it has no weights and costs nothing.
    """
    check_sides(config.data.resolution, config.network.divisor, "config.data.resolution")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if device == "meta":
            made = build_network(config.network, classes, device="meta")
        else:
            made = build_network(config.network, classes).to(device)
    return _link(made, Target(config.loss.prediction, config.process))


def _link(model: nn.Module, target: Target) -> nn.Module:
    """The network, with every nest in it told the target."""
    for module in model.modules():
        if isinstance(module, Nested):
            module.link = Link(target)
    return model
