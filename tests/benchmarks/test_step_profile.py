"""The profile of a training step accounts for its time, by part and by operation; the peak's products are products."""

import importlib
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from snrise.networks import cost
from tiny import NETWORKS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.parametrize("config", [NETWORKS["uvit"]["mixed"], NETWORKS["unet"]["deep"], *NETWORKS["vit"].values()])
def test_every_part_is_timed_once(benchmark, config):
    module = benchmark("step_profile")
    network = config.build(None)
    parts = [part.name for part in cost(network, (16, 16)).parts if part.macs]
    _, step = module.stepping(network, 16, 2, "fp32")
    found = module.called(network, parts, step)
    inside = [m for modules in found.values() for module in modules for m in module.modules()]
    assert len(inside) == len({id(m) for m in inside})
    times, whole = module.by_part(network, parts, step, 2)
    assert all(times[part] > 0 for part in parts)
    assert sum(times.values()) < whole


def test_operations_by_kind(benchmark):
    module = benchmark("step_profile")
    _, step = module.stepping(NETWORKS["uvit"]["mixed"].build(None), 16, 2, "fp32")
    shares = module.by_operation(step, 1)
    assert_close(sum(shares.values()), 1.0)
    assert {"products and convolutions", "AdamW", "group norm", "GELU, SiLU", "clip and EMA", "noise"} <= set(shares)


def test_a_product_as_a_convolution(benchmark):
    a, b = torch.randn(64, 32), torch.randn(48, 32)
    found = benchmark("train_step").convolved(a, b)
    assert_close(found.flatten(2)[0].t(), a @ b.t(), rtol=1e-4, atol=1e-4)
