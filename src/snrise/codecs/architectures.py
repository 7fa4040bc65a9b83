"""Autoencoders to train: those of diffusers, with continuous codes near N(0, 1) or with codes from a book."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from snrise._errors import SnriseError, require
from snrise._typing import Images
from snrise.codecs.regularisation import kl_divergence, quantized

__all__ = ["ARCHITECTURES", "DC", "KL", "VQ", "Architecture", "Coded", "diffusers_class"]

#: Channels that are normalised together.
GROUP = 4


class Coded(NamedTuple):
    """Reconstructions as in training, what the codes add to the loss, and what that is made of, by name."""

    given: Images
    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """An autoencoder: an encoder and a decoder of residual convolutions, each level of half the side of the one before.

    Attributes:
        channels: of a code.
        width: the channels of the first level.
        multipliers: of the channels, a level each: their number says by how much codes are smaller than images.
        blocks: residual blocks a level in the encoder; the decoder has one more.
        attention: whether the smallest level attends.
        summed: whether the source sums the reconstruction over the values of an image, or takes their mean.
        adversarial: the weight that the source gives the critic.
    """

    summed: ClassVar[bool]
    adversarial: ClassVar[float]

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

    def last(self, network: Any) -> Tensor:
        """The weight of the decoder's last layer."""
        weight: Tensor = network.decoder.conv_out.weight
        return weight

    @abstractmethod
    def coded(self, network: Any, x: Images, noise_like: Callable[[Tensor], Tensor]) -> Coded:
        """Images −1…1 [b 3 h w] through the network that `build` made, as they are in training.

        noise_like: noise of N(0, 1) in the shape of codes.
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

    summed: ClassVar[bool] = True
    adversarial: ClassVar[float] = 0.5

    divergence: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.divergence >= 0, "divergence", self.divergence, "a number, 0 or more")

    def build(self) -> nn.Module:
        """`diffusers.AutoencoderKL`."""
        made: nn.Module = diffusers_class("AutoencoderKL")(**self._common())
        return made

    def coded(self, network: Any, x: Images, noise_like: Callable[[Tensor], Tensor]) -> Coded:
        """Of codes that are drawn."""
        told = network.encode(x).latent_dist
        divergence = kl_divergence(told.mean.float(), told.logvar.float())
        codes = told.mean + told.std * noise_like(told.mean)
        return Coded(network.decode(codes).sample, self.divergence * divergence, {"kl": divergence.detach()})


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

    summed: ClassVar[bool] = False
    adversarial: ClassVar[float] = 0.75

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

    def coded(self, network: Any, x: Images, noise_like: Callable[[Tensor], Tensor]) -> Coded:
        """Of the nearest vectors of the book."""
        vectors = network.quantize.embedding.weight
        codes, book, commitment, numbers = quantized(network.encode(x).latents.float(), vectors)
        used = torch.tensor(float(numbers.flatten().bincount().count_nonzero()))
        parts = {"codebook": book.detach(), "commitment": commitment.detach(), "vectors_used": used}
        loss = self.codebook * book + self.commitment * commitment
        return Coded(network.decode(codes, force_not_quantize=True).sample, loss, parts)


@final
@dataclass(frozen=True, kw_only=True)
class DC(Architecture):
    """`AutoencoderDC`: codes of no distribution, and shortcuts past what changes the size (Chen et al. 2024).

    Shortcuts move pixels to channels, and back, from the first step on, so that it needs far less training than the
    others: see docs/latent.md. Where `full` is 0, images are halved in the first layer and doubled in the last: there
    is no block at the full resolution, and its multiplier does not count.

    Attributes:
        full: blocks at the full resolution.
    """

    summed: ClassVar[bool] = True
    adversarial: ClassVar[float] = 0.5

    full: int = 0
    attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.full >= 0, "full", self.full, "a whole number, 0 or more")
        require(len(self.multipliers) >= 2, "multipliers", list(self.multipliers), "two or more, such as [1, 2, 2, 2]")
        pairs = zip(self.multipliers[1:], self.multipliers[2:], strict=False)
        good = all(4 * a % b == 0 and 4 * b % a == 0 for a, b in pairs)
        allowed = "each, from the second on, a quarter, a half, the same, twice or four times the one before"
        require(good, "multipliers", list(self.multipliers), allowed, "such as [1, 2, 4, 4]")
        last = self.width * self.multipliers[-1]
        require(last % self.channels == 0, "channels", self.channels, f"a divisor of {last}, the last level's width")

    def build(self) -> nn.Module:
        """`diffusers.AutoencoderDC`."""
        levels = len(self.multipliers)
        widths = tuple(self.width * m for m in self.multipliers)
        kinds = ("ResBlock",) * (levels - 1) + ("EfficientViTBlock" if self.attention else "ResBlock",)
        scales = ((),) * (levels - 1) + ((5,),)
        made: nn.Module = diffusers_class("AutoencoderDC")(
            latent_channels=self.channels, attention_head_dim=min(32, widths[-1]), encoder_block_types=kinds,
            decoder_block_types=kinds, encoder_block_out_channels=widths, decoder_block_out_channels=widths,
            encoder_layers_per_block=(self.full, *(self.blocks,) * (levels - 1)),
            decoder_layers_per_block=(self.full, *(self.blocks + 1,) * (levels - 1)),
            encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales,
        )
        return made

    def last(self, network: Any) -> Tensor:
        """That before pixels are shuffled, where there are no blocks at the full resolution."""
        layer = network.decoder.conv_out
        weight: Tensor = layer.weight if self.full else layer.conv.weight
        return weight

    def coded(self, network: Any, x: Images, noise_like: Callable[[Tensor], Tensor]) -> Coded:
        """Of codes as they are."""
        return Coded(network.decode(network.encode(x).latent).sample, x.new_zeros((), requires_grad=True), {})


#: Every architecture by the name that a config gives it.
ARCHITECTURES: dict[str, type[Architecture]] = {"kl": KL, "vq": VQ, "dc": DC}


def diffusers_class(name: str, where: str = "codec") -> Callable[..., Any]:
    """A class of diffusers, which is imported when it is first needed; an error begins with `where`."""
    try:
        import diffusers
    except ImportError:
        raise SnriseError(f"{where}: needs diffusers; pip install 'snrise[codec]'") from None
    found: Callable[..., Any] = getattr(diffusers, name)
    return found
