"""Networks: `network(z, logsnr, labels)` -> a prediction of z's shape. They know tensors, not diffusion."""

import torch
from torch import nn

from snrise.networks.base import NetworkConfig
from snrise.networks.uvit import Kind, Level, UViT, UViTConfig

__all__ = ["NETWORKS", "Kind", "Level", "NetworkConfig", "UViT", "UViTConfig", "build"]

#: Every network's config by the name that a config gives it.
NETWORKS: dict[str, type[NetworkConfig]] = {"uvit": UViTConfig}


def build(config: NetworkConfig, classes: int | None = None, device: torch.device | str | None = None) -> nn.Module:
    """The network that a config describes, with `classes` classes and a null class, or without any.

    On the device "meta" it costs no memory.

    >>> network = build(UViTConfig(levels=(Level(channels=32, blocks=1), Level(channels=64, blocks=2))))
    >>> network(torch.zeros(1, 3, 24, 16), torch.zeros(1)).shape
    torch.Size([1, 3, 24, 16])
    """
    with torch.device(device or torch.get_default_device()):
        return config.build(classes)
