"""Self-attention over the pixels of a feature map, with positions that need no table."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a cached inference tensor could not be used in training
def axial_angles(height: int, width: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of axial rotary positions, each [h·w, head/2]: half the pairs turn by the row.

    Frequencies are geometric from π to π/100 radians a cell, so they do not depend on the image's size.
    Su et al. 2021 (RoPE); two axes as in Crowson et al. 2024, sec. 3.
    """
    pairs = head // 4
    frequencies = torch.pi * 10.0 ** (-2 * torch.arange(pairs, device=device, dtype=torch.float32) / max(pairs, 1))
    rows = torch.arange(height, device=device)[:, None, None] * frequencies
    columns = torch.arange(width, device=device)[None, :, None] * frequencies
    angles = torch.cat([rows.expand(height, width, pairs), columns.expand(height, width, pairs)], dim=-1)
    angles = angles.reshape(height * width, 2 * pairs)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + head/2]) by their angles: [b heads n head] -> the same."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


#: So many tokens are few.
FEW = 128


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, [b heads n head] each.

    On a CPU, small maps are faster as plain matrix products: with 64 tokens of bfloat16, 1.5 ms instead of 2 forward
    and 3.6 instead of 16 backward, for a batch of 32 with 8 heads of 32.
    """
    if q.device.type != "cpu" or q.shape[2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype) @ v


class Attention(nn.Module):
    """Queries, keys and values [b n 3c] over an h×w grid -> [b n c]: qk-norm, axial rotary positions, softmax.

    Tokens before the grid's, if n is more than h·w, have no position.
    """

    def __init__(self, channels: int, head: int) -> None:
        super().__init__()
        self.heads, self.head = channels // head, head
        self.query_scale = nn.Parameter(torch.ones(head))
        self.key_scale = nn.Parameter(torch.ones(head))

    def forward(self, qkv: Tensor, size: tuple[int, int]) -> Tensor:
        b, n, _ = qkv.shape
        q, k, v = qkv.view(b, n, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
        cos, sin = axial_angles(*size, self.head, qkv.device)
        if (before := n - len(cos)) > 0:
            cos, sin = F.pad(cos, (0, 0, before, 0), value=1.0), F.pad(sin, (0, 0, before, 0))
        q = rotate(F.rms_norm(q, (self.head,), self.query_scale.to(q.dtype)), cos, sin)
        k = rotate(F.rms_norm(k, (self.head,), self.key_scale.to(k.dtype)), cos, sin)
        out = attend(q, k, v)
        return out.transpose(1, 2).reshape(b, n, self.heads * self.head)


class CrossAttention(nn.Module):
    """Attention of tokens [b n c] to context vectors [b m d], added to the tokens; starts as nothing."""

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
