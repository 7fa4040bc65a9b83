"""Context vectors, such as a text's, reach whatever attends."""

import dataclasses
import functools

import pytest
import torch

from snrise._errors import SnriseError
from snrise.denoisers import from_network
from snrise.process import Prediction
from tiny import NETWORKS, inputs, network

ATTENDING = [
    ("uvit", "mixed"), ("uvit", "transformer"), ("uvit", "residual"), ("unet", "deep"), ("vit", "class tokens"),
]
CONFIGS = [
    pytest.param(dataclasses.replace(NETWORKS[kind][name], context=24), id=f"{kind} {name}") for kind, name in ATTENDING
]


def context(batch=2, count=5, width=24, seed=0):
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", CONFIGS)
def test_context_changes_the_output_image_by_image(config):
    model, (z, logsnr) = network(config), inputs()
    first = model(z, logsnr, None, context())
    other = context()
    other[1] += 1
    second = model(z, logsnr, None, other)
    assert torch.allclose(first[0], second[0], atol=1e-5)
    assert (first[1] - second[1]).abs().max() > 1e-3
    assert (first - model(z, logsnr)).abs().max() > 1e-3


@pytest.mark.parametrize("config", CONFIGS)
def test_order_and_padding_by_repetition_do_not_matter(config):
    model, (z, logsnr) = network(config), inputs()
    vectors = context()
    whole = model(z, logsnr, None, vectors)
    torch.testing.assert_close(model(z, logsnr, None, vectors.flip(1)), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(z, logsnr, None, vectors.repeat(1, 3, 1)), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_context_begins_as_nothing_and_learns(config):
    torch.manual_seed(0)
    model, (z, logsnr) = config.build(None), inputs()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "across" in name}
    assert before
    assert torch.equal(model(z, logsnr, None, context()), torch.zeros_like(z))
    for _ in range(5):
        optimizer.zero_grad()
        (model(z, logsnr, None, context()) - z).square().mean().backward()
        optimizer.step()
    assert [name for name, p in model.named_parameters() if "across" in name and torch.equal(p, before[name])] == []


def test_a_denoiser_takes_a_network_with_its_context():
    model, (z, logsnr) = network(CONFIGS[0].values[0]), inputs()
    denoise = from_network(functools.partial(model, context=context()), Prediction.X)
    assert torch.equal(denoise(z, logsnr), model(z, logsnr, None, context()))


@pytest.mark.parametrize("config", CONFIGS)
def test_context_of_another_width_or_for_a_network_without_is_refused(config):
    z, logsnr = inputs()
    with pytest.raises(SnriseError, match=r"network\.context: got 'vectors of width 7'; allowed: vectors of width 24"):
        network(config)(z, logsnr, None, context(width=7))
    with pytest.raises(SnriseError, match="allowed: None for a network built without context; build it with context="):
        network(dataclasses.replace(config, context=None))(z, logsnr, None, context())
