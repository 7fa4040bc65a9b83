"""The settings of a run: typed, strictly validated, with defaults that suit most runs; recipes hold the rest."""

import re
from dataclasses import dataclass, field
from typing import Any, final

import yaml

from snrise._errors import SnriseError, require
from snrise._typing import Size, StrEnum
from snrise.codecs import Codec, Pixels
from snrise.construct import INLINED, construct, plain
from snrise.data import Cache, EmojiConfig, Fit, SourceConfig, Unreadable
from snrise.denoisers import Wrapper
from snrise.levels import Levels
from snrise.networks import NetworkConfig
from snrise.optimizers import AdamW, Optimizer
from snrise.precision import Precision
from snrise.process import Prediction, Process, VariancePreserving
from snrise.rates import Decay, LearningRate, LinearDecay
from snrise.samplers import Ancestral, Grid, Sampler, UniformTime
from snrise.schedules import ByResolution, Schedule
from snrise.weightings import Constant, Weighting

__all__ = [
    "ByResolution",
    "DataConfig",
    "LevelsConfig",
    "Log",
    "LossConfig",
    "RunConfig",
    "Sampling",
    "Training",
    "Wandb",
    "name_of_a_folder",
    "parse",
    "to_yaml",
]

#: The largest σ_rel of an average of a power of the images seen: that of γ = 0, the plain mean of all weights so far.
WIDEST = 12**-0.5


class OnFault(StrEnum):
    """What to do after a step with a non-finite loss or gradient; the step itself is always dropped.

    `skip` continues with the next batch, `rollback` restores the last checkpoint and continues with the next batch,
    `stop` ends the run.
    """

    SKIP = "skip"
    ROLLBACK = "rollback"
    STOP = "stop"


class Parallel(StrEnum):
    """How several processes train one network: `ddp`, each with a replica; `fsdp`, each with a shard of its state.

    `auto` replicates while a replica fits the device, by the plan, and else shards.
    """

    AUTO = "auto"
    DDP = "ddp"
    FSDP = "fsdp"


class Wandb(StrEnum):
    """Logging to Weights & Biases: synchronised online, or kept in the run's folder."""

    ONLINE = "online"
    OFFLINE = "offline"


