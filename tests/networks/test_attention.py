import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from snrise.cpu import rotate
from snrise.networks.attention import Attention, axial_angles

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
