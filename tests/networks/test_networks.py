import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch.testing import assert_close

import snrise.networks
from snrise._errors import SnriseError
from snrise._typing import Network
from snrise.construct import construct, plain
from snrise.denoisers import clipped, from_network
from snrise.losses import denoising_loss
from snrise.networks import (
    External,
    Kind,
    Level,
    NestedConfig,
    NetworkConfig,
    Stem,
    Traits,
    UNetConfig,
    UViTConfig,
    ViTConfig,
    build,
)
from snrise.optimizers import AdamW
from snrise.process import Prediction, Target
from snrise.samplers import Ddim, last, uniform_time
from snrise.schedules import Cosine, for_resolution
from tiny import MIXED, NEST, NETWORKS, built, inputs, network, perturbed

CONFIGS = [pytest.param(config, id=name) for table in NETWORKS.values() for name, config in table.items()]
SMALL = (Level(channels=16, blocks=1),)


def test_every_network_has_an_example():
    assert set(NETWORKS) == set(snrise.networks.NETWORKS)
    for name, kind in snrise.networks.NETWORKS.items():
        assert all(isinstance(config, kind) for config in NETWORKS[name].values())


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_keeps_the_contract(config):
    assert isinstance(config, NetworkConfig)
    model = built(config, 3)
    assert isinstance(model, Network)
    assert model.classes == 3
    assert config.build(None).classes is None
    size = (4 * config.divisor, 6 * config.divisor)
    assert model(*inputs(size=size), torch.tensor([0, 2])).shape == (2, 3, *size)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (96, 160)])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_output_has_the_shape_of_the_input_and_begins_at_zero(config, size):
    """But for a nest, which begins as the best linear estimate of what it is for."""
    z, logsnr = inputs(size=size)
    if not isinstance(config, NestedConfig):
        assert torch.equal(built(config)(z, logsnr), torch.zeros_like(z))
    out = network(config)(z, logsnr)
    assert out.shape == z.shape
    assert out.std() > 1e-3


@pytest.mark.parametrize("stem", [1, 2, 4, 8])
def test_stems(stem):
    config = UViTConfig(levels=(*SMALL, Level(channels=32, blocks=1)), stem=stem, embedding=32)
    assert config.divisor == 2 * stem
    z, logsnr = inputs(size=(32, 48))
    assert network(config)(z, logsnr).shape == z.shape


def test_other_channels_than_colour():
    z = torch.zeros(2, 1, 8, 8)
    assert UViTConfig(levels=SMALL, image_channels=1).build(None)(z, torch.zeros(2)).shape == z.shape


@pytest.mark.parametrize(("size", "nearest"), [
    ((30, 32), "28x32 or 32x32"), ((32, 33), "32x32 or 32x36"), ((2, 5), "4x4 or 4x8"),
])
def test_a_size_that_does_not_divide_is_refused_with_the_nearest(size, nearest):
    message = f"network.image: got '{size[0]}x{size[1]}'; allowed: sides that are multiples of 4; nearest: {nearest}"
    with pytest.raises(SnriseError, match=f"^{message}$"):
        network()(*inputs(size=size))


def test_wrong_channels_are_refused():
    with pytest.raises(SnriseError, match=r"network\.image: got '4 channels'; allowed: 3 channels"):
        network()(torch.zeros(1, 4, 16, 16), torch.zeros(1))


def test_no_label_is_the_null_class():
    model = network(classes=4)
    z, logsnr = inputs()
    assert torch.equal(model(z, logsnr), model(z, logsnr, torch.tensor([4, 4])))


def test_each_label_gives_another_output():
    model = network(classes=4)
    z, logsnr = inputs(1)
    outputs = [model(z, logsnr, torch.tensor([label])) for label in range(5)]
    for i in range(5):
        for j in range(i):
            assert not torch.allclose(outputs[i], outputs[j], atol=1e-4)


def test_a_network_without_classes_refuses_labels():
    with pytest.raises(SnriseError, match=r"network\.labels.*built without classes"):
        network()(*inputs(), torch.tensor([0, 0]))


@pytest.mark.parametrize("config", CONFIGS)
def test_the_noise_level_changes_the_output(config):
    model, (z, _) = network(config), inputs(1)
    low, high = model(z, torch.tensor([-5.0])), model(z, torch.tensor([5.0]))
    assert (low - high).abs().max() > 1e-3


