"""Self-attention over the pixels of a feature map, with positions that need no table."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@functools.lru_cache(maxsize=64)
@torch.inference_mode(mode=False)  # a cached inference tensor could not be used in training
def axial_angles(height: int, width: int, head: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of axial rotary positions, each [h·w, head]: half the pairs (i, i + head/2) turn by the row.

    The sine bears the sign that its half has in a rotation. Frequencies are geometric from π to π/100 radians a cell,
    so they do not depend on the image's size. Su et al. 2021 (RoPE); two axes as in Crowson et al. 2024, sec. 3.
    """
    pairs = head // 4
    frequencies = torch.pi * 10.0 ** (-2 * torch.arange(pairs, device=device, dtype=torch.float32) / max(pairs, 1))
    rows = torch.arange(height, device=device)[:, None, None] * frequencies
    columns = torch.arange(width, device=device)[None, :, None] * frequencies
    angles = torch.cat([rows.expand(height, width, pairs), columns.expand(height, width, pairs)], dim=-1)
    angles = angles.reshape(height * width, 2 * pairs)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def swap(x: Tensor) -> Tensor:
    """The halves of the last axis, each in the other's place."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([second, first], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + head/2]) by their angles, or back by those of (cos, -sin): [… head] -> the same."""
    return (x * cos.to(x.dtype)).add_(swap(x) * sin.to(x.dtype))


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


#: What qk-norm adds to a mean square.
EPS = 1e-6


class Parted(torch.autograd.Function):
    """A product [b n 3c + m] -> queries, keys and values [b heads n head], and GELU of the other channels [b n m].

    Queries and keys are divided by their root mean square, multiplied by `scales` [2 head] and turned to their
    positions. The derivative is written out, and can be taken once: autograd would pass three times as often over
    tensors, and on a CPU such passes cost a third as much as the products do.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, scales: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, ...]:
        qkv, rest = Parted.views(p, heads, scales.shape[1])
        x = qkv[:2].contiguous()
        wide = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square()
        inverse = (square / x.shape[-1] + EPS).rsqrt().to(x.dtype)
        y = x * inverse
        turns = [(a[:, None] * table)[:, None, None] for a, table in ((scales, cos), (swap(scales), sin))]
        q, k = rotate(y, *turns)
        ctx.save_for_backward(y, inverse, rest, scales, cos, sin)
        return q, k, qkv[2].contiguous(), F.gelu(rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, inverse, rest, scales, cos, sin = ctx.saved_tensors
        _, b, heads, n, head = y.shape
        grad = rest.new_empty(b, n, 3 * heads * head + rest.shape[-1])
        grad_qkv, grad_rest = Parted.views(grad, heads, head)
        turned = rotate(torch.stack(grads[:2]), cos, -sin)
        by_scale = turned * y
        along = (by_scale.flatten(1, 3) @ scales.to(y.dtype)[:, :, None]).view_as(inverse) / head
        turned.mul_(scales.to(y.dtype)[:, None, None, None])
        grad_qkv[:2] = turned.sub_(y * along).mul_(inverse)
        grad_qkv[2] = grads[2]
        torch.ops.aten.gelu_backward.grad_input(grads[3], rest, grad_input=grad_rest)
        return grad, by_scale.sum(dim=(1, 2, 3), dtype=scales.dtype), None, None, None

    @staticmethod
    def views(p: Tensor, heads: int, head: int) -> tuple[Tensor, Tensor]:
        """Of [b n 3c + m], the heads as [3 b heads n head] and the rest [b n m]."""
        qkv, rest = p[..., : 3 * heads * head], p[..., 3 * heads * head :]
        return qkv.view(*p.shape[:2], 3, heads, head).permute(2, 0, 3, 1, 4), rest


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
        return self.beside(qkv, size)[0]

    def beside(self, p: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The same of [b n 3c + m], and GELU of the other channels [b n m]."""
        b, n, _ = p.shape
        cos, sin = axial_angles(*size, self.head, p.device)
        if (before := n - len(cos)) > 0:
            cos, sin = F.pad(cos, (0, 0, before, 0), value=1.0), F.pad(sin, (0, 0, before, 0))
        scales = torch.stack([self.query_scale, self.key_scale])
        q, k, v, rest = Parted.apply(p, scales, cos, sin, self.heads)
        return attend(q, k, v).transpose(1, 2).reshape(b, n, self.heads * self.head), rest


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
