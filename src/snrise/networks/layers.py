"""Building blocks: convolutional, transformer, down- and upsampling."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._typing import Size
from snrise.cpu import TokenLinear
from snrise.networks.attention import Attention


def zero(module: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Initialise with zeros, so that a residual branch is zero at first."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class Film(nn.Module):
    """A conditioning vector -> x·(1 + scale) + shift, per channel. Starts as the identity."""

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.project = zero(nn.Linear(embedding, 2 * channels))

    def forward(self, emb: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.project(emb).chunk(2, dim=1)
        return 1 + scale, shift


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of 16 channels or more, at most 32 groups."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and channels // g >= min(16, channels))
    return nn.GroupNorm(groups, channels)


class RmsNorm(nn.RMSNorm):
    """RMS norm over the last axis, in the precision of its input: autocast knows no rule for it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class ConvBlock(nn.Module):
    """GN–swish–conv3, GN·(1+scale)+shift–swish–dropout–conv3 (zero), added to the input: [b c h w] -> the same.

    A skip stands beside the input. An input of another width, `enters`, is added through a 1×1 convolution. Hoogeboom
    et al. 2023, app. B.
    """

    def __init__(
        self, channels: int, embedding: int, dropout: float, head: int | None = None, enters: int | None = None
    ) -> None:
        super().__init__()
        enters = channels if enters is None else enters
        self.norm1, self.norm2 = group_norm(enters), group_norm(channels)
        self.conv1 = nn.Conv2d(enters, channels, 3, padding=1)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.film = Film(embedding, channels)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = None if enters == channels else nn.Conv2d(enters, channels, 1)
        self.attention = None if head is None else ConvAttention(channels, head)

    def forward(self, h: Tensor, emb: Tensor, *skip: Tensor) -> Tensor:
        h = torch.cat([h, *skip], dim=1) if skip else h
        scale, shift = self.film(emb)
        r = self.norm2(self.conv1(F.silu(self.norm1(h))))
        r = torch.addcmul(shift[:, :, None, None], r, scale[:, :, None, None])
        h = h if self.shortcut is None else self.shortcut(h)
        h = h + self.conv2(self.dropout(F.silu(r)))
        return h if self.attention is None else self.attention(h)


class CellNorm(nn.Module):
    """Layer norm over the channels of each cell by itself: [b c h w] -> the same, channels-last in memory."""

    def forward(self, h: Tensor) -> Tensor:
        return F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)


class LocalBlock(nn.Module):
    """CellNorm–conv3, ·(1+scale)+shift–swish–dropout–conv3 (zero), added to the input: [b c h w] -> the same.

    The receptive field is two cells, for the norm too: a crop gives the same as the whole image.
    """

    def __init__(self, channels: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = CellNorm()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.film = Film(embedding, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.film(emb)
        r = torch.addcmul(shift[:, :, None, None], self.conv1(self.norm(h)), scale[:, :, None, None])
        out: Tensor = h + self.conv2(self.dropout(F.silu(r)))
        return out


class ConvAttention(nn.Module):
    """Self-attention of a conv level, added to the input: [b c h w] -> the same."""

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = TokenLinear(channels, 3 * channels)
        self.attention = Attention(channels, head)
        self.out = zero(TokenLinear(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        tokens = to_tokens(self.norm(h))
        size = (h.shape[2], h.shape[3])
        return h + from_tokens(self.out(self.attention(self.qkv(tokens), size)), size)


class TransformerBlock(nn.Module):
    """Attention and MLP side by side behind one norm and one FiLM, added to the input: tokens [b n c] -> the same.

    One matrix product in and one out: the parallel block of Dehghani et al. 2023 with the conditioning of
    Hoogeboom et al. 2024.
    """

    def __init__(self, channels: int, embedding: int, dropout: float, head: int, expansion: int = 4) -> None:
        super().__init__()
        self.film = Film(embedding, channels)
        self.enter = TokenLinear(channels, (3 + expansion) * channels)
        self.attention = Attention(channels, head)
        self.dropout = nn.Dropout(dropout)
        self.leave = zero(TokenLinear(channels + expansion * channels, channels))

    def forward(self, h: Tensor, emb: Tensor, size: tuple[int, int]) -> Tensor:
        scale, shift = self.film(emb)
        r = F.layer_norm(h, h.shape[-1:])
        r = torch.addcmul(shift[:, None], r, scale[:, None])
        r = torch.cat(self.attention.with_mlp(self.enter(r), size), dim=-1)
        out: Tensor = h + self.leave(self.dropout(r))
        return out


def on_tokens(
    block: nn.Module, across: nn.Module | None, context: Tensor | None, size: Size, tokens: Tensor, emb: Tensor
) -> Tensor:
    """A block of tokens [b n c], then its attention to the context, if it has one."""
    out: Tensor = block(tokens, emb, size)
    return out if across is None else across(out, context)


class Down(nn.Module):
    """Halve the side: 2×2 average, then a 1×1 convolution to the next width."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, out, 1)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.project(F.avg_pool2d(h, 2))
        return out


class Up(nn.Module):
    """Double the side: a 1×1 convolution to the width above (while it is still cheap), then nearest neighbours."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, out, 1)

    def forward(self, h: Tensor) -> Tensor:
        return F.interpolate(self.project(h), scale_factor=2.0, mode="nearest")


def to_tokens(h: Tensor) -> Tensor:
    """[b c h w] -> [b h·w c]; no copy where the memory is channels-last."""
    return h.permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """[b h·w c] -> [b c h w], channels-last in memory."""
    return tokens.view(len(tokens), *size, -1).permute(0, 3, 1, 2)