@pytest.mark.parametrize("config", CONFIGS)
def test_infinite_noise_levels_give_finite_outputs_and_gradients(config):
    model, (z, _) = network(config), inputs()
    z.requires_grad_()
    out = model(z, torch.tensor([-torch.inf, torch.inf]))
    out.square().mean().backward()
    assert out.isfinite().all()
    assert z.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_parameter_moves_within_four_steps(config):
    """The last layer first, then what leaves a block, then its FiLM, then the conditioning: each starts at zero."""
    torch.manual_seed(0)
    model = built(config, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = AdamW()(model)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 1e-2
    z, logsnr = inputs(3)
    for _ in range(4):
        (model(z, logsnr, torch.tensor([0, 1, 2])) - z).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@pytest.mark.parametrize("config", CONFIGS)
def test_on_the_meta_device_nothing_is_allocated(config):
    meta, real = build(config, 7, "meta"), build(config, 7)
    assert all(p.is_meta for p in (*meta.parameters(), *meta.buffers()))
    assert sum(p.numel() for p in meta.parameters()) == sum(p.numel() for p in real.parameters())
    assert {n: p.shape for n, p in meta.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}
    assert not any(p.is_meta for p in real.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_a_seed_decides_the_weights(config):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build(config, 3).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert any(not torch.equal(models[0][name], models[2][name]) for name in models[0])


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_survive_safetensors(config):
    model, other = network(config, 3), network(config, 3, seed=5)
    z, logsnr = inputs()
    assert not torch.allclose(model(z, logsnr), other(z, logsnr))
    other.load_state_dict(load(save({n: t.contiguous() for n, t in model.state_dict().items()})))
    assert torch.equal(model(z, logsnr), other(z, logsnr))


@pytest.mark.parametrize("config", CONFIGS)
def test_images_of_a_batch_do_not_see_each_other(config):
    model, (z, logsnr) = network(config, 3), inputs(4)
    labels = torch.tensor([0, 1, 2, 3])
    together = model(z, logsnr, labels)
    alone = torch.cat([model(z[i : i + 1], logsnr[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_pixel_reaches_far(config):
    """Attention or the lowest level carries a corner's change to the opposite corner."""
    model, (z, logsnr) = network(config), inputs(1, (16, 16))
    changed = z.clone()
    changed[..., 0, 0] += 3
    assert (model(z, logsnr) - model(changed, logsnr))[..., -1, -1].abs().max() > 0


@pytest.mark.parametrize("config", CONFIGS)
def test_an_image_may_lie_in_memory_either_way(config):
    model, (z, logsnr) = network(config), inputs(2, (32, 32))
    last = z.to(memory_format=torch.channels_last)
    assert_close(model(last, logsnr), model(z, logsnr), atol=1e-5, rtol=1e-5, check_stride=False)


@pytest.mark.parametrize("config", [case for case in CONFIGS if not isinstance(case.values[0], ViTConfig)])
def test_what_convolutions_make_is_channels_last_in_memory(config):
    model, (z, logsnr) = network(config), inputs(2, (32, 32))
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, args, out: seen.append(out))
    model(z, logsnr)
    assert len(seen) >= 2
    assert all(h.is_contiguous(memory_format=torch.channels_last) for h in seen)


def test_training_works_after_sampling_in_inference_mode():
    model, (z, logsnr) = perturbed(MIXED.build(None)), inputs()
    with torch.inference_mode():
        model(z, logsnr)
    model(z, logsnr).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_bfloat16_autocast_gives_nearly_the_same():
    model, (z, logsnr) = network(), inputs()
    exact = model(z, logsnr)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(z, logsnr)
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Level(channels=0, blocks=1), "Level.channels: got 0; allowed: a whole number above 0"),
    (lambda: Level(channels=8, blocks=-1), "Level.blocks: got -1; allowed: a whole number, 0 or more"),
    (lambda: Level(channels=8, blocks=1, dropout=1.0), "Level.dropout: got 1.0; allowed: a number in [0, 1)"),
    (lambda: Level(channels=8, blocks=1, dropout=-0.1), "Level.dropout: got -0.1; allowed: a number in [0, 1)"),
    (lambda: Level(channels=32, blocks=1, attention=True, head=6), "Level.head: got 6; allowed: a multiple of 4"),
    (lambda: Level(channels=32, blocks=1, attention=True, head=0), "Level.head: got 0; allowed: a multiple of 4"),
    (lambda: Level(channels=32, blocks=1, attention=True, head=-4), "Level.head: got -4; allowed: a multiple of 4"),
    (lambda: Level(channels=70, blocks=1, kind=Kind.TRANSFORMER),
     "Level.channels: got 70; allowed: a multiple of head=32; use 64"),
    (lambda: Level(channels=8, blocks=1, attention=True),
     "Level.channels: got 8; allowed: a multiple of head=32; use 32"),
    (lambda: UViTConfig(levels=()), "UViTConfig.levels: got (); allowed: one level or more"),
    (lambda: UViTConfig(levels=SMALL, stem=0), "UViTConfig.stem: got 0; allowed: a whole number above 0"),
    (lambda: UViTConfig(levels=SMALL, embedding=0), "UViTConfig.embedding: got 0; allowed: a whole number above 0"),
    (lambda: UViTConfig(levels=SMALL, image_channels=0), "UViTConfig.image_channels: got 0; allowed: a whole number"),
])
def test_what_a_config_refuses(make, message):
    with pytest.raises(SnriseError, match=re.escape(message)):
        make()


def test_a_conv_level_without_attention_needs_no_head():
    assert not Level(channels=70, blocks=1, head=32).attends


def test_a_level_without_blocks_passes_through():
    config = UViTConfig(levels=(Level(channels=16, blocks=0), Level(channels=16, blocks=0)), embedding=32)
    z, logsnr = inputs()
    assert network(config)(z, logsnr).shape == z.shape


@pytest.mark.parametrize("config", CONFIGS)
def test_stages_are_those_an_image_passes(config):
    stages = config.stages()
    assert max(stage.factor for stage in stages) == config.divisor
    assert all(stage.kind in ("conv", "local", "attention", "transformer") for stage in stages)
    counted = sum(stage.blocks for stage in stages)
    kinds = ("ConvBlock", "LocalBlock", "TransformerBlock", "Block")
    assert counted == sum(type(m).__name__ in kinds for m in config.build(None).modules())


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (1024, 1024)])
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_each_kind_trains_a_step_and_samples_at_any_size(kind, size):
    """A large image is brought down by the stem."""
    factor = 4 if max(size) < 1000 else 64
    config = {
        "uvit": UViTConfig(levels=(Level(channels=8, blocks=1),) * 2, stem=factor, embedding=16),
        "unet": UNetConfig(levels=(Level(channels=8, blocks=1),) * 2, stem=factor, embedding=16),
        "vit": ViTConfig(width=16, depth=1, patch=factor, head=8, bottleneck=8),
        "nested": replace(NEST, inner=UViTConfig(levels=(Level(channels=8, blocks=1),), stem=factor, embedding=16)),
    }[kind]
    model = network(config)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    schedule = for_resolution(Cosine(), size)
    target = Target(Prediction.V)
    optimizer = AdamW()(model)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    losses = []
    for _ in range(2):
        loss, _ = denoising_loss(model, target, x, torch.ones_like(x), schedule(torch.tensor([0.5])))
        loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[1] != losses[0]
    grid = uniform_time(schedule, 2)
    with torch.no_grad():
        image = last(Ddim()(clipped(from_network(model, target)), torch.ones_like(x), grid))
    assert image.shape == x.shape
    assert image.isfinite().all()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: UNetConfig(levels=()), "UNetConfig.levels: got (); allowed: one level or more"),
    (lambda: UNetConfig(levels=(Level(channels=32, blocks=1, kind=Kind.TRANSFORMER),)),
     "UNetConfig.levels[0].kind: got 'transformer'; allowed: conv; use a UViTConfig for transformers"),
    (lambda: UNetConfig(levels=SMALL, middle=-1), "UNetConfig.middle: got -1"),
    (lambda: UNetConfig(levels=SMALL, stem=3, stem_kind=Stem.WAVELET),
     "UNetConfig.stem: got 3; allowed: 2, 4 or 8 for a wavelet; or use stem_kind=conv"),
    (lambda: UViTConfig(levels=SMALL, stem=1, stem_kind=Stem.WAVELET), "UViTConfig.stem: got 1; allowed: 2, 4 or 8"),
    (lambda: UViTConfig(levels=SMALL, context=0), "UViTConfig.context: got 0; allowed: a whole number above 0"),
    (lambda: ViTConfig(width=30, depth=1, patch=4, head=8),
     "ViTConfig.width: got 30; allowed: a multiple of head=8; use 24"),
    (lambda: ViTConfig(width=32, depth=1, patch=4, head=6), "ViTConfig.head: got 6; allowed: a multiple of 4"),
    (lambda: ViTConfig(width=32, depth=0, patch=4, head=8), "ViTConfig.depth: got 0"),
    (lambda: ViTConfig(width=32, depth=1, patch=4, head=8, dropout=1.0), "ViTConfig.dropout: got 1.0"),
    (lambda: ViTConfig(width=32, depth=1, patch=4, head=8, class_tokens=-1), "ViTConfig.class_tokens: got -1"),
])
def test_a_config_out_of_range_is_refused_in_a_line(make, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}"):
        make()


