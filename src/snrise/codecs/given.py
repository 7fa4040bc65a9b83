"""Codes of an autoencoder that is at hand, of any class of diffusers; `Autoencoder` is one by its path."""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from snrise._typing import Images, Pictures, Size
from snrise.codecs.base import Codec
from snrise.data import as_float, to_uint8
from snrise.networks.base import check_sides

__all__ = ["Given", "codes_of", "decoded", "encoded"]

#: Pixels that are encoded or decoded at a time; images of a longer side are decoded in tiles of this side.
AT_ONCE, TILE = 2**20, 1024


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Given(Codec):
    """Codes of a network, each channel with the mean 0 and the variance 1.

    Attributes:
        network: of diffusers, with `encode` and `decode`.
        mean: of each channel of its own codes.
        std: the standard deviation of each channel.
        factor: how many times smaller the side of a code is.
    """

    network: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    factor: int

    @property
    def range(self) -> None:
        """Codes have no bounds."""
        return

    def shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, and the size over the autoencoder's factor."""
        check_sides(size, self.factor, "Given.shape")
        return len(self.std), size[0] // self.factor, size[1] // self.factor

    def encode(self, pictures: Pictures) -> Float[Tensor, "b c y x"]:
        """Codes, on the pictures' device, without gradients."""
        raw = encoded(self.network, pictures)
        return (raw - _each(self.mean, raw)) / _each(self.std, raw)

    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """Pictures of codes, a few at a time; those of a side above 1,024 pixels in tiles where the class has them."""
        return decoded(self.network, x * _each(self.std, x) + _each(self.mean, x), self.factor)


def _each(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


@torch.no_grad()
def encoded(network: Any, pictures: Pictures) -> Float[Tensor, "b c y x"]:
    """Codes as the network has them, of a few pictures at a time."""
    parts = torch.split(as_float(pictures), max(1, AT_ONCE // (pictures.shape[-2] * pictures.shape[-1])))
    return torch.cat([codes_of(network.encode(part)) for part in parts]).float()


@torch.no_grad()
def decoded(network: Any, codes: Tensor, factor: int) -> UInt8[Tensor, "b 3 H W"]:
    """Pictures of codes as the network has them, a few at a time."""
    height, width = (factor * side for side in codes.shape[-2:])
    if max(height, width) > TILE and hasattr(network, "enable_tiling"):
        network.enable_tiling()
    parts = torch.split(codes, max(1, AT_ONCE // (height * width)))
    return torch.cat([to_uint8(network.decode(part).sample.float()) for part in parts])


def codes_of(told: Any) -> Tensor:
    """Codes in what diffusers' classes return: the mean of a distribution, `latent` or `latents`."""
    if hasattr(told, "latent_dist"):
        mean: Tensor = told.latent_dist.mode()
        return mean
    codes: Tensor = told.latents if hasattr(told, "latents") else told.latent
    return codes
