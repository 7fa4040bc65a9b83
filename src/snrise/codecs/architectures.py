"""Autoencoders to train: those of diffusers, with continuous codes near N(0, 1) or with codes from a book."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from snrise._errors import SnriseError, require

__all__ = ["ARCHITECTURES", "KL", "VQ", "Architecture", "diffusers_class"]

#: Channels that are normalised together.
GROUP = 4


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """An autoencoder: an encoder and a decoder of residual convolutions, each level of half the side of the one before.

    Attributes:
        channels: of a code.
        width: the channels of the first level.
        multipliers: of the channels, a level each: their number says by how much codes are smaller than images.
        blocks: residual blocks a level in the encoder; the decoder has one more.
        attention: whether the smallest level attends.
    """

    channels: int = 4
    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    attention: bool = True

    def __post_init__(self) -> None:
        for name in ("channels", "blocks"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "a whole number above 0")
        good = self.width >= GROUP and self.width % GROUP == 0
        require(good, "width", self.width, f"a multiple of {GROUP}, above 0")
        good = len(self.multipliers) >= 1 and min(self.multipliers) >= 1
        require(good, "multipliers", list(self.multipliers), "one or more whole numbers above 0, such as [1, 2, 4, 4]")

    @property
    def factor(self) -> int:
        """How many times smaller the side of codes is than that of images."""
        return int(2 ** (len(self.multipliers) - 1))

    @abstractmethod
    def build(self) -> nn.Module:
        """The network of diffusers, its weights drawn anew.

        Raises:
            SnriseError: without diffusers.
        """

    def _common(self) -> dict[str, Any]:
        levels = len(self.multipliers)
        return {
            "block_out_channels": tuple(self.width * m for m in self.multipliers), "layers_per_block": self.blocks,
            "down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels,
            "latent_channels": self.channels, "norm_num_groups": min(32, self.width // GROUP),
            "mid_block_add_attention": self.attention,
        }


@final
@dataclass(frozen=True, kw_only=True)
class KL(Architecture):
    """`AutoencoderKL`: codes are drawn from a normal distribution that the encoder says (Rombach et al. 2022).

    Attributes:
        divergence: the weight of its KL divergence from N(0, 1), summed over the values of a code.
    """

    divergence: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.divergence >= 0, "divergence", self.divergence, "a number, 0 or more")

    def build(self) -> nn.Module:
        """`diffusers.AutoencoderKL`."""
        made: nn.Module = diffusers_class("AutoencoderKL")(**self._common())
        return made


@final
@dataclass(frozen=True, kw_only=True)
class VQ(Architecture):
    """`VQModel`: codes are the nearest vectors of a book (van den Oord et al. 2017; Esser et al. 2021).

    What is diffused are the vectors before the nearest ones are taken, which the decoder does.

    Attributes:
        book: the number of vectors.
        commitment: the weight of what draws vectors of the encoder to those of the book, β.
        codebook: that of what draws the book to the encoder's. In the code of Rombach et al. the two weights changed
            places: commitment=1, codebook=0.25.
    """

    book: int = 1024
    commitment: float = 0.25
    codebook: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.book >= 2, "book", self.book, "2 vectors or more")
        for name in ("commitment", "codebook"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number, 0 or more")

    def build(self) -> nn.Module:
        """`diffusers.VQModel`."""
        made: nn.Module = diffusers_class("VQModel")(num_vq_embeddings=self.book, **self._common())
        return made


#: Every architecture by the name that a config gives it.
ARCHITECTURES: dict[str, type[Architecture]] = {"kl": KL, "vq": VQ}


def diffusers_class(name: str) -> Callable[..., Any]:
    """A class of diffusers, which is imported when it is first needed."""
    try:
        import diffusers
    except ImportError:
        raise SnriseError("codec: needs diffusers; pip install 'snrise[codec]'") from None
    found: Callable[..., Any] = getattr(diffusers, name)
    return found
