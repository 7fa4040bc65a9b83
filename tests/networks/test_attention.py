import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from snrise.networks.attention import Attention, Parted, attend, axial_angles, rotate

CPU = torch.device("cpu")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(head=st.sampled_from([4, 8, 16, 32]), at=st.tuples(*[st.integers(0, 5)] * 4),
       by=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_a_score_depends_on_the_relative_position_alone(head, at, by):
    side = 12
    cos, sin = axial_angles(side, side, head, CPU)
    q, k = random(1, 1, 1, head, seed=1), random(1, 1, 1, head, seed=2)

    def score(row_q, column_q, row_k, column_k):
        i, j = row_q * side + column_q, row_k * side + column_k
        turned_q = rotate(q, cos[i : i + 1], sin[i : i + 1])
        return (turned_q * rotate(k, cos[j : j + 1], sin[j : j + 1])).sum()

    a, b, c, d = at
    assert_close(score(a, b, c, d), score(a + by[0], b + by[1], c + by[0], d + by[1]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("moved", [(1, 0), (0, 1), (2, 3)])
def test_a_score_changes_with_the_relative_position(moved):
    cos, sin = axial_angles(8, 8, 16, CPU)
    q, k = random(1, 1, 1, 16, seed=1), random(1, 1, 1, 16, seed=2)
    i = moved[0] * 8 + moved[1]
    at_zero = (rotate(q, cos[:1], sin[:1]) * rotate(k, cos[:1], sin[:1])).sum()
    apart = (rotate(q, cos[:1], sin[:1]) * rotate(k, cos[i : i + 1], sin[i : i + 1])).sum()
    assert (at_zero - apart).abs() > 1e-2


def test_angles_by_hand():
    cos, sin = axial_angles(3, 5, 8, CPU)
    for row in range(3):
        for column in range(5):
            angles = torch.tensor([row * math.pi, row * math.pi / 10, column * math.pi, column * math.pi / 10])
            i = row * 5 + column
            assert_close(cos[i], angles.cos().repeat(2), atol=1e-5, rtol=0)
            assert_close(sin[i], torch.cat([-angles.sin(), angles.sin()]), atol=1e-5, rtol=0)


def test_rotation_keeps_the_length():
    cos, sin = axial_angles(4, 6, 16, CPU)
    x = random(2, 3, 24, 16)
    assert_close(rotate(x, cos, sin).norm(dim=-1), x.norm(dim=-1))
    assert_close(rotate(x, cos, sin)[:, :, 0], x[:, :, 0])


def test_rotation_turns_pairs_and_back():
    cos, sin = axial_angles(4, 6, 16, CPU)
    x = random(2, 3, 24, 16)
    pairs = torch.complex(*x.chunk(2, dim=-1)) * torch.complex(cos[:, :8], sin[:, 8:])
    turned = rotate(x, cos, sin)
    assert_close(turned, torch.cat([pairs.real, pairs.imag], dim=-1))
    assert_close(rotate(turned, cos, -sin), x)


@pytest.mark.parametrize("tokens", [1, 64, 128, 160])
def test_attend_is_softmax_attention(tokens):
    q, k, v = (random(2, 3, tokens, 8, seed=i) for i in range(3))
    by_hand = torch.softmax(torch.einsum("bhnd,bhmd->bhnm", q, k) / 8**0.5, dim=-1) @ v
    assert_close(attend(q, k, v), by_hand)
    assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_the_small_path_has_the_gradient_of_the_large():
    grads = []
    for function in (attend, F.scaled_dot_product_attention):
        q, k, v = (random(1, 2, 16, 8, seed=i).requires_grad_() for i in range(3))
        function(q, k, v).square().sum().backward()
        grads.append((q.grad, k.grad, v.grad))
    assert_close(*grads, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rest", [0, 20])
def test_parts_and_their_derivative_are_those_of_plain_operations(rest):
    heads, head = 4, 8
    p = random(2, 12, 3 * heads * head + rest).double().requires_grad_()
    scales = (1 + 0.3 * random(2, head, seed=1)).double().requires_grad_()
    cos, sin = (table.double() for table in axial_angles(3, 4, head, CPU))

    def plain():
        q, k, v = p[..., : 3 * heads * head].view(2, 12, 3, heads, head).permute(2, 0, 3, 1, 4)
        normed = (F.rms_norm(x, (head,), scale, 1e-6) for x, scale in zip((q, k), scales, strict=True))
        return *(rotate(x, cos, sin) for x in normed), v, F.gelu(p[..., 3 * heads * head :])

    ours, theirs = Parted.apply(p, scales, cos, sin, heads), plain()
    assert_close(ours, theirs)
    weights = [random(*x.shape, seed=i) for i, x in enumerate(ours)]
    grads = [torch.autograd.grad(sum((x * w).sum() for x, w in zip(parts, weights, strict=True)), (p, scales))
             for parts in (ours, theirs)]
    assert_close(*grads)


def test_parts_in_bfloat16_are_near_those_in_float32():
    cos, sin = axial_angles(4, 4, 32, CPU)
    p, scales = random(2, 16, 192 + 40), torch.ones(2, 32)
    for half, full in zip(Parted.apply(p.bfloat16(), scales, cos, sin, 2), Parted.apply(p, scales, cos, sin, 2),
                          strict=True):
        assert half.dtype == torch.bfloat16
        assert_close(half.float(), full, atol=0.03, rtol=0.02)


def test_heads_do_not_mix():
    attention = Attention(channels=16, head=8)
    qkv = random(1, 12, 48)
    changed = qkv.clone()
    changed.view(1, 12, 3, 2, 8)[:, :, :, 1] += 1
    a, b = attention(qkv, (3, 4)), attention(changed, (3, 4))
    assert torch.equal(a[..., :8], b[..., :8])
    assert not torch.allclose(a[..., 8:], b[..., 8:])


def test_attention_ignores_the_scale_of_queries_and_keys():
    attention = Attention(channels=16, head=8)
    qkv = random(1, 12, 48)
    louder = qkv.clone()
    louder[..., :32] *= 100
    assert_close(attention(qkv, (3, 4)), attention(louder, (3, 4)), atol=1e-4, rtol=1e-4)


def test_angles_first_used_in_inference_mode_serve_training():
    axial_angles.cache_clear()
    attention = Attention(channels=16, head=8)
    with torch.inference_mode():
        attention(random(1, 12, 48), (3, 4))
    qkv = random(1, 12, 48).requires_grad_()
    attention(qkv, (3, 4)).sum().backward()
    assert qkv.grad.abs().sum() > 0
    assert axial_angles.cache_info().hits >= 1
