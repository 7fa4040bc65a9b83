"""A nest: pooled, it is its inner network, whatever the outer level says."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from examples import PROCESSES, flat
from snrise._errors import SnriseError
from snrise.denoisers import from_network
from snrise.losses import denoising_loss
from snrise.nest import Link
from snrise.networks import Kind, Level, NestedConfig
from snrise.networks.haar import band_variances, haar, unhaar
from snrise.optimizers import AdamW, Muon
from snrise.pooling import pool
from snrise.process import VP, Prediction, Target, diffuse
from tiny import CROPPED, NEST, NETWORKS, V, built, inputs, perturbed

LOGSNRS = torch.tensor([-15.0, -3.0, 0.0, 4.0, 15.0], dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pooled_and_inner(network, target, z, labels=None):
    """x̂ of a nest, pooled; and x̂ of its inner network, asked about the pooled image by itself."""
    found = Link(target).coarse(LOGSNRS)
    seen = found.gain[:, None, None, None] * pool(z, 2)
    mine = from_network(network, target, labels)(z, LOGSNRS)
    return pool(mine, 2), from_network(network.inner, target, labels)(seen, found.logsnr)


@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("prediction", Prediction)
def test_pooled_it_is_its_inner_network(prediction, process):
    target = Target(prediction, process)
    network = perturbed(built(NEST, 3, target=target)).double().eval()
    z = diffuse(noise(5, 3, 8, 12), noise(5, 3, 8, 12, seed=1), LOGSNRS, process)
    mine, inner = pooled_and_inner(network, target, z, torch.tensor([0, 1, 2, 0, 1]))
    assert inner.std() > 0.1
    assert_close(mine, inner, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS["nested"])
def test_any_network_may_be_inside_also_a_nest(name):
    config = NETWORKS["nested"][name]
    network = perturbed(built(config)).double().eval()
    side = 2 * config.divisor
    z = diffuse(noise(5, 3, side, side), noise(5, 3, side, side, seed=1), LOGSNRS)
    mine, inner = pooled_and_inner(network, V, z)
    assert_close(mine, inner, rtol=1e-9, atol=1e-9)


def test_training_the_outer_level_leaves_the_inner_network_as_it_is():
    torch.manual_seed(0)
    network = perturbed(built(replace(NEST, frozen=True), 3)).train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = Muon()(network)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    z, logsnr = inputs(4)
    for _ in range(3):
        loss, _ = denoising_loss(network, V, z.clamp(-1, 1), torch.randn_like(z), logsnr, torch.tensor([0, 1, 2, 3]))
        loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert not [name for name in moved if name.startswith("inner.")]
    assert {name for name in before if not name.startswith("inner.")} == moved
    assert all(p.requires_grad != name.startswith("inner.") for name, p in network.named_parameters())
    chosen = {p for group in AdamW()(network).param_groups for p in group["params"]}
    assert not [p for name, p in network.named_parameters() if name.startswith("inner.") and p in chosen]


def test_a_frozen_network_is_without_dropout_while_the_outer_level_learns():
    inner = replace(NEST.inner, levels=tuple(replace(level, dropout=0.5) for level in NEST.inner.levels))
    frozen, free = (perturbed(built(replace(NEST, inner=inner, frozen=f))).train() for f in (True, False))
    z, logsnr = inputs()
    assert torch.equal(frozen(z, logsnr), frozen(z, logsnr))
    assert not torch.equal(free(z, logsnr), free(z, logsnr))
    assert frozen.inner.training


def test_it_begins_as_the_best_linear_estimate_of_the_details():
    network = built(NEST).double()
    z = noise(5, 3, 8, 8)
    x = from_network(network, V)(z, LOGSNRS)
    alpha, sigma = (a.reshape(-1, 1, 1, 1) for a in VP.alpha_sigma(LOGSNRS))
    for band, variance in enumerate(NEST.variances):
        wanted = alpha * variance / (alpha**2 * variance + sigma**2) * haar(z)[1][:, band]
        # The variances are kept in float32.
        assert_close(haar(x)[1][:, band], wanted, rtol=1e-5, atol=1e-6)


def linear_estimate(network, z, logsnr):
    """The details of z as their best linear estimate has them: the prediction of v."""
    found = Link(V).detail(logsnr, network.variances.to(z.dtype))
    return found.of_z[:, :, None, None, None] * haar(z)[1]


def test_a_coefficient_that_is_said_to_be_quiet_is_flat_and_a_loud_one_keeps_its_value():
    """The outer level says how strong each coefficient is: the estimate is the best linear one of that variance."""
    network = built(NEST).double()
    channels = 3 * 3
    z, logsnr = noise(2, 3, 8, 8), torch.tensor([3.0, 6.0], dtype=torch.float64)
    alpha, sigma = (a.reshape(-1, 1, 1, 1, 1) for a in VP.alpha_sigma(logsnr))
    for said in (-1.0, 0.5, 9.0):
        with torch.no_grad():
            network.leave.bias[channels:] = said
            x = from_network(network, V)(z, logsnr)
        own = network.variances.double()[:, None, None, None] * math.exp(8 * math.tanh(said))
        wanted = alpha * own / (alpha**2 * own + sigma**2) * haar(z)[1]
        assert_close(haar(x)[1], wanted, rtol=1e-5, atol=1e-6)


def test_where_noise_drowns_the_bands_the_outer_level_is_not_asked():
    network = perturbed(built(NEST)).eval()
    calls = []
    network.outer.register_forward_hook(lambda *_: calls.append(1))
    z, _ = inputs(3)
    deep, high = torch.full((3,), -9.0), torch.full((3,), 4.0)
    with torch.no_grad():
        assert_close(haar(network(z, deep))[1], linear_estimate(network, z, deep), rtol=1e-4, atol=1e-5)
        assert not calls
        mixed = torch.tensor([-9.0, 4.0, 4.0])
        out = network(z, mixed)
        assert calls
        assert_close(out[:1], network(z, deep)[:1])
        assert_close(out[1:], network(z, high)[1:])
        assert (haar(out)[1][1:] - linear_estimate(network, z, mixed)[1:]).abs().max() > 0.1
    # Also while it learns: no number of the outer level has a gradient from there.
    network(z, deep).square().mean().backward()
    learnt = [name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()]
    assert learnt
    assert all(name.startswith("inner.") for name in learnt)


def test_a_crop_is_seen_by_the_outer_level_alone_and_as_within_the_whole():
    network = perturbed(built(CROPPED)).double()
    z, logsnr = noise(4, 3, 32, 48), torch.full((4,), 5.0, dtype=torch.float64)
    whole = haar(network.eval()(z, logsnr))[1]
    torch.manual_seed(0)
    out = network.train()(z, logsnr)
    assert_close(pool(out, 2), pool(network.eval()(z, logsnr), 2))
    learnt = (haar(out)[1] - linear_estimate(network, z, logsnr)).abs().amax(dim=(1, 2)) > 1e-9
    places = set()
    for image in range(4):
        rows, columns = (learnt[image].any(dim=d).nonzero()[:, 0].tolist() for d in (1, 0))
        assert rows == [*range(rows[0], rows[0] + 4)]
        assert columns == [*range(columns[0], columns[0] + 4)]
        places.add((rows[0], columns[0]))
    assert len(places) > 1
    # A part that is wide enough is, away from its edges, the whole to the last bits.
    network.config = replace(CROPPED, crop=28)
    torch.manual_seed(0)
    out = haar(network.train()(z, logsnr))[1]
    learnt = (out - linear_estimate(network, z, logsnr)).abs().amax(dim=(1, 2)) > 1e-9
    for image in range(4):
        rows, columns = (learnt[image].any(dim=d).nonzero()[:, 0].tolist() for d in (1, 0))
        inside = (..., slice(rows[0] + 5, rows[-1] - 4), slice(columns[0] + 5, columns[-1] - 4))
        assert out[image][inside].numel() > 100
        assert_close(out[image][inside], whole[image][inside])


def test_of_the_nests_within_only_what_the_crop_depends_on_is_computed():
    """The outer level says, within its crop, what it says where all of the nests within is computed."""
    within = replace(CROPPED, crop=None)
    network = perturbed(built(replace(CROPPED, inner=within, crop=8))).double()
    z, logsnr = noise(4, 3, 96, 64), torch.full((4,), 5.0, dtype=torch.float64)
    asked = []
    network.inner.enter.register_forward_hook(lambda module, inputs, out: asked.append(tuple(out.shape[2:])))
    torch.manual_seed(0)
    out = haar(network.train()(z, logsnr))[1]
    network.inner.config = replace(within, level=replace(within.level, kind=Kind.CONV))  # which is not cut
    torch.manual_seed(0)
    whole = haar(network(z, logsnr))[1]
    assert asked == [(11, 11), (24, 16)]
    assert (whole - linear_estimate(network, z, logsnr)).abs().max() > 0.1
    assert_close(out, whole)


def test_crops_are_those_of_the_random_state():
    network = perturbed(built(CROPPED)).train()
    z, logsnr = inputs(4, size=(32, 32))
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(network(z, logsnr))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_an_image_no_larger_than_a_crop_is_seen_whole():
    network = perturbed(built(CROPPED))
    z, logsnr = inputs(2, size=(8, 8))
    assert_close(network.train()(z, logsnr), network.eval()(z, logsnr))


def test_the_transform_is_orthonormal_and_its_coarse_band_is_the_pooled_image():
    x = noise(2, 3, 6, 10)
    coarse, details = haar(x)
    assert_close(unhaar(coarse, details), x)
    assert_close(coarse.square().sum() + details.square().sum(), x.square().sum())
    assert_close(coarse, 2 * pool(x, 2))
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 8, 8)
    assert_close(band_variances(stripes), torch.tensor([4.0, 0.0, 0.0], dtype=torch.float64))
    assert_close(band_variances(stripes.mT), torch.tensor([0.0, 4.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(("change", "message"), [
    ({"variances": (0.1, 0.0, 0.1)}, "NestedConfig.variances: got (0.1, 0.0, 0.1); allowed: three numbers above 0"),
    ({"embedding": 0}, "NestedConfig.embedding: got 0"),
    ({"level": Level(channels=32, blocks=1, kind=Kind.TRANSFORMER)},
     "NestedConfig.level.kind: got 'transformer'; allowed: local or conv; use kind=local"),
    ({"crop": 7}, "NestedConfig.crop: got 7; allowed: an even number of pixels, 2 or more, or null for the whole"),
    ({"crop": 8}, "NestedConfig.crop: got 8; allowed: null for a level of kind=conv; use kind=local"),
    ({"crop": 8, "level": Level(channels=32, blocks=1, kind=Kind.LOCAL)},
     "NestedConfig.crop: got 8; allowed: null where the inner network learns; frozen=true"),
    ({"inner": CROPPED}, "NestedConfig.inner.crop: got 8; allowed: null: a crop is for"),
    ({"level": Level(channels=32, blocks=0)}, "NestedConfig.level.blocks: got 0"),
])
def test_what_a_config_refuses(change, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}"):
        replace(NEST, **change)


def test_a_nest_that_does_not_know_its_target_says_so():
    with pytest.raises(SnriseError, match=r"network\.link: none; a nest has to know its target"):
        NEST.build(None)(*inputs())


def test_a_side_that_cannot_be_halved_is_refused():
    assert isinstance(NEST, NestedConfig)
    with pytest.raises(SnriseError, match="sides that are multiples of 4; nearest: 16x16 or 20x16"):
        built(NEST)(*inputs(size=(18, 16)))
