"""What makes training on a CPU fast: each gives the numbers of plain PyTorch in another way, to rounding.

What is written for speed rather than for reading is here. `benchmarks/cpu_tricks.py` measures each against the plain
way, forward and backward, at the shapes of `emoji-32`; one that no longer pays can be replaced by the plain way, which
its docstring names. Figures with AVX2 are medians of its 7 rounds on two cores of an EPYC, in milliseconds.
"""

import ctypes
import math
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from snrise.sharding import local

__all__ = [
    "EPS", "FEW", "FusedAdamW", "QkNormRotaryGelu", "TokenLinear", "attend", "in_memory_order", "keep_freed_memory",
    "rotate",
]


class TokenLinear(nn.Linear):
    """A linear layer on tokens [b n c]. Plain: `nn.Linear`.

    Why: PyTorch computes float32 matrix products with MKL, and convolutions with oneDNN, which is faster on AMD
    processors; so tokens are multiplied as a 1×1 convolution. On one thread PyTorch runs small convolutions in a third,
    slower way: there they stay products, as in bfloat16, on other devices and in compiled code.

    Measured: in float32 with AVX-512, 350 to 390 GFLOP/s instead of 205 to 220; with AVX2, 46 instead of 39: a loss.
    """

    def forward(self, h: Tensor) -> Tensor:
        if h.device.type != "cpu" or h.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(h)
        if torch.compiler.is_compiling() or (len(h) < 16 and torch.get_num_threads() == 1):
            return super().forward(h)
        cells = h.transpose(1, 2).unflatten(2, (-1, math.gcd(h.shape[1], 32)))  # type: ignore[no-untyped-call]
        return F.conv2d(cells, self.weight[:, :, None, None], self.bias).flatten(2).transpose(1, 2)


#: The most queries for which `attend` uses matrix products.
FEW = 128


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention, [b heads n head] each. Plain: `F.scaled_dot_product_attention`.

    Why: its kernel for CPUs is made for long sequences; up to `FEW` queries, matrix products are faster.

    Measured: 64 tokens, batch 32, 8 heads of 32, bfloat16: 1.6 ms instead of 2.0 forward, 3.6 instead of 16.3 backward;
    in float32 with AVX2, 5.9 instead of 6.9 for both.
    """
    if q.device.type != "cpu" or q.shape[2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype) @ v


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (x[i], x[i + head/2]) by their angles, or back by those of (cos, -sin): [… head] -> the same."""
    return (x * cos.to(x.dtype)).add_(_swap(x) * sin.to(x.dtype))


def _swap(x: Tensor) -> Tensor:
    """The halves of the last axis, exchanged."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([second, first], dim=-1)


#: What qk-norm adds to a mean square.
EPS = 1e-6


class QkNormRotaryGelu(torch.autograd.Function):
    """The same as `networks.attention.qk_norm_rotary_gelu`, which is the plain way, with a hand-written backward pass.

    Why: autograd makes three times as many passes over the tensors, and on a CPU such passes take a third of the time
    of the matrix products. It can be differentiated once. On a GPU it runs too: it saves fewer tensors for backward.

    Measured: with AVX2, 16 instead of 22; with exact GELU and `FusedAdamW`, the U-ViT's bfloat16 step at 70 % of the
    peak instead of 64 %.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, scales: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, ...]:
        qkv, rest = _views(p, heads, scales.shape[1])
        x = qkv[:2].contiguous()
        wide = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square()
        inverse = (square / x.shape[-1] + EPS).rsqrt().to(x.dtype)
        y = x * inverse
        turns = [(a[:, None] * table)[:, None, None] for a, table in ((scales, cos), (_swap(scales), sin))]
        q, k = rotate(y, *turns)
        ctx.save_for_backward(y, inverse, rest, scales, cos, sin)
        return q, k, qkv[2].contiguous(), F.gelu(rest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, inverse, rest, scales, cos, sin = ctx.saved_tensors
        _, b, heads, n, head = y.shape
        grad = rest.new_empty(b, n, 3 * heads * head + rest.shape[-1])
        grad_qkv, grad_rest = _views(grad, heads, head)
        turned = rotate(torch.stack(grads[:2]), cos, -sin)
        by_scale = turned * y
        along = (by_scale.flatten(1, 3) @ scales.to(y.dtype)[:, :, None]).view_as(inverse) / head
        turned.mul_(scales.to(y.dtype)[:, None, None, None])
        grad_qkv[:2] = turned.sub_(y * along).mul_(inverse)
        grad_qkv[2] = grads[2]
        torch.ops.aten.gelu_backward.grad_input(grads[3], rest, grad_input=grad_rest)
        return grad, by_scale.sum(dim=(1, 2, 3), dtype=scales.dtype), None, None, None


def _views(p: Tensor, heads: int, head: int) -> tuple[Tensor, Tensor]:
    """Of [b n 3c + m], the heads as [3 b heads n head] and the rest [b n m]."""
    qkv, rest = p[..., : 3 * heads * head], p[..., 3 * heads * head :]
    return qkv.view(*p.shape[:2], 3, heads, head).permute(2, 0, 3, 1, 4), rest


def in_memory_order(x: Tensor) -> Tensor:
    """A kernel that is channels-last in memory, [o i h w], as the contiguous view [o h w i]; else the tensor itself."""
    last = x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return x.permute(0, 2, 3, 1) if last else x


class FusedAdamW(torch.optim.AdamW):
    """AdamW, to the bit. Plain: `torch.optim.AdamW`, with `fused=True` too.

    Why: PyTorch's fused CPU kernel copies each channels-last weight, gradient and moment into a contiguous tensor and
    back. Here it gets contiguous views instead, by overriding a private method (checked by a test); of
    tensors in shards, the rows of this process.

    Measured: with AVX2, 3.7 instead of 4.7.
    """

    def _init_group(self, group: dict[str, Any], *lists: Any) -> Any:
        has_complex = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        for tensors in lists:
            if isinstance(tensors, list):
                tensors[:] = (in_memory_order(local(t)) for t in tensors)
        return has_complex


#: glibc's mallopt(3): when the heap's top is given back, how far it grows, and how many blocks are mapped separately.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
#: The heap grows by this many bytes at a time.
GROWTH = 64 * 2**20


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next step; whether it agreed. Plain: not to call it.

    Why: each step frees its activations. Returning them to the system takes milliseconds, and getting them back costs
    page faults. The setting holds for the whole process, so programs ask for it, not libraries. On systems other than
    Linux with glibc nothing happens.

    Measured: 211 images a second of `emoji-32` instead of 192; with AVX2, three steps in 2,238 ms instead of 2,452.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, GROWTH), (MMAP_MAX, 0))
    return all(mallopt(name, value) for name, value in settings)
