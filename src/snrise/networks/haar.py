"""The orthonormal Haar transform, one octave: the pooled image and what pooling takes away."""

import torch
from torch import Tensor

from snrise.networks.base import check_sides

__all__ = ["BANDS", "band_variances", "haar", "unhaar"]

#: Across the width (vertical edges), across the height, across both.
BANDS = 3


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """[b c h w] -> the coarse band [b c h/2 w/2], twice the average of each 2×2 square, and details [b 3 c h/2 w/2].

    Orthonormal: white noise of variance 1 is white noise of variance 1 in every band.

    >>> coarse, details = haar(torch.ones(1, 1, 2, 2))
    >>> coarse.item(), details.flatten().tolist()
    (2.0, [0.0, 0.0, 0.0])
    """
    check_sides((x.shape[2], x.shape[3]), 2, "haar.image")
    a, b, c, d = (x[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
    above, below, left, right = a + b, c + d, a - b, c - d
    return (above + below) / 2, torch.stack([left + right, above - below, left - right], dim=1) / 2


def unhaar(coarse: Tensor, details: Tensor) -> Tensor:
    """The image of its bands: undoes `haar`."""
    across, down, both = details.unbind(dim=1)
    above, below, left, right = coarse + down, coarse - down, across + both, across - both
    rows = [torch.stack(pair, dim=-1).flatten(-2) for pair in
            ((above + left, above - left), (below + right, below - right))]
    return torch.stack(rows, dim=-2).flatten(-3, -2) / 2


def band_variances(images: Tensor) -> Tensor:
    """The mean square of each detail band of images in [−1, 1], [b c h w] -> [3], in float64."""
    return haar(images.double())[1].square().mean(dim=(0, 2, 3, 4))
