"""Initialising a run from the weights of another: at another resolution, with other classes or a larger stem."""

from pathlib import Path

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise.checkpoint import read_part
from snrise.networks import Traits
from snrise.networks.stems import enlarged

__all__ = ["start_from"]


@torch.no_grad()
def start_from(network: nn.Module, path: Path) -> list[str]:
    """Initialise a network from the averaged weights in a checkpoint; returns the parameters that did not match.

    A parameter is initialised from the weights of the same name and shape. Where the other's network is the inner one
    of a nest, all of it goes there, and the outer level is initialised from the parameters that it shares with it by
    name and shape. The first and last layer accept weights for smaller patches too, so that a network can be trained
    further at twice the resolution behind a stem of twice the factor.

    Raises:
        SnriseError: if no weights fit, or the file is no whole checkpoint.
    """
    tensors = read_part(path, "ema")
    parameters, own = dict(network.named_parameters()), list[str]()
    grown = all(f"inner.{name}" in parameters for name in tensors)
    for name, p in parameters.items():
        theirs = name.removeprefix("inner.") if grown else name
        weight = _fitted(network, name, tensors.get(theirs), p)
        if weight is None:
            own.append(name)
        else:
            p.copy_(weight)
    fits = len(own) < len(parameters)
    require(fits, "training.start", str(path), "a checkpoint of a network with like parts", "none of its weights fit")
    return own


def _fitted(network: nn.Module, name: str, weight: Tensor | None, own: Tensor) -> Tensor | None:
    """A weight in the shape of the network's own parameter; None if it does not fit."""
    if weight is None or weight.shape == own.shape:
        return weight
    config = Traits(network).config
    return enlarged(weight.to(own), own, config.image_channels) if name.startswith(config.patch_parameters) else None
