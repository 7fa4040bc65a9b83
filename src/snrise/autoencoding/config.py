"""The settings of a run that trains an autoencoder."""

from dataclasses import dataclass, field, replace
from typing import Any, final

from snrise._errors import require
from snrise._typing import Size
from snrise.autoencoding.critic import LEAST_SIDE
from snrise.autoencoding.objective import Objective, Reduction, Terms
from snrise.codecs import KL, Architecture
from snrise.config import DataConfig, Log, Optimisation, name_of_a_folder
from snrise.construct import construct
from snrise.data import Dataset
from snrise.experiment import opened
from snrise.networks.base import check_sides
from snrise.optimizers import AdamW, Optimizer

__all__ = ["CodecConfig", "CodecTraining", "parse"]


@final
@dataclass(frozen=True, kw_only=True)
class CodecTraining(Optimisation):
    """The optimisation of an autoencoder and its critic; that of the source is Adam with `betas`.

    `optimizer: muon` moves the kernels of the autoencoder by Muon, and needs fewer steps; the critic stays with Adam.
    `critic_rate`: the critic's learning rate, a multiple of the autoencoder's. `clip`: the largest norm of both
    gradients. `crop`: the side of a random square of each image that it is trained on; null for whole images.
    Autoencoders of convolutions are used at any size. `start`: the autoencoder whose weights the run begins with, as
    the setting `codec` names one; it has to be built alike.
    """

    batch: int = 16
    learning_rate: float = 2e-4
    optimizer: Optimizer = AdamW(eps=1e-8)
    decay: float = 0.5
    betas: tuple[float, float] = (0.5, 0.9)
    clip: float | None = None
    ema_half_life: float = 2000
    crop: int | None = None
    critic_rate: float = 1.0
    start: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.critic_rate > 0, "critic_rate", self.critic_rate, "a number above 0")


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
        crop, least = self.training.crop, min(self.data.resolution)
        check_sides(self.data.resolution, self.autoencoder.factor, "data.resolution")
        if crop is not None:
            require(1 <= crop <= least, "training.crop", crop, f"from 1 to {least}, the images' shorter side")
            check_sides((crop, crop), self.autoencoder.factor, "training.crop")
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
        given, source = self.objective, self.autoencoder
        reduction = given.reduction or (Reduction.SUM if source.summed else Reduction.MEAN)
        adversarial = source.adversarial if given.adversarial is None else given.adversarial
        start = self.training.images // 2 if given.critic_start is None else given.critic_start
        return Terms(reduction=reduction, adversarial=adversarial, critic_start=start)


def parse(document: dict[str, Any]) -> CodecConfig:
    """Validate a plain document."""
    made: CodecConfig = construct(CodecConfig, document, "config")
    return made
