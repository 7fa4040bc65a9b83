"""A plain transformer on large patches, for x-prediction. Li and He 2025 (JiT, arXiv 2511.13720)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import require
from snrise._typing import Images, Labels, LogSnr
from snrise.cpu import TokenLinear
from snrise.networks.attention import Attention, CrossAttention
from snrise.networks.base import NetworkConfig, StageShape, Way, check_context, check_size, names_within
from snrise.networks.embeddings import Conditioning
from snrise.networks.layers import RmsNorm, from_tokens, on_tokens, to_tokens, zero
from snrise.networks.recomputing import recomputed


@dataclass(frozen=True, kw_only=True)
class ViTConfig(NetworkConfig):
    """`depth` blocks of `width` on patches of `patch`×`patch` pixels, which enter through `bottleneck` numbers.

    With classes, `class_tokens` tokens of the class stand before those of the image from block `class_tokens_from` on.
    `context` is the width of context vectors, for a network with cross-attention. With `checkpoint`, training keeps of
    each block what enters it and computes the rest anew on the way back.
    """

    width: int
    depth: int
    patch: int
    head: int = 64
    bottleneck: int = 128
    class_tokens: int = 32
    class_tokens_from: int = 4
    dropout: float = 0.0
    checkpoint: bool = False
    context: int | None = None
    image_channels: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "depth", "patch", "bottleneck", "image_channels", "context"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"ViTConfig.{name}", value, "a whole number above 0")
        for name in ("class_tokens", "class_tokens_from"):
            require(getattr(self, name) >= 0, f"ViTConfig.{name}", getattr(self, name), "a whole number, 0 or more")
        require(0 <= self.dropout < 1, "ViTConfig.dropout", self.dropout, "a number in [0, 1)")
        divides = self.head >= 4 and self.head % 4 == 0
        require(divides, "ViTConfig.head", self.head, "a multiple of 4 (two axes of rotary pairs)")
        fix = f"use {max(1, self.width // self.head) * self.head}"
        require(self.width % self.head == 0, "ViTConfig.width", self.width, f"a multiple of head={self.head}", fix)

    @property
    def divisor(self) -> int:
        """The image's height and width must be multiples of this."""
        return self.patch

    @property
    def features(self) -> tuple[int, int]:
        return self.width, self.patch

    @property
    def patch_parameters(self) -> tuple[str, ...]:
        return ("enter.0.", "leave.")

    def stages(self) -> tuple[StageShape, ...]:
        """The stages in order."""
        parts = tuple(f"{part}.{i}" for part in ("blocks", "across") for i in range(self.depth))
        return (StageShape(self.patch, self.width, self.depth, "transformer", Way.MIDDLE, parts, "checkpoint"),)

    def build(self, classes: int | None) -> "ViT":
        """The network."""
        return ViT(self, classes)


class Block(nn.Module):
    """Attention, then a gated MLP (SwiGLU), each normed, scaled, shifted and gated by the condition; starts as nothing.

    Tokens [b n c] -> the same. The gates are those of Peebles and Xie 2023 (adaLN-Zero).
    """

    def __init__(self, width: int, head: int, dropout: float) -> None:
        super().__init__()
        hidden = int(width * 4 * 2 / 3)
        self.modulation = zero(nn.Linear(width, 6 * width))
        self.norm1, self.norm2 = RmsNorm(width, 1e-6), RmsNorm(width, 1e-6)
        self.qkv, self.out = TokenLinear(width, 3 * width), TokenLinear(width, width)
        self.attention = Attention(width, head)
        self.enter, self.leave = TokenLinear(width, 2 * hidden), TokenLinear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, emb: Tensor, size: tuple[int, int]) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(emb)[:, None].chunk(6, dim=-1)
        r = torch.addcmul(shift1, self.norm1(h), 1 + scale1)
        h = torch.addcmul(h, gate1, self.out(self.attention(self.qkv(r), size)))
        r = torch.addcmul(shift2, self.norm2(h), 1 + scale2)
        gate, value = self.enter(r).chunk(2, dim=-1)
        return torch.addcmul(h, gate2, self.leave(self.dropout(F.silu(gate) * value)))


class ViT(nn.Module):
    """z [b c h w], λ [b], labels [b], context [b m d] -> a prediction [b c h w].

    `labels` are class indices, `classes` being the null class; None is the null class for all. The output is zero at
    initialisation.
    """

    def __init__(self, config: ViTConfig, classes: int | None = None) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        width, numbers = config.width, config.image_channels * config.patch**2
        self.conditioning = Conditioning(width, classes)
        narrow = config.bottleneck
        self.enter = nn.Sequential(TokenLinear(numbers, narrow, bias=False), TokenLinear(narrow, width))
        tokens = config.class_tokens if classes is not None else 0
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width)) if tokens else None
        self.blocks = nn.ModuleList(Block(width, config.head, config.dropout) for _ in range(config.depth))
        across = () if config.context is None else range(config.depth)
        self.across = nn.ModuleList(CrossAttention(width, config.context or 1, config.head) for _ in across)
        self.modulation = zero(nn.Linear(width, 2 * width))
        self.norm = RmsNorm(width, 1e-6)
        self.leave = zero(TokenLinear(width, numbers))

    @property
    def edges(self) -> frozenset[str]:
        """Parameters that are not matrices within the network: see `Traits.edges`."""
        modulations = (block.modulation for block in self.blocks if isinstance(block, Block))
        ends = (self.conditioning, self.enter, self.positions, self.modulation, self.leave)
        return names_within(self, *ends, *modulations)

    def forward(
        self, z: Images, logsnr: LogSnr, labels: Labels | None = None, context: Tensor | None = None
    ) -> Images:
        return self.with_features(z, logsnr, labels, context)[0]

    def with_features(
        self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and the features before the last layer: see `NetworkConfig.features`."""
        check_size(z, self.config.patch, self.config.image_channels)
        check_context(context, self.config.context)
        emb = self.conditioning(logsnr, labels)
        patches = F.pixel_unshuffle(z, self.config.patch)
        size = (patches.shape[2], patches.shape[3])
        h = self.enter(to_tokens(patches))
        for i, block in enumerate(self.blocks):
            if i == min(self.config.class_tokens_from, self.config.depth - 1) and self.positions is not None:
                h = torch.cat([self._class_tokens(labels, len(z), h), h], dim=1)
            across = self.across[i] if context is not None and self.across else None
            step = partial(on_tokens, block, across, context, size)
            h = (recomputed(step) if self.config.checkpoint else step)(h, emb)
        scale, shift = self.modulation(emb)[:, None].chunk(2, dim=-1)
        h = torch.addcmul(shift, self.norm(h[:, -size[0] * size[1] :]), 1 + scale)
        return F.pixel_shuffle(from_tokens(self.leave(h), size), self.config.patch), from_tokens(h, size)

    def _class_tokens(self, labels: Labels | None, batch: int, like: Tensor) -> Tensor:
        """The class, once for each of its tokens, with their positions: [b tokens width]."""
        assert self.positions is not None
        assert self.conditioning.label is not None
        label: Tensor = self.conditioning.label(labels, batch)
        return (label[:, None] + self.positions).to(like.dtype)
