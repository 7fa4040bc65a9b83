"""Shapes as types.

The letters: b images in a batch, c channels, h height, w width (pixels), n samples, d features.
"""

import sys
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float, Int, UInt8
from torch import Tensor

if sys.version_info >= (3, 11):
    from enum import StrEnum
else:
    from enum import Enum

    class StrEnum(str, Enum):
        """`enum.StrEnum` for Python 3.10."""

        __str__ = str.__str__


__all__ = [
    "Images", "Labels", "LogSnr", "Network", "PerImage", "Pictures", "Scalars", "Size", "StrEnum", "type_name",
]

Images: TypeAlias = Float[Tensor, "b c h w"]
#: RGB as it is stored and shown: uint8, or floats in −1…1 for more precision.
Pictures: TypeAlias = UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]
LogSnr: TypeAlias = Float[Tensor, " b"]
PerImage: TypeAlias = Float[Tensor, " b"]
#: Times or noise levels of any shape.
Scalars: TypeAlias = Float[Tensor, "..."]
Labels: TypeAlias = Int[Tensor, " b"]
Size: TypeAlias = tuple[int, int]


@runtime_checkable
class Network(Protocol):
    """What snrise trains: z, λ and labels -> a prediction of z's shape. It knows tensors, not diffusion.

    One that attends to context vectors takes them as a fourth argument.
    """

    def __call__(self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None, /, *context: Tensor) -> Tensor: ...


def type_name(thing: object) -> str:
    """Module and name of a thing's type, as settings say it.

    >>> type_name({})
    'builtins.dict'
    """
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
