"""The settings of a run that trains an autoencoder."""

from dataclasses import dataclass, field, replace
from typing import Any, final

from snrise._errors import require
from snrise._typing import Size
from snrise.autoencoding.critic import LEAST_SIDE
from snrise.autoencoding.objective import Objective, Reduction, Terms
from snrise.codecs import KL, Architecture
from snrise.config import DataConfig, Log, OnFault, name_of_a_folder
from snrise.construct import construct
from snrise.data import Dataset
from snrise.experiment import opened
from snrise.precision import Precision
from snrise.rates import Decay, LearningRate, LinearDecay

__all__ = ["CodecConfig", "CodecTraining", "parse"]


@final
@dataclass(frozen=True, kw_only=True)
class CodecTraining:
    """Optimisation: `images` (the run's length), `warmup` and `ema_half_life` in images, `decay` a share of the run.

    Adam with `betas` trains autoencoder and critic with the same rate. `clip`: the largest norm of both gradients.
    `crop`: the side of a random square of each image that it is trained on; null for whole images. Autoencoders of
    convolutions are used at any size. `on_fault`, `fault_limit`: as of `config.Training`.
    """

    images: int
    batch: int = 16
    crop: int | None = None
    learning_rate: float = 2e-4
    warmup: int = 1000
    decay: float = 0.5
    decay_shape: Decay = LinearDecay()
    betas: tuple[float, float] = (0.5, 0.9)
    clip: float | None = None
    ema_half_life: float = 2000
    precision: Precision = Precision.AUTO
    on_fault: OnFault = OnFault.SKIP
    fault_limit: int = 10

    def __post_init__(self) -> None:
        for name in ("images", "batch"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number above 0")
        for name in ("warmup", "fault_limit", "ema_half_life"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number, 0 or more")
        require(0 <= self.decay <= 1, "decay", self.decay, "a share in [0, 1]")
        for i, beta in enumerate(self.betas):
            require(0 <= beta < 1, f"betas[{i}]", beta, "a number in [0, 1)")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        require(self.clip is None or self.clip > 0, "clip", self.clip, "a norm above 0, or null")

    @property
    def rate(self) -> LearningRate:
        """The learning-rate schedule."""
        return LearningRate(
            peak=self.learning_rate, total=self.images, warmup=self.warmup, decay=self.decay, shape=self.decay_shape
        )


@final
@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """All settings of the training of an autoencoder. `made_with` is not a setting, as of `config.RunConfig`."""

    name: str
    data: DataConfig
    training: CodecTraining
    autoencoder: Architecture = KL()
    objective: Objective = Objective()
    log: Log = field(default_factory=Log)
    seed: int = 0
    made_with: dict[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        name_of_a_folder(self.name)
        require(0 <= self.seed < 2**63, "seed", self.seed, "a whole number from 0 to 2^63 - 1")
        factor, crop = self.autoencoder.factor, self.training.crop
        for name, side in (*(("data.resolution", side) for side in self.data.resolution), ("training.crop", crop)):
            fix = f"such as {max(1, round((side or 0) / factor)) * factor}"
            require(side is None or (side >= 1 and side % factor == 0), name, side, f"a multiple of {factor}", fix)
        least = min(self.data.resolution)
        require(crop is None or crop <= least, "training.crop", crop, f"at most {least}, the images' shorter side")
        good = not self.terms.adversarial or min(self.sides) >= LEAST_SIDE
        where, fix = "data.resolution" if crop is None else "training.crop", "set objective.adversarial=0"
        require(good, where, list(self.sides), f"sides of {LEAST_SIDE} pixels or more for the critic", fix)

    @property
    def sides(self) -> Size:
        """Height and width of what a step is trained on."""
        crop = self.training.crop
        return self.data.resolution if crop is None else (crop, crop)

    def held_out(self, size: Size | None = None) -> Dataset:
        """The images that the run holds out, at its resolution or another."""
        return opened(replace(self.data, resolution=size or self.data.resolution), held_out=True)

    @property
    def terms(self) -> Terms:
        """The weights of the objective, where none is given those of the source for the kind of codes."""
        given, kl = self.objective, isinstance(self.autoencoder, KL)
        reduction = given.reduction or (Reduction.SUM if kl else Reduction.MEAN)
        adversarial = (0.5 if kl else 0.75) if given.adversarial is None else given.adversarial
        start = self.training.images // 2 if given.critic_start is None else given.critic_start
        return Terms(reduction=reduction, adversarial=adversarial, critic_start=start)


def parse(document: dict[str, Any]) -> CodecConfig:
    """Validate a plain document."""
    made: CodecConfig = construct(CodecConfig, document, "config")
    return made
