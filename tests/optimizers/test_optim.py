import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snrise._errors import SnriseError
from snrise.optimizers import AdamW, Muon
from snrise.optimizers.muon import orthogonalized
from snrise.precision import bf16_is_native, resolved
from snrise.rates import DECAYS, CosineDecay, LinearDecay, SqrtDecay
from snrise.training import LearningRate, Precision, autocast
from tiny import inputs
from tiny import network as build_tiny

pytestmark = pytest.mark.precision


@pytest.mark.parametrize(("shape", "expected"), [
    (LinearDecay(), [0.0, 0.5, 2.0, 2.0, 2.0, 1.0, 0.5, 0.0, 0.0]),
    (CosineDecay(), [0.0, 0.5, 2.0, 2.0, 2.0, 1.0, 1 - math.sqrt(0.5), 0.0, 0.0]),
    (SqrtDecay(), [0.0, 0.5, 2.0, 2.0, 2.0, 2 - math.sqrt(2), 2 - math.sqrt(3), 0.0, 0.0]),
])
def test_learning_rate(shape, expected):
    rate = LearningRate(peak=2.0, total=1000, warmup=100, decay=0.4, shape=shape)
    assert [rate(i) for i in (0, 25, 100, 300, 600, 800, 900, 1000, 1200)] == pytest.approx(expected)


def test_without_warm_up_and_decay_it_is_constant():
    rate = LearningRate(peak=3.0, total=10)
    assert [rate(i) for i in (0, 5, 10)] == [3.0, 3.0, 3.0]


@given(warmup=st.integers(0, 500), decay=st.floats(0, 1), at=st.integers(0, 1500),
       shape=st.sampled_from([kind() for kind in DECAYS.values()]))
def test_it_never_leaves_its_range(warmup, decay, at, shape):
    rate = LearningRate(peak=0.1, total=1000, warmup=warmup, decay=decay, shape=shape)
    assert 0 <= rate(at) <= 0.1
    if at >= max(warmup, 1) and at <= 1000 * (1 - decay):
        assert rate(at) == pytest.approx(0.1)


@pytest.mark.parametrize("setting", [{"peak": 0.0}, {"warmup": -1}, {"decay": 1.5}, {"decay": -0.1}])
def test_a_learning_rate_out_of_range_is_refused(setting):
    (name, value), = setting.items()
    with pytest.raises(SnriseError, match=f"LearningRate.{name}: got {value}"):
        LearningRate(**{"peak": 1.0, "total": 10} | setting)


def test_weight_decay_is_for_matrices_and_kernels_only():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(1, 3), nn.Flatten(), nn.Linear(3, 4))
    for p in network.parameters():
        nn.init.ones_(p)
        p.grad = torch.zeros_like(p)
    optimizer = AdamW()(network, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for p in network.parameters():
        expected = 1 - 0.1 * 0.5 if p.ndim >= 2 else 1.0
        torch.testing.assert_close(p.detach(), torch.full_like(p, expected))


@pytest.mark.parametrize(("setting", "name"), [
    ({"betas": (1.0, 0.9)}, r"betas\[0\]"), ({"betas": (0.9, -0.1)}, r"betas\[1\]"),
    ({"weight_decay": -1.0}, "weight_decay"),
])
def test_an_optimizer_out_of_range_is_refused(setting, name):
    with pytest.raises(SnriseError, match=f"optimizer.{name}: got"):
        AdamW()(nn.Linear(1, 1), **setting)


@pytest.mark.parametrize(("precision", "dtype"), [
    (Precision.FP32, torch.float32), (Precision.BF16, torch.bfloat16),
    (Precision.AUTO, torch.bfloat16 if bf16_is_native(torch.device("cpu")) else torch.float32),
])
def test_precision_of_matrix_products(precision, dtype):
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with autocast(torch.device("cpu"), precision):
        out = a @ a
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), a @ a, atol=0.1, rtol=0.02)


@pytest.mark.parametrize(("variables", "native"), [
    ({}, True), ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, False), ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, False),
    ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True), ({"ONEDNN_MAX_CPU_ISA": "avx512_core_amx"}, True),
])
@pytest.mark.parametrize("vectors", ["AVX512", "AVX2"])
def test_a_processor_that_is_held_back_is_an_old_one(monkeypatch, variables, native, vectors):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    expected = native and vectors == "AVX512"
    assert bf16_is_native(torch.device("cpu")) == expected
    assert resolved(torch.device("cpu"), Precision.AUTO) is (Precision.BF16 if expected else Precision.FP32)


def test_full_precision_is_no_context():
    inside = []
    with autocast(torch.device("cpu"), Precision.FP32):
        inside.append(torch.is_autocast_enabled("cpu"))
    with autocast(torch.device("cpu"), Precision.BF16):
        inside.append(torch.is_autocast_enabled("cpu"))
    assert inside == [False, True]


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8), (3, 64)])
def test_an_orthogonalized_matrix_keeps_its_directions_and_loses_its_lengths(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    matrix = u @ torch.diag(torch.linspace(0.2, 3, len(s))) @ v
    found = torch.diag(u.T @ orthogonalized(matrix).float() @ v.T)
    assert found.min() > 0.6
    assert found.max() < 1.3
    torch.testing.assert_close(orthogonalized(1000 * matrix), orthogonalized(matrix), atol=0.05, rtol=0)


def test_muon_takes_what_lies_within_the_network_and_leaves_the_rest_to_adamw():
    network = build_tiny(classes=2)
    steps = {}
    for name, make in (("muon", Muon()), ("adamw", AdamW())):
        copy_of = copy.deepcopy(network)
        optimizer = make(copy_of)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * group.get("lr_scale", 1.0)
        z, logsnr = inputs()
        (copy_of(z, logsnr, torch.tensor([0, 1])) - z).square().mean().backward()
        optimizer.step()
        steps[name] = {n: (p - network.get_parameter(n)).detach() for n, p in copy_of.named_parameters()}
    for name, step in steps["muon"].items():
        assert step.abs().max() > 0, name
        if step.ndim < 2 or name in network.edges:
            torch.testing.assert_close(step, steps["adamw"][name], msg=name)
            continue
        out, rest = step.flatten(1).shape
        lengths = torch.linalg.svdvals(step.flatten(1)) / (0.01 * 20 * max(1, out / rest) ** 0.5)
        # A gradient of lower rank leaves the other directions alone.
        assert 0.6 < lengths.max() < 1.3, name