@final
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The source of images, and their preprocessing.

    The settings of the source stand beside `source`. `path`: required by all but emoji. `classes`: the source of
    labels; for emoji `class` (9) or `subclass` (97), for a folder `folders` or a CSV file, for shards `cls` or a key of
    their JSON, for a data set of the hub a column; null for none.
    `hold_out`: every n-th image is held out for evaluation. `unreadable`: what to do about a broken file. `cache`,
    `cache_folder`, `workers`: see `data.Dataset`.
    """

    resolution: Size
    source: SourceConfig = field(default=EmojiConfig(), metadata=INLINED)
    fit: Fit = Fit.CROP
    background: str = "white"
    upscale: bool = True
    flip: bool = False
    hold_out: int | None = None
    unreadable: Unreadable = Unreadable.SKIP
    cache: Cache = Cache.AUTO
    cache_folder: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        require(min(self.resolution) >= 1, "resolution", list(self.resolution), "[height, width], both 1 or more")
        require(self.workers is None or self.workers >= 0, "workers", self.workers, "0 or more, or null for one a core")


@final
@dataclass(frozen=True, kw_only=True)
class LevelsConfig:
    """The distribution of λ in training: `draw` (null: the schedule), importance-weighted to `like` (null: not)."""

    stratified: bool = True
    draw: Schedule | None = None
    like: Schedule | None = None

    def of(self, schedule: Schedule) -> Levels:
        """The distribution for a run with this schedule."""
        return Levels(schedule=self.draw or schedule, stratified=self.stratified, like=self.like)


@final
@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Prediction target and loss weighting. `factors: null`: a single scale up to 256 px, several above."""

    prediction: Prediction = Prediction.V
    weighting: Weighting = Constant()
    factors: tuple[int, ...] | None = None
    levels: LevelsConfig = LevelsConfig()

    def __post_init__(self) -> None:
        good = self.factors is None or (self.factors and min(self.factors) >= 1)
        require(bool(good), "factors", self.factors, "one or more whole numbers above 0, or null")


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """What every training has: `images` (its length), `warmup` and `ema_half_life` in images, `decay` a share of it.

    `betas` and `weight_decay` are for any optimizer; it has others of its own: `optimizer: {kind: muon, scale: 10}`.

    `on_fault`: what follows a step whose loss or gradient is not finite; more than `fault_limit` of them between two
    checkpoints stop the run in any case.
    """

    images: int
    batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 1000
    decay: float = 1.0
    decay_shape: Decay = LinearDecay()
    optimizer: Optimizer = AdamW()
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float | None = 1.0
    ema_half_life: float = 5000
    precision: Precision = Precision.AUTO
    on_fault: OnFault = OnFault.SKIP
    fault_limit: int = 10

    def __post_init__(self) -> None:
        for name in ("images", "batch"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number above 0")
        for name in ("warmup", "fault_limit"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a whole number, 0 or more")
        require(self.ema_half_life >= 0, "ema_half_life", self.ema_half_life, "a number, 0 or more")
        require(0 <= self.decay <= 1, "decay", self.decay, "a share in [0, 1]")
        for i, beta in enumerate(self.betas):
            require(0 <= beta < 1, f"betas[{i}]", beta, "a number in [0, 1)")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number, 0 or more")
        require(self.clip is None or self.clip > 0, "clip", self.clip, "a norm above 0, or null")

    @property
    def rate(self) -> LearningRate:
        """The learning-rate schedule."""
        return LearningRate(
            peak=self.learning_rate, total=self.images, warmup=self.warmup, decay=self.decay, shape=self.decay_shape
        )


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation):
    """The optimisation of a network.

    `start`: a run, checkpoint, exported weights or built-in model whose averaged weights the run begins with, as far as
    they fit.

    `averages`: widths of further averages, such as [0.05, 0.1]: with two of them, kept with each checkpoint, an average
    of any width can be put together after the training (`snrise export --average`). See `training.averages`.

    `parallel`: what each of several processes holds; one process holds all.
    """

    accumulate: int = 1
    averages: tuple[float, ...] = ()
    class_dropout: float = 0.1
    start: str | None = None
    parallel: Parallel = Parallel.AUTO

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.accumulate <= self.batch, "accumulate", self.accumulate, f"1 … batch={self.batch}")
        require(0 <= self.class_dropout <= 1, "class_dropout", self.class_dropout, "a share in [0, 1]")
        for i, width in enumerate(self.averages):
            require(0 < width < WIDEST, f"averages[{i}]", width, f"a number above 0, below {WIDEST:.3f}")


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample images, during training and after it.

    Attributes:
        sampler: the solver.
        grid: its grid of λ.
        steps: the number of steps.
        guidance: the guidance scale; 1 is none. It needs labels or a weak network.
        guidance_interval: the interval of λ with guidance; None for all.
        rescale: φ in [0, 1], how much of the contrast added by guidance is removed.
        clip: whether x̂ is clipped to the codec's range.
        dynamic_clip: the percentile of dynamic thresholding; None clips statically.
        wrappers: applied to the guided denoiser in this order, such as other guidance: see `denoisers.WRAPPERS`.
        upsample: the factor of upsample guidance over the training resolution.
    """

    sampler: Sampler = Ancestral()
    grid: Grid = UniformTime()
    steps: int = 50
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None
    rescale: float = 0.0
    clip: bool = True
    dynamic_clip: float | None = None
    upsample: int = 1
    wrappers: tuple[Wrapper, ...] = ()

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "a whole number above 0")
        require(self.guidance >= 0, "guidance", self.guidance, "a number, 0 or more (1 is none)")
        low, high = self.guidance_interval or (0, 1)
        require(low < high, "guidance_interval", self.guidance_interval, "[lowest λ, highest λ], or null for all")
        require(0 <= self.rescale <= 1, "rescale", self.rescale, "a number from 0 to 1")
        good = self.dynamic_clip is None or (self.clip and 0 < self.dynamic_clip <= 1)
        allowed = "a number above 0, up to 1, such as 0.995; or null, as where clip is false"
        require(good, "dynamic_clip", self.dynamic_clip, allowed)
        require(self.upsample >= 1, "upsample", self.upsample, "a whole number, 1 (as trained) or more")

    def enlarged(self, size: Size) -> Size:
        """Height and width of the samples of a network trained at a size."""
        height, width = size
        return self.upsample * height, self.upsample * width


@final
@dataclass(frozen=True, kw_only=True)
class Log:
    """Intervals in images: of log lines, of sample grids (`grid` pictures each), of checkpoints.

    The last `keep` checkpoints are kept and, with `keep_every`, the first at or after each multiple of so many images.
    With `background`, they are written by a thread from a copy of the state, while training goes on.
    `wandb` is online, offline or null.
    """

    every: int = 3200
    samples: int = 32_000
    grid: int = 64
    checkpoint: int = 32_000
    keep: int = 2
    keep_every: int | None = None
    background: bool = False
    tensorboard: bool = True
    wandb: Wandb | None = None

    def __post_init__(self) -> None:
        for name in ("every", "samples", "grid", "checkpoint", "keep", "keep_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "a whole number above 0")


@final
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run. `made_with` is not a setting: it records the versions and data of a run."""

    name: str
    data: DataConfig
    network: NetworkConfig
    training: Training
    seed: int = 0
    codec: Codec = Pixels()
    process: Process = VariancePreserving()
    schedule: ByResolution = ByResolution()
    loss: LossConfig = LossConfig()
    sampling: Sampling = Sampling()
    log: Log = field(default_factory=Log)
    made_with: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        name_of_a_folder(self.name)
        require(0 <= self.seed < 2**63, "seed", self.seed, "a whole number from 0 to 2^63 - 1")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return self.codec.shape(self.data.resolution)


def name_of_a_folder(name: str) -> None:
    """Raise for a run's name that cannot be that of its folder."""
    named = name.isprintable() and name.strip(". ") and not set(name) & set("/\\")
    require(bool(named), "name", name, "a name that a folder can have")


#: YAML 1.1 wants a dot in 1.0e-3. Here 1e-3 is a number too, to the reader as to the writer.
EXPONENT = ("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789"))


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, which quotes a string such as 1e-3."""


_Dumper.add_implicit_resolver(*EXPONENT)


def parse(document: dict[str, Any]) -> RunConfig:
    """Validate a plain document."""
    if "autoencoder" in document:
        told = "these are the settings of an autoencoder; train a network on its codes: snrise train codec=FOLDER"
        raise SnriseError(f"config.autoencoder: {told}")
    return construct(RunConfig, document, "config")


def to_yaml(config: Any) -> str:
    """All settings of a run, including defaults, as YAML."""
    document = plain(config)
    if not config.made_with:
        del document["made_with"]
    text: str = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )
    return text
