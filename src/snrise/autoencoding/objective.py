"""The objective of an autoencoder: reconstruction, perceptual distance and a critic. `codecs.Architecture`: of codes.

Rombach et al. 2022, sec. 3.1 and appendix G, as trained there: Esser et al. 2021, eq. 4-7, for vector-quantised codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from snrise._errors import require
from snrise._typing import Images, PerImage, StrEnum

__all__ = [
    "Objective", "Reduction", "Terms", "adaptive_weight", "critic_loss", "generator_loss", "negative_log_likelihood",
    "reconstruction",
]

#: The weight of the critic is at most this, and its gradient counts as at least the other.
MOST, LEAST = 1e4, 1e-4


class Reduction(StrEnum):
    """Of the reconstruction over the values of an image: `sum`, as for KL-regularised codes, or `mean`, as for VQ."""

    SUM = "sum"
    MEAN = "mean"


@final
@dataclass(frozen=True, kw_only=True)
class Objective:
    """The weights of the parts of the objective; those left None are what the source has for the kind of codes.

    Attributes:
        perceptual: a name in `metrics.PERCEPTUAL`, or None for no perceptual distance.
        perceptual_weight: of the distance, beside the absolute difference of each value.
        reduction: of the reconstruction: the sum for KL, the mean for VQ.
        adversarial: the weight of the critic, on top of the adaptive one: 0.5 for KL, 0.75 for VQ; 0 for no critic.
        critic_start: the critic is trained, and listened to, after so many images; None after half of the run.
        critic_channels: of its first layer.
        logvar: the initial logarithm of the variance of the likelihood. The original code made it a parameter that is
            in no optimizer, so that it stayed 0.
        learn_logvar: whether it is trained.
    """

    perceptual: str | None = "stlpips-alex"
    perceptual_weight: float = 1.0
    reduction: Reduction | None = None
    adversarial: float | None = None
    critic_start: int | None = None
    critic_channels: int = 64
    logvar: float = 0.0
    learn_logvar: bool = False

    def __post_init__(self) -> None:
        for name in ("perceptual_weight", "adversarial", "critic_start"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "a number, 0 or more")
        require(self.critic_channels >= 1, "critic_channels", self.critic_channels, "a whole number above 0")


class Terms(NamedTuple):
    """The weights as numbers."""

    reduction: Reduction
    adversarial: float
    critic_start: int


def reconstruction(
    target: Images, given: Images, distance: Callable[[Images, Images], PerImage] | None, weight: float
) -> Float[Tensor, "b c h w"]:
    """|x − x̂| of each value, plus the weighted perceptual distance of its image.

    >>> import torch
    >>> x = torch.zeros(1, 1, 1, 2)
    >>> reconstruction(x, x + 0.5, lambda x, y: torch.tensor([0.1]), 2.0)
    tensor([[[[0.7000, 0.7000]]]])
    """
    difference = (target - given).abs()
    return difference if distance is None else difference + weight * distance(given, target)[:, None, None, None]


def negative_log_likelihood(
    reconstruction: Float[Tensor, "b c h w"], logvar: Float[Tensor, ""], reduction: Reduction
) -> Float[Tensor, ""]:
    """r / e^s + s of each value, with s the logarithm of the variance, per image: up to a constant, −log p(x|z).

    >>> import torch
    >>> r = torch.full((2, 3, 4, 4), 0.5)
    >>> float(negative_log_likelihood(r, torch.tensor(0.0), Reduction.SUM)), 0.5 * 3 * 4 * 4
    (24.0, 24.0)
    """
    values = reconstruction / logvar.exp() + logvar
    return values.sum() / len(values) if reduction is Reduction.SUM else values.mean()


def generator_loss(fake: Tensor) -> Float[Tensor, ""]:
    """What the autoencoder lowers: minus the critic's mean logit of reconstructions."""
    return -fake.mean()


def critic_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Half the sum of both hinges: real logits above 1, those of reconstructions below −1 (Lim and Ye 2017).

    >>> import torch
    >>> float(critic_loss(torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])))
    0.75
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(likelihood: Tensor, generator: Tensor) -> Float[Tensor, ""]:
    """‖∇ nll‖ / (‖∇ g‖ + 10⁻⁴), at most 10⁴: both parts move the decoder's last layer alike (Esser et al. 2021, eq. 7).

    Args:
        likelihood: the gradient of the negative log-likelihood with respect to the weight of the last layer.
        generator: that of the generator's loss.

    >>> import torch
    >>> float(adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])).round(decimals=3))
    2.5
    """
    ratio: Tensor = likelihood.norm() / (generator.norm() + LEAST)
    return ratio.clamp(max=MOST).detach()
