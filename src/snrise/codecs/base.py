"""What a codec is: the one place that knows what is diffused, and in which range."""

from abc import ABC, abstractmethod

from jaxtyping import Float32, UInt8
from torch import Tensor

from snrise._typing import Images, Pictures, Size


class Codec(ABC):
    """A frozen dataclass: from pictures, RGB, to what the network diffuses, and back."""

    @property
    @abstractmethod
    def range(self) -> tuple[float, float] | None:
        """Within which bounds encoded values lie; None for no bounds."""

    @abstractmethod
    def shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of an encoded picture of this height and width."""

    @abstractmethod
    def encode(self, pictures: Pictures) -> Float32[Tensor, "b c y x"]:
        """[b 3 h w] -> [b *shape(h, w)], on the device that the pictures are on."""

    @abstractmethod
    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """The inverse, up to rounding: what is out of range is clamped; NaN is an error."""
