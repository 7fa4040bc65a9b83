"""The objective of an autoencoder: reconstruction, perceptual distance, regularised codes, and a critic.

Rombach et al. 2022, sec. 3.1 and appendix G, as trained there: Esser et al. 2021, eq. 4-7, for vector-quantised codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from snrise._errors import require
from snrise._typing import Images, PerImage, StrEnum

__all__ = [
    "Objective", "Reduction", "Terms", "adaptive_weight", "critic_loss", "generator_loss", "kl_divergence",
    "negative_log_likelihood", "quantized", "reconstruction",
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

    >>> r = torch.full((2, 3, 4, 4), 0.5)
    >>> float(negative_log_likelihood(r, torch.tensor(0.0), Reduction.SUM)), 0.5 * 3 * 4 * 4
    (24.0, 24.0)
    """
    values = reconstruction / logvar.exp() + logvar
    return values.sum() / len(values) if reduction is Reduction.SUM else values.mean()


def kl_divergence(mean: Images, logvar: Images) -> Float[Tensor, ""]:
    """KL(N(mean, e^logvar) ‖ N(0, 1)), summed over the values of an image, averaged over images.

    Kingma and Welling 2014, appendix B.

    >>> float(kl_divergence(torch.ones(2, 4, 1, 1), torch.zeros(2, 4, 1, 1)))
    2.0
    """
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum() / len(mean)


def quantized(
    codes: Float[Tensor, "b c y x"], book: Float[Tensor, "n c"]
) -> tuple[Float[Tensor, "b c y x"], Float[Tensor, ""], Float[Tensor, ""], Int64[Tensor, "b y x"]]:
    """The nearest vectors of a book, with the gradient of the codes; the losses that bring both together.

    These are ‖e − sg[z]‖², which moves the book, and ‖z − sg[e]‖², which moves the codes, as means over values; and the
    numbers of the vectors. Van den Oord et al. 2017, eq. 1 to 3.

    >>> z, book = torch.tensor([[0.9, 0.2]]).T.reshape(1, 1, 2, 1), torch.tensor([[0.0], [1.0]])
    >>> nearest, codebook, commitment, numbers = quantized(z, book)
    >>> nearest.flatten(), numbers.flatten(), round(float(codebook), 3)
    (tensor([1., 0.]), tensor([1, 0]), 0.025)
    """
    rows = codes.movedim(1, -1)
    numbers = torch.cdist(rows.flatten(0, 2), book).argmin(dim=1).view(rows.shape[:-1])
    nearest = F.embedding(numbers, book).movedim(-1, 1)
    losses = F.mse_loss(nearest, codes.detach()), F.mse_loss(codes, nearest.detach())
    return codes + (nearest - codes).detach(), *losses, numbers


def generator_loss(fake: Tensor) -> Float[Tensor, ""]:
    """What the autoencoder lowers: minus the critic's mean logit of reconstructions."""
    return -fake.mean()


def critic_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    """Half the sum of both hinges: real logits above 1, those of reconstructions below −1 (Lim and Ye 2017).

    >>> float(critic_loss(torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 1.0])))
    0.75
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def adaptive_weight(likelihood: Tensor, generator: Tensor) -> Float[Tensor, ""]:
    """‖∇ nll‖ / (‖∇ g‖ + 10⁻⁴), at most 10⁴: both parts move the decoder's last layer alike (Esser et al. 2021, eq. 7).

    Args:
        likelihood: the gradient of the negative log-likelihood with respect to the weight of the last layer.
        generator: that of the generator's loss.

    >>> float(adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])).round(decimals=3))
    2.5
    """
    ratio: Tensor = likelihood.norm() / (generator.norm() + LEAST)
    return ratio.clamp(max=MOST).detach()
