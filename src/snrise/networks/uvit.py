"""U-ViT: a convolutional U-Net down to the lowest resolution, a transformer there; also as a residual network.

Hoogeboom et al. 2023, sec. 3.2 and fig. 5; residual: Hoogeboom et al. 2024 (SiD2), sec. 4.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._typing import Images, Labels, LogSnr, StrEnum
from snrise.networks.base import StageShape, check_context, check_size
from snrise.networks.embeddings import Conditioning
from snrise.networks.layers import Down, Up, group_norm
from snrise.networks.levels import LeveledConfig, Stage
from snrise.networks.stems import stem


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
        """What an image passes through, in order."""
        way = [level.shape(factor) for level, factor in zip(self.levels, self.factors, strict=True)]
        return (*way, *reversed(way[:-1]))

    def build(self, classes: int | None) -> "UViT":
        """The network."""
        return UViT(self, classes)


class UViT(nn.Module):
    """z [b c h w], λ [b], labels [b], context [b m d] -> a prediction [b c h w].

    `labels` are class numbers, `classes` itself meaning no label; None is no label for all, and no context. It starts
    as zero output.
    """

    def __init__(self, config: UViTConfig, classes: int | None = None) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        levels, width, context = config.levels, config.embedding, config.context
        self.conditioning = Conditioning(width, classes)
        self.stem = stem(config.image_channels, levels[0].channels, config.stem, config.stem_kind)
        pairs = list(itertools.pairwise(levels))
        self.down_stages = nn.ModuleList(Stage(level, width, context) for level in levels[:-1])
        self.downs = nn.ModuleList(Down(a.channels, b.channels) for a, b in pairs)
        self.middle = Stage(levels[-1], width, context)
        self.ups = nn.ModuleList(Up(b.channels, a.channels) for a, b in pairs)
        concat = config.skip is Skip.CONCAT
        self.merges = nn.ModuleList(
            nn.Conv2d(2 * level.channels, level.channels, 1) if concat else nn.Identity() for level in levels[:-1]
        )
        self.up_stages = nn.ModuleList(Stage(level, width, context) for level in levels[:-1])
        self.norm = group_norm(levels[0].channels)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, z: Images, logsnr: LogSnr, labels: Labels | None = None, context: Tensor | None = None
    ) -> Images:
        check_size(z, self.config.divisor, self.config.image_channels)
        check_context(context, self.config.context)
        emb = self.conditioning(logsnr, labels)
        h = self.stem.down(z.contiguous(memory_format=torch.channels_last))
        residual = self.config.skip is Skip.RESIDUAL
        skips = []
        for stage, down in zip(self.down_stages, self.downs, strict=True):
            high = stage(h, emb, context)
            h = down(high)
            skips.append((high, h))
        h = self.middle(h, emb, context)
        for up, merge, stage in reversed(list(zip(self.ups, self.merges, self.up_stages, strict=True))):
            high, low = skips.pop()
            h = up(h - low) + high if residual else merge(torch.cat([up(h), high], dim=1))
            h = stage(h, emb, context)
        out: Tensor = self.stem.up(F.silu(self.norm(h)))
        return out
