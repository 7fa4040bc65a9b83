"""U-ViT: a convolutional U-Net down to the lowest resolution, a transformer there.

Hoogeboom et al. 2023, sec. 3.2 and fig. 5.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import require, unknown
from snrise._typing import Images, Labels, LogSnr, StrEnum
from snrise.networks.base import NetworkConfig, check_size
from snrise.networks.embeddings import Conditioning
from snrise.networks.layers import ConvBlock, Down, TransformerBlock, Up, from_tokens, group_norm, to_tokens
from snrise.networks.stems import PatchStem


class Kind(StrEnum):
    """What a level's blocks are."""

    CONV = "conv"
    TRANSFORMER = "transformer"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One resolution of the network: `blocks` on the way down and as many on the way up (the lowest: once).

    A transformer level always attends; a conv level does if `attention` is set. `head` is the width of one head.
    """

    channels: int
    blocks: int
    kind: Kind = Kind.CONV
    attention: bool = False
    dropout: float = 0.0
    head: int = 32

    def __post_init__(self) -> None:
        require(self.channels >= 1, "Level.channels", self.channels, "a whole number above 0")
        require(self.blocks >= 0, "Level.blocks", self.blocks, "a whole number, 0 or more")
        require(0 <= self.dropout < 1, "Level.dropout", self.dropout, "a number in [0, 1)")
        if self.kind not in tuple(Kind):
            raise unknown("Level.kind", self.kind, Kind, "kind")
        object.__setattr__(self, "kind", Kind(self.kind))
        if self.attends:
            divides = self.head >= 4 and self.head % 4 == 0
            require(divides, "Level.head", self.head, "a multiple of 4 (two axes of rotary pairs)")
            fix = f"use {max(1, self.channels // self.head) * self.head}"
            whole = self.channels % self.head == 0
            require(whole, "Level.channels", self.channels, f"a multiple of head={self.head}", fix)

    @property
    def attends(self) -> bool:
        return self.attention or self.kind is Kind.TRANSFORMER


@dataclass(frozen=True, kw_only=True)
class UViTConfig(NetworkConfig):
    """`levels` from the highest resolution to the lowest; `stem` is the factor that the first layer down-samples by."""

    levels: tuple[Level, ...]
    stem: int = 1
    embedding: int = 256
    image_channels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        require(len(self.levels) >= 1, "UViTConfig.levels", self.levels, "one level or more")
        for name in ("stem", "embedding", "image_channels"):
            require(getattr(self, name) >= 1, f"UViTConfig.{name}", getattr(self, name), "a whole number above 0")

    @property
    def divisor(self) -> int:
        """What an image's height and width must be multiples of."""
        return int(self.stem * 2 ** (len(self.levels) - 1))

    def build(self, classes: int | None) -> "UViT":
        """The network."""
        return UViT(self, classes)


class Stage(nn.Module):
    """The blocks of one level, in one direction."""

    def __init__(self, level: Level, embedding: int) -> None:
        super().__init__()
        self.kind = level.kind
        head = level.head if level.attends else None
        self.blocks = nn.ModuleList()
        for _ in range(level.blocks):
            if level.kind is Kind.TRANSFORMER:
                self.blocks.append(TransformerBlock(level.channels, embedding, level.dropout, level.head))
            else:
                self.blocks.append(ConvBlock(level.channels, embedding, level.dropout, head))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        if self.kind is Kind.CONV:
            for block in self.blocks:
                h = block(h, emb)
            return h
        size = (h.shape[2], h.shape[3])
        tokens = to_tokens(h)
        for block in self.blocks:
            tokens = block(tokens, emb, size)
        return from_tokens(tokens, size)


class UViT(nn.Module):
    """z [b c h w], λ [b], labels [b] -> a prediction [b c h w].

    `labels` are class numbers, `classes` itself meaning no label; None is no label for all. It starts as zero output.
    """

    def __init__(self, config: UViTConfig, classes: int | None = None) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        levels, width = config.levels, config.embedding
        self.conditioning = Conditioning(width, classes)
        self.stem = PatchStem(config.image_channels, levels[0].channels, config.stem)
        pairs = list(itertools.pairwise(levels))
        self.down_stages = nn.ModuleList(Stage(level, width) for level in levels[:-1])
        self.downs = nn.ModuleList(Down(a.channels, b.channels) for a, b in pairs)
        self.middle = Stage(levels[-1], width)
        self.ups = nn.ModuleList(Up(b.channels, a.channels) for a, b in pairs)
        self.merges = nn.ModuleList(nn.Conv2d(2 * level.channels, level.channels, 1) for level in levels[:-1])
        self.up_stages = nn.ModuleList(Stage(level, width) for level in levels[:-1])
        self.norm = group_norm(levels[0].channels)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Images, logsnr: LogSnr, labels: Labels | None = None) -> Images:
        check_size(z, self.config.divisor, self.config.image_channels)
        emb = self.conditioning(logsnr, labels)
        h = self.stem.down(z.contiguous(memory_format=torch.channels_last))
        skips = []
        for stage, down in zip(self.down_stages, self.downs, strict=True):
            h = stage(h, emb)
            skips.append(h)
            h = down(h)
        h = self.middle(h, emb)
        for up, merge, stage in reversed(list(zip(self.ups, self.merges, self.up_stages, strict=True))):
            h = stage(merge(torch.cat([up(h), skips.pop()], dim=1)), emb)
        return self.stem.up(F.silu(self.norm(h)))
