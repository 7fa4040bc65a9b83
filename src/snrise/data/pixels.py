"""Between stored pixels (uint8, 0…255) and the network's (float32, -1…1)."""

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from snrise._errors import require


def to_float(pixels: UInt8[Tensor, "..."]) -> Float32[Tensor, "..."]:
    """uint8 0…255 to float32 -1…1, any shape: 0 is -1, 255 is 1.

    >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([-1.0000, -0.6000,  1.0000])
    """
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Float -1…1 to the nearest uint8 0…255, any shape; what lies outside -1…1 is clamped, NaN is an error.

    `to_uint8(to_float(x)) == x` for every x.

    >>> to_uint8(torch.tensor([-1.5, -0.6, 0.0, 1.0]))
    tensor([  0,  51, 128, 255], dtype=torch.uint8)
    """
    require(not bool(images.isnan().any()), "data.to_uint8", "an image with NaN", "numbers", "did the network diverge?")
    return ((images.to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def as_float(images: UInt8[Tensor, "..."] | Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """`to_float` of uint8 images; floats, which are in -1…1 already, as they are."""
    return to_float(images) if images.dtype == torch.uint8 else images


def as_uint8(images: UInt8[Tensor, "..."] | Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """`to_uint8` of floats in -1…1; uint8 images as they are."""
    return images if images.dtype == torch.uint8 else to_uint8(images)
