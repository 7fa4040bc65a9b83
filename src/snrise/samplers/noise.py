"""A generator per image, so that samples do not depend on the batch size."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from snrise._errors import invalid

__all__ = ["Generators", "generators", "normal_like"]

#: One generator for the batch, or one an image; None is torch's global one.
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


def generators(seed: int, first: int, count: int, device: torch.device | str = "cpu") -> list[torch.Generator]:
    """The generators of images number first … first+count−1 of a seed: image i has the same one in any batch.

    >>> a, b = generators(0, 0, 4)[3], generators(0, 3, 1)[0]
    >>> torch.equal(torch.randn(2, generator=a), torch.randn(2, generator=b))
    True
    """
    # An odd multiplier spreads neighbouring seeds over the 64-bit range.
    base = seed * 0x9E3779B97F4A7C15 + first
    return [torch.Generator(device).manual_seed((base + i) % 2**63) for i in range(count)]


def normal_like(like: Tensor, generator: Generators) -> Tensor:
    """White noise of the shape, dtype and device of `like` [b c h w]; drawn in float32, on each generator's device."""
    if generator is None or isinstance(generator, torch.Generator):
        device = like.device if generator is None else generator.device
        return torch.randn(like.shape, generator=generator, device=device).to(like)
    if len(generator) != len(like):
        raise invalid("sampler.generator", f"{len(generator)} generators", f"one for each of {len(like)} images")
    return torch.stack([torch.randn(like.shape[1:], generator=g, device=g.device) for g in generator]).to(like)
