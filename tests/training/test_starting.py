"""Beginning with another run's weights: a network behind a larger stem is the smaller one on pooled images."""

import pytest
import torch
from torch.nn.functional import interpolate
from torch.testing import assert_close

from snrise.networks import Kind, Level, NestedConfig, Stem, UNetConfig, UViTConfig, ViTConfig, build
from snrise.networks.stems import enlarged
from snrise.optimizers import AdamW
from snrise.pooling import pool
from snrise.training import Ema, TrainState, save_state, start_from
from tiny import perturbed

LEVELS = (Level(channels=16, blocks=1), Level(channels=32, blocks=1, attention=True, head=16))
#: A network and the same for patches twice and three times as large.
GROWN = {
    "patches": lambda k: UViTConfig(levels=LEVELS, stem=2 * k, embedding=32),
    "unshuffled": lambda k: UNetConfig(levels=LEVELS, stem=2 * k, stem_kind=Stem.UNSHUFFLE, embedding=32),
    "vit": lambda k: ViTConfig(width=32, depth=1, patch=2 * k, head=16, bottleneck=8, class_tokens=0),
}


def begun(config, seed):
    """A run whose network does something, on the way out too."""
    torch.manual_seed(seed)
    network = perturbed(build(config), seed=seed)
    return TrainState(network=network, ema=Ema(network, 100), optimizer=AdamW()(network))


@pytest.fixture
def saved(tmp_path):
    def save(config):
        state = begun(config, seed=0)
        return state.network, save_state(state, tmp_path / "run", "config")

    return save


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", GROWN)
def test_a_larger_stem_is_the_smaller_one_on_pooled_images(saved, name, k):
    small, file = saved(GROWN[name](1))
    state = begun(GROWN[name](k), seed=1)
    assert start_from(state.network, file) == []
    y, logsnr = torch.randn(2, 3, 8, 12), torch.tensor([-1.0, 2.0])
    z = interpolate(y, scale_factor=k, mode="nearest")
    finer = torch.randn_like(z)
    with torch.no_grad():
        expected = small(k**0.5 * y, logsnr)
        assert expected.std() > 0.1
        out = state.network(z, logsnr)
        assert_close(pool(out, k), expected, rtol=1e-4, atol=1e-4)
        # What is finer than that is seen, and said, by weights as they were drawn.
        other = state.network(z + finer - interpolate(pool(finer, k), scale_factor=k), logsnr)
    assert (other - out).std() > 0.01
    assert (out - interpolate(pool(out, k), scale_factor=k)).std() > 0.01


def test_what_does_not_fit_is_kept_and_named(saved):
    _, file = saved(UViTConfig(levels=LEVELS, stem=2, stem_kind=Stem.WAVELET, embedding=32))
    state = begun(UViTConfig(levels=LEVELS, stem=4, stem_kind=Stem.WAVELET, embedding=32), seed=1)
    before = {name: p.detach().clone() for name, p in state.network.named_parameters()}
    own = start_from(state.network, file)
    assert own == ["stem.enter.weight", "stem.leave.weight", "stem.leave.bias"]
    for name, p in state.network.named_parameters():
        assert torch.equal(p, before[name]) == (name in own)


def test_a_network_goes_whole_into_a_nest_and_a_nest_into_the_next(tmp_path):
    """Also where the outer level has parts of the same names and shapes as the inner network."""
    configs = [UViTConfig(levels=LEVELS, stem=2, embedding=32)]
    for _ in range(2):
        configs.append(NestedConfig(
            inner=configs[-1], level=Level(channels=16, blocks=1, kind=Kind.LOCAL), variances=(0.1, 0.1, 0.1),
            embedding=32,
        ))
    before = begun(configs[0], seed=0)
    for i, config in enumerate(configs[1:]):
        file = save_state(before, tmp_path / str(i), "config")
        state = begun(config, seed=i + 1)
        own = start_from(state.network, file)
        assert not [name for name in own if name.startswith("inner.")]
        for name, p in before.network.named_parameters():
            assert torch.equal(state.network.get_parameter(f"inner.{name}"), p)
        shared = "conditioning.logsnr.mlp.0.weight"
        assert torch.equal(state.network.get_parameter(shared), before.network.get_parameter(shared))
        before = state
        perturbed(before.network, seed=9)
        before.ema = Ema(before.network, 100)


@pytest.mark.parametrize(("was", "now"), [
    ((8, 3, 4, 4), (8, 3, 6, 6)),     # no whole multiple
    ((8, 3, 4, 4), (8, 3, 2, 2)),     # smaller
    ((8, 3, 2, 2), (16, 3, 4, 4)),    # another width
    ((12, 8), (48, 8, 1)),
    ((10, 8), (40, 8)),               # no patch of 3 channels
    ((12, 8), (24, 8)),
])
def test_what_is_not_a_larger_patch(was, now):
    assert enlarged(torch.zeros(was), torch.zeros(now), 3) is None
