"""U-ViT: a convolutional U-Net down to the lowest resolution, a transformer there; also as a residual network.

Hoogeboom et al. 2023, sec. 3.2 and fig. 5; residual: Hoogeboom et al. 2024 (SiD2), sec. 4.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snrise._typing import StrEnum
from snrise.networks.base import StageShape, Way
from snrise.networks.layers import Down, Up, group_norm
from snrise.networks.leveled import LeveledConfig, LeveledNetwork
from snrise.networks.levels import Stage


class Skip(StrEnum):
    """How a level's way up takes in its way down.

    `concat`: both side by side through a 1×1 convolution. `residual`: h = up(h_mid − h_down) + h_high, so that the
    lower levels add to the higher one what they have changed.
    """

    CONCAT = "concat"
    RESIDUAL = "residual"


@dataclass(frozen=True, kw_only=True)
class UViTConfig(LeveledConfig):
    """Levels with as many blocks on the way up as on the way down, the lowest once; `skip` joins the two ways."""

    skip: Skip = Skip.CONCAT

    def stages(self) -> tuple[StageShape, ...]:
        """The stages in order."""
        lowest = len(self.levels) - 1
        enters = [[f"downs.{i - 1}"] if i else [] for i in range(lowest + 1)]
        return (
            *(self.stage(i, Way.DOWN, [*enters[i], f"down_stages.{i}"]) for i in range(lowest)),
            self.stage(lowest, Way.MIDDLE, [*enters[lowest], "middle"]),
            *(self.stage(i, Way.UP, [f"{part}.{i}" for part in ("ups", "merges", "up_stages")])
              for i in reversed(range(lowest))),
        )

    def build(self, classes: int | None) -> "UViT":
        """The network."""
        return UViT(self, classes)


class UViT(LeveledNetwork):
    """The network of a `UViTConfig`."""

    def __init__(self, config: UViTConfig, classes: int | None = None) -> None:
        super().__init__(config, classes)
        levels, width, context = config.levels, config.embedding, config.context
        pairs = list(itertools.pairwise(levels))
        self.down_stages = nn.ModuleList(Stage(level, width, context) for level in levels[:-1])
        self.downs = nn.ModuleList(Down(a.channels, b.channels) for a, b in pairs)
        self.middle = Stage(levels[-1], width, context)
        self.ups = nn.ModuleList(Up(b.channels, a.channels) for a, b in pairs)
        self.residual = config.skip is Skip.RESIDUAL
        self.merges = nn.ModuleList(
            nn.Identity() if self.residual else nn.Conv2d(2 * level.channels, level.channels, 1)
            for level in levels[:-1]
        )
        self.up_stages = nn.ModuleList(Stage(level, width, context) for level in levels[:-1])
        self.norm = group_norm(levels[0].channels)
        self.to(memory_format=torch.channels_last)

    def trunk(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        skips = []
        for stage, down in zip(self.down_stages, self.downs, strict=True):
            high = stage(h, emb, context)
            h = down(high)
            skips.append((high, h))
        h = self.middle(h, emb, context)
        for up, merge, stage in reversed(list(zip(self.ups, self.merges, self.up_stages, strict=True))):
            high, low = skips.pop()
            h = up(h - low) + high if self.residual else merge(torch.cat([up(h), high], dim=1))
            h = stage(h, emb, context)
        return h