def test_a_config_is_read_from_plain_data():
    for name, configs in NETWORKS.items():
        for config in configs.values():
            document = plain(config)
            assert document["kind"] == name
            assert construct(NetworkConfig, document, "config.network") == config


@pytest.mark.parametrize("config", CONFIGS)
def test_bf16_autocast_is_close_and_silent(config):
    """Warnings are errors here."""
    model, (z, logsnr) = network(config), inputs()
    exact = model(z, logsnr)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(z, logsnr).float()
    assert (rough - exact).square().mean() < 0.01 * exact.square().mean()


@pytest.mark.parametrize("config", CONFIGS)
def test_traits_are_what_the_network_says(config):
    model = built(config, 3, "meta")
    traits = Traits(model)
    assert (traits.classes, traits.config) == (3, config)
    assert traits.edges == model.edges < {name for name, _ in model.named_parameters()}


def test_traits_of_any_module():
    model = torch.nn.Linear(2, 2)
    assert (Traits(model).classes, Traits(model).edges) == (None, None)
    assert Traits(model).config == External(type="torch.nn.modules.linear.Linear")
    model.classes, model.edges, model.config = 4, ["weight"], {"hidden_size": 3}
    assert (Traits(model).classes, Traits(model).edges) == (4, {"weight"})
    assert Traits(model).config.stages() == ()
    with pytest.raises(SnriseError, match=r"^External: this network returns no features, and cannot be within a nest"):
        _ = Traits(model).config.features
