"""What a network's config is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from snrise._errors import invalid, require
from snrise._typing import Size


class NetworkConfig(ABC):
    """A frozen dataclass whose fields are a network's settings."""

    @property
    @abstractmethod
    def divisor(self) -> int:
        """What an image's height and width must be multiples of."""

    @abstractmethod
    def build(self, classes: int | None) -> nn.Module:
        """The network: `network(z, logsnr, labels)`, with the attribute `classes`."""


def check_size(z: Tensor, divisor: int, channels: int) -> None:
    """Raise unless the image has `channels`, and sides that are multiples of `divisor`."""
    _, c, h, w = z.shape
    require(c == channels, "network.image", f"{c} channels", f"{channels} channels")
    check_sides((h, w), divisor)


def check_sides(image: Size, divisor: int, where: str = "network.image") -> None:
    """Raise unless both sides are multiples of `divisor`; name the nearest sizes that are."""
    if any(side % divisor for side in image):
        low = [max(divisor, side // divisor * divisor) for side in image]
        high = [-(-side // divisor) * divisor for side in image]
        raise invalid(where, f"{image[0]}x{image[1]}", f"sides that are multiples of {divisor}",
                      f"nearest: {low[0]}x{low[1]} or {high[0]}x{high[1]}")
