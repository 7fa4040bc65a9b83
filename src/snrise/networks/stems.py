"""How an image enters and leaves a network: down-sampled at once in the first layer, up-sampled in the last."""

from torch import Tensor, nn
from torch.nn import functional as F

from snrise._typing import Size
from snrise.networks.layers import zero


def factor_for(image: Size, side: int = 32) -> int:
    """The smallest power of two that brings an image's short side to at most `side` cells.

    >>> factor_for((256, 384))
    8
    """
    return 1 << max(0, -(-min(image) // side) - 1).bit_length()


class PatchStem(nn.Module):
    """A convolution of stride `factor` in, its mirror image out: [b image h w] <-> [b channels h/factor w/factor].

    `factor` 1 is a 3×3 convolution. Hoogeboom et al. 2023, sec. 3.2.
    """

    def __init__(self, image_channels: int, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        kernel = 3 if factor == 1 else factor
        self.enter = nn.Conv2d(image_channels, channels, kernel, stride=factor, padding=1 if factor == 1 else 0)
        out = image_channels * factor**2
        self.leave = zero(nn.Conv2d(channels, out, 3, padding=1))

    def down(self, z: Tensor) -> Tensor:
        out: Tensor = self.enter(z)
        return out

    def up(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(self.leave(h), self.factor)
