"""Activation checkpointing changes what is kept, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from snrise.networks import NestedConfig, ViTConfig
from snrise.networks.recomputing import recomputed
from tiny import NETWORKS, built, inputs, perturbed

CONFIGS = [pytest.param(config, id=name) for table in NETWORKS.values() for name, config in table.items()]


def changed(config, **settings):
    """The config with settings of its blocks changed, in all levels."""
    if isinstance(config, ViTConfig):
        return replace(config, **settings)
    if isinstance(config, NestedConfig):
        return replace(config, inner=changed(config.inner, **settings), level=replace(config.level, **settings))
    return replace(config, levels=tuple(replace(level, **settings) for level in config.levels))


def made(config, *, checkpoint, dropout=0.3, context=None):
    torch.manual_seed(0)
    config = config if context is None else replace(config, context=context)
    return perturbed(built(changed(config, checkpoint=checkpoint, dropout=dropout), 3)).train()


def step(network, *, bf16=False, context=None):
    """Output and gradients of a step with dropout, bytes that autograd kept, and the random state after the step."""
    (z, logsnr), labels, kept = inputs(2), torch.tensor([0, 3]), {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast("cpu", enabled=bf16):
        out = network(z, logsnr, labels, context)
    out.float().square().mean().backward()
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    size = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    return out, [p.grad for p in network.parameters() if p.requires_grad], size, torch.get_rng_state()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_numbers_are_the_same_to_the_bit_in_less_memory(config, bf16):
    (out, grads, size, state), (again, grads_again, less, state_again) = (
        step(made(config, checkpoint=checkpoint), bf16=bf16) for checkpoint in (False, True))
    assert torch.equal(out, again)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_again, strict=True))
    assert torch.equal(state, state_again)
    assert less < 0.75 * size


def test_dropout_acts():
    """So that the test above would see other dropout on the way back."""
    config = NETWORKS["uvit"]["mixed"]
    dropped, whole = (step(made(config, checkpoint=True, dropout=p))[0] for p in (0.3, 0.0))
    assert not torch.equal(dropped, whole)


@pytest.mark.parametrize("config", [c for c in CONFIGS if not isinstance(c.values[0], NestedConfig)])
def test_with_context_too(config):
    context = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = []
    for checkpoint in (False, True):
        context.grad = None
        out, grads, _, _ = step(made(config, checkpoint=checkpoint, context=8), context=context)
        found.append([out, *grads, context.grad])
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_one_level_alone():
    config = NETWORKS["uvit"]["mixed"]
    sizes = []
    for chosen in ((), (0,), (2,), (0, 1, 2)):
        levels = tuple(replace(level, checkpoint=i in chosen) for i, level in enumerate(config.levels))
        sizes.append(step(replace(config, levels=levels).build(3))[2])
    nothing, top, bottom, everything = sizes
    assert everything < top < bottom < nothing


def test_without_gradients_nothing_is_wrapped(monkeypatch):
    monkeypatch.setattr("snrise.networks.recomputing.checkpoint", None)
    with torch.no_grad():
        assert recomputed(nn.Identity())(torch.ones(1)) == 1
