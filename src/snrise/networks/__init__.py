"""Networks: `network(z, logsnr, labels)` -> a prediction of z's shape. They know tensors, not diffusion."""

import torch
from torch import nn

from snrise._errors import unknown
from snrise.networks.base import External, NetworkConfig, StageShape, Traits
from snrise.networks.cost import Cost, cost
from snrise.networks.levels import Kind, Level
from snrise.networks.nested import Nested, NestedConfig
from snrise.networks.presets import PRESETS
from snrise.networks.stems import Stem
from snrise.networks.unet import UNet, UNetConfig
from snrise.networks.uvit import Skip, UViT, UViTConfig
from snrise.networks.vit import ViT, ViTConfig

__all__ = [
    "NETWORKS", "PRESETS", "Cost", "External", "Kind", "Level", "Nested", "NestedConfig", "NetworkConfig", "Skip",
    "StageShape", "Stem", "Traits", "UNet", "UNetConfig", "UViT", "UViTConfig", "ViT", "ViTConfig", "build", "cost",
]

#: Every network's config by the name that a config gives it.
NETWORKS: dict[str, type[NetworkConfig]] = {
    "nested": NestedConfig, "uvit": UViTConfig, "unet": UNetConfig, "vit": ViTConfig,
}


def build(
    config: NetworkConfig | str, classes: int | None = None, device: torch.device | str | None = None
) -> nn.Module:
    """The network that a config or the name of a preset describes, with `classes` classes and a null class, or without.

    On the device "meta" it costs no memory.

    >>> network = build(UViTConfig(levels=(Level(channels=32, blocks=1), Level(channels=64, blocks=2))))
    >>> network(torch.zeros(1, 3, 24, 16), torch.zeros(1)).shape
    torch.Size([1, 3, 24, 16])
    >>> sum(p.numel() for p in build("jit-b-256", classes=1000, device="meta").parameters()) // 10**6
    131
    """
    if isinstance(config, str):
        if config not in PRESETS:
            raise unknown("networks.build", config, PRESETS, "preset")
        config = PRESETS[config]
    with torch.device(device or torch.get_default_device()):
        return config.build(classes)
