import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.training import Ema
from snrise.training.ema import decay


def linear(value=0.0):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


@given(half_life=st.integers(1, 10**6), batch=st.integers(1, 4096), batches=st.integers(1, 50))
def test_weights_seen_one_half_life_ago_count_half(half_life, batch, batches):
    """However the images of a stretch are cut into batches, an old weight fades by ½ a half-life."""
    images_seen = 100 * half_life
    kept = decay(half_life, images_seen, batch) ** batches
    assert kept == pytest.approx(0.5 ** (batch * batches / half_life), rel=1e-9, abs=1e-300)
    assert decay(half_life, images_seen, 1) ** half_life == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("half_life", "seen", "batch", "expected"), [
    (1000, 10_000, 100, 0.5 ** (100 / 500)),  # early: the half-life is 5 % of the images seen
    (1000, 20_000, 100, 0.5 ** (100 / 1000)),
    (1000, 10**7, 1000, 0.5),
    (0, 10**7, 8, 0.0), (1000, 0, 8, 0.0),
])
def test_decay(half_life, seen, batch, expected):
    assert decay(half_life, seen, batch) == pytest.approx(expected)


def test_updates_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    layer = linear()
    ema, average, seen = Ema(layer, half_life=50), 0.0, 0
    for _ in range(40):
        value, batch = float(torch.randn(1, generator=generator)), int(torch.randint(1, 30, (1,), generator=generator))
        nn.init.constant_(layer.weight, value)
        seen += batch
        ema.update(layer, seen, batch)
        kept = 0.5 ** (batch / min(50.0, 0.05 * seen))
        average = kept * average + (1 - kept) * value
        assert ema.parameters["weight"].mean().item() == pytest.approx(average, abs=1e-5)
        assert_close(ema.parameters["bias"], torch.zeros(2))


def test_without_a_half_life_the_average_is_the_last_weights():
    layer = linear()
    ema = Ema(layer, half_life=0)
    nn.init.constant_(layer.weight, 3.0)
    ema.update(layer, 10_000, 8)
    assert torch.equal(ema.parameters["weight"], layer.weight)
    nn.init.constant_(layer.weight, 4.0)
    assert torch.equal(ema.parameters["weight"], torch.full((2, 2), 3.0))


def test_the_averaged_network_is_a_copy_that_shares_the_averages_memory():
    layer = nn.Sequential(linear(1.0), nn.BatchNorm1d(2))
    ema = Ema(layer, half_life=100)
    nn.init.constant_(layer[0].weight, 5.0)
    found = ema.averaged(layer)
    assert torch.equal(found[0].weight, torch.ones(2, 2))
    assert found[0].weight.data_ptr() == ema.parameters["0.weight"].data_ptr()
    assert found[1].running_mean is layer[1].running_mean
    assert not any(p.requires_grad for p in found.parameters())
    assert torch.equal(layer[0].weight, torch.full((2, 2), 5.0))
    assert layer[0].weight.requires_grad


def test_a_negative_half_life_is_refused():
    with pytest.raises(SnriseError, match=r"Ema\.half_life: got -1"):
        Ema(linear(), half_life=-1)


def test_the_average_of_weights_in_bfloat16_is_kept_in_float32():
    """Steps that bfloat16 would round away add up."""
    layer = linear(1.0).to(torch.bfloat16)
    ema = Ema(layer, half_life=1000)
    assert {p.dtype for p in ema.parameters.values()} == {torch.float32}
    nn.init.constant_(layer.weight, 2.0)
    for _ in range(3):
        ema.update(layer, images_seen=10**6, batch=1)
    kept = 0.5 ** (3 / 1000)
    assert_close(ema.parameters["weight"], torch.full((2, 2), 2 - kept), rtol=1e-5, atol=0)
    assert {p.dtype for p in ema.averaged(layer).parameters()} == {torch.bfloat16}
