"""Self-attention over the cells of a feature map, with rotary positions, and cross-attention to context vectors."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise.cpu import EPS, QkNormRotaryGelu, attend


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a cached inference tensor could not be used in training
def axial_angles(height: int, width: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of axial rotary positions, [h·w head] each: half of the pairs (i, i + head/2) rotate by row.

    The first half of the sines is negated, as a rotation needs it. Frequencies are geometric from π to π/100 radians a
    cell, so they do not depend on the image's size. Su et al. 2021 (RoPE); two axes as in Crowson et al. 2024, sec. 3.
    """
    pairs = head // 4
    frequencies = torch.pi * 10.0 ** (-2 * torch.arange(pairs, device=device, dtype=torch.float32) / max(pairs, 1))
    rows = torch.arange(height, device=device)[:, None, None] * frequencies
    columns = torch.arange(width, device=device)[None, :, None] * frequencies
    angles = torch.cat([rows.expand(height, width, pairs), columns.expand(height, width, pairs)], dim=-1)
    angles = angles.reshape(height * width, 2 * pairs)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def qk_norm_rotary_gelu(p: Tensor, scales: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Split a projection [b n 3c + m] into queries, keys and values [b heads n head], and GELU of the rest [b n m].

    Queries and keys are RMS-normalised, multiplied by `scales` [2 head] and rotated by their position's angles, `cos`
    and `sin` [n head]. `cpu.QkNormRotaryGelu` is the same with a backward pass of its own.
    """
    head = scales.shape[1]
    qkv, rest = p[..., : 3 * heads * head], p[..., 3 * heads * head :]
    q, k, v = qkv.view(*p.shape[:2], 3, heads, head).permute(2, 0, 3, 1, 4)
    q, k = (F.rms_norm(x, (head,), scale.to(x.dtype), EPS) for x, scale in zip((q, k), scales, strict=True))
    q, k = (x * cos.to(x.dtype) + x.roll(head // 2, dims=-1) * sin.to(x.dtype) for x in (q, k))
    return q, k, v, F.gelu(rest)


class Attention(nn.Module):
    """Queries, keys and values [b n 3c] over an h×w grid -> [b n c]: qk-norm, axial rotary positions, softmax.

    If n is more than h·w, the first tokens stand outside the grid and have no position.
    """

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.heads, self.head = channels // head, head
        self.query_scale = nn.Parameter(torch.ones(head))
        self.key_scale = nn.Parameter(torch.ones(head))

    def forward(self, qkv: Tensor, size: tuple[int, int]) -> Tensor:
        return self.with_mlp(qkv, size)[0]

    def with_mlp(self, p: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Attention from the first 3c channels of [b n 3c + m], and GELU of the others [b n m]."""
        b, n, _ = p.shape
        cos, sin = axial_angles(*size, self.head, p.device)
        if (before := n - len(cos)) > 0:
            cos, sin = F.pad(cos, (0, 0, before, 0), value=1.0), F.pad(sin, (0, 0, before, 0))
        scales = torch.stack([self.query_scale, self.key_scale])
        # A compiler fuses the plain operations by itself.
        split = qk_norm_rotary_gelu if torch.compiler.is_compiling() else QkNormRotaryGelu.apply
        q, k, v, rest = split(p, scales, cos, sin, self.heads)
        return attend(q, k, v).transpose(1, 2).reshape(b, n, self.heads * self.head), rest


class CrossAttention(nn.Module):
    """Attention of tokens [b n c] to context vectors [b m d], added to the tokens; initialised as the identity."""

    def __init__(self, channels: int, context: int, head: int) -> None:
        super().__init__()
        self.heads, self.head = channels // head, head
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(context, 2 * channels)
        self.query_scale = nn.Parameter(torch.ones(head))
        self.key_scale = nn.Parameter(torch.ones(head))
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        q = self._heads(self.query(F.layer_norm(h, h.shape[-1:])))
        k, v = (self._heads(part) for part in self.key_value(context).chunk(2, dim=-1))
        q = F.rms_norm(q, (self.head,), self.query_scale.to(q.dtype))
        k = F.rms_norm(k, (self.head,), self.key_scale.to(k.dtype))
        attended = attend(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = h + self.out(attended)
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """[b n c] -> [b heads n head]."""
        return x.view(*x.shape[:-1], self.heads, self.head).transpose(1, 2)
