import copy
import itertools
import math
import re
import subprocess
import sys

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from safetensors.torch import load, save
from torch import nn
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise._typing import Network
from snrise.data import Batch, Blank
from snrise.denoisers import clipped, from_network, guided
from snrise.experiment import Experiment
from snrise.networks.adapters import DiffusersDiT, DiffusersUNet, cosine_time
from snrise.optimizers import AdamW
from snrise.process import Prediction, Target
from snrise.samplers import Ancestral, generators, last, start, uniform_time
from snrise.schedules import Cosine, for_resolution
from snrise.training import Ema, TrainState, train
from tiny import inputs, perturbed, scramble


def unet(**changes):
    settings = {
        "block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DModel(**settings | changes)


def dit(**changes):
    settings = {
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 3, "num_layers": 2, "sample_size": 16,
        "patch_size": 4, "num_embeds_ada_norm": 4,
    }
    return DiTTransformer2DModel(**settings | changes)


def adapted(kind, classes=4, seed=0, time=cosine_time, **changes):
    """A network with nothing at zero, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind is DiffusersUNet:
            model = unet(num_class_embeds=None if classes is None else classes + 1, **changes)
        else:
            model = dit(**changes)
        return perturbed(kind(model, classes, time)).eval()


ADAPTERS = pytest.mark.parametrize("kind", [DiffusersUNet, DiffusersDiT])


@ADAPTERS
@pytest.mark.parametrize("classes", [None, 4])
def test_it_keeps_the_contract_of_a_network(kind, classes):
    network = adapted(kind, classes)
    assert isinstance(network, Network)
    assert network.classes == classes
    z, logsnr = inputs()
    out = network(z, logsnr, None if classes is None else torch.tensor([0, 3]))
    assert out.shape == z.shape
    assert out.std() > 1e-3
    assert {id(p) for p in network.model.parameters()} == {id(p) for p in network.parameters()}


@ADAPTERS
def test_the_ends_of_the_noise_scale_are_finite(kind):
    z, _ = inputs()
    assert adapted(kind)(z, torch.tensor([-torch.inf, torch.inf])).isfinite().all()


def test_the_default_time_is_that_of_the_cosine_schedule():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert_close(cosine_time(Cosine(logsnr_min=-math.inf, logsnr_max=math.inf)(t)), 1000 * t)


@ADAPTERS
@pytest.mark.parametrize("time", [cosine_time, lambda logsnr: 999 * Cosine().inverse(logsnr)])
def test_it_is_the_model_at_that_time_with_that_label(kind, time):
    network = adapted(kind, time=time)
    z, logsnr = inputs()
    labels = torch.tensor([1, 4])
    assert torch.equal(network(z, logsnr, labels), network.model(z, time(logsnr), class_labels=labels).sample)
    assert not torch.equal(network(z, logsnr, labels), network.model(z, time(logsnr) + 5, class_labels=labels).sample)


def test_a_unet_without_classes_is_the_model():
    network = adapted(DiffusersUNet, None)
    z, logsnr = inputs()
    assert torch.equal(network(z, logsnr), network.model(z, cosine_time(logsnr)).sample)


@ADAPTERS
def test_labels_matter_and_none_is_the_null_class(kind):
    network = adapted(kind)
    z, logsnr = inputs()
    outs = [network(z, logsnr, torch.full((2,), label)) for label in range(5)]
    for a, b in itertools.combinations(outs, 2):
        assert (a - b).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(network(z, logsnr), outs[4])


def test_a_dit_without_classes_is_told_its_null_class():
    network = adapted(DiffusersDiT, None)
    z, logsnr = inputs()
    null = network.model(z, cosine_time(logsnr), class_labels=torch.tensor([4, 4])).sample
    assert torch.equal(network(z, logsnr), null)


def test_a_dit_in_training_drops_no_label_of_its_own():
    network = adapted(DiffusersDiT)
    z, logsnr = (tensor.repeat(64, *[1] * (tensor.dim() - 1)) for tensor in inputs(batch=1))
    labels = torch.arange(64) % 5
    still = network(z, logsnr, labels)
    for seed in (1, 2):
        scramble(seed)
        assert torch.equal(network.train()(z, logsnr, labels), still)
    for block in network.model.transformer_blocks:
        block.norm1.emb.class_embedder.dropout_prob = 0.1  # as diffusers makes it
    assert not torch.equal(network(z, logsnr, labels), still)


@ADAPTERS
def test_of_a_learned_variance_the_mean_is_returned(kind):
    network = adapted(kind, out_channels=6)
    z, logsnr = inputs()
    labels = torch.tensor([1, 4])
    whole = network.model(z, cosine_time(logsnr), class_labels=labels).sample
    assert whole.shape == (2, 6, 16, 16)
    assert torch.equal(network(z, logsnr, labels), whole[:, :3])


def test_images_of_other_shapes_and_channels():
    for kind, size in ((DiffusersUNet, (16, 24)), (DiffusersUNet, (18, 16)), (DiffusersDiT, (24, 24))):
        z, logsnr = inputs(size=size)
        assert adapted(kind)(z, logsnr).shape == z.shape
    for kind in (DiffusersUNet, DiffusersDiT):
        z = torch.zeros(2, 1, 16, 16)
        assert adapted(kind, in_channels=1, out_channels=1)(z, torch.zeros(2)).shape == z.shape


def test_three_levels_divide_by_four():
    network = adapted(DiffusersUNet, block_out_channels=(8, 8, 8), down_block_types=("DownBlock2D",) * 3,
                      up_block_types=("UpBlock2D",) * 3)
    assert network(*inputs(size=(12, 20))).shape == (2, 3, 12, 20)
    with pytest.raises(SnriseError, match="multiples of 4; nearest: 12x16 or 16x16"):
        network(*inputs(size=(14, 16)))


@ADAPTERS
def test_weights_survive_safetensors(kind):
    network, other = adapted(kind), adapted(kind, seed=1)
    z, logsnr = inputs()
    assert not torch.equal(other(z, logsnr), network(z, logsnr))
    other.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(other(z, logsnr), network(z, logsnr))


def batches():
    generator = torch.Generator().manual_seed(0)
    for position in itertools.count(step=4):
        images = torch.rand(4, 3, 16, 16, generator=generator) * 2 - 1
        yield Batch(images, torch.arange(4), list(range(4)), position)


@ADAPTERS
@pytest.mark.parametrize("classes", [None, 4])
def test_it_trains_and_samples_on_a_shifted_schedule(kind, classes):
    network = adapted(kind, classes)
    before = copy.deepcopy(network.state_dict())
    schedule = for_resolution(Cosine(), image=(16, 16), reference=(8, 8))
    target = Target(Prediction.V)
    recipe = Experiment(data=Blank((16, 16)), network=network, target=target, schedule=schedule, factors=(1, 2),
                        class_dropout=0.5, learning_rate=1e-3, images=16, warmup=0, decay=0.0)
    state = TrainState(network=network, ema=Ema(network, 0), optimizer=AdamW()(network))
    reports = list(train(state, batches(), recipe, images=16))
    assert [r.fault for r in reports] == [None] * 4
    after = network.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, _ in network.named_parameters()}

    grid, own = uniform_time(schedule, steps=3), generators(seed=0, first=0, count=2)
    network = state.ema.averaged(network).eval()
    with torch.no_grad():
        denoise = from_network(network, target)
        if classes is not None:
            denoise = guided(from_network(network, target, torch.tensor([0, 3])), denoise, scale=2.0)
        images = last(Ancestral(gamma=0.2)(clipped(denoise), start(denoise, (2, 3, 16, 16), grid[0], own), grid, own))
    assert images.shape == (2, 3, 16, 16)
    assert images.isfinite().all()


REFUSED = {
    "unet: class": (
        lambda: DiffusersUNet(nn.Linear(1, 1)),
        "DiffusersUNet.model: got 'Linear'; allowed: diffusers.UNet2DModel",
    ),
    "dit: class": (
        lambda: DiffusersDiT(unet()),
        "DiffusersDiT.model: got 'UNet2DModel'; allowed: diffusers.DiTTransformer2DModel",
    ),
    "classes": (
        lambda: DiffusersUNet(unet(), classes=0),
        "DiffusersUNet.classes: got 0; allowed: a whole number above 0, or None",
    ),
    "unet: no classes": (
        lambda: DiffusersUNet(unet(), classes=4),
        "DiffusersUNet.model.num_class_embeds: got None; allowed: classes + 1 = 5; "
        "make the model with num_class_embeds=5",
    ),
    "unet: no null class": (
        lambda: DiffusersUNet(unet(num_class_embeds=4), classes=4),
        "DiffusersUNet.model.num_class_embeds: got 4; allowed: classes + 1 = 5; make the model with num_class_embeds=5",
    ),
    "unet: needs classes": (
        lambda: DiffusersUNet(unet(num_class_embeds=5)),
        "DiffusersUNet.model.num_class_embeds: got 5; allowed: None for classes=None; "
        "pass classes=4, or make the model without num_class_embeds",
    ),
    "unet: label": (
        lambda: DiffusersUNet(unet(class_embed_type="timestep"), classes=4),
        "DiffusersUNet.model.class_embed_type: got 'timestep'; allowed: None; use num_class_embeds",
    ),
    "unet: time": (
        lambda: DiffusersUNet(unet(time_embedding_type="fourier")),
        "DiffusersUNet.model.time_embedding_type: got 'fourier'; allowed: 'positional'",
    ),
    "dit: classes": (
        lambda: DiffusersDiT(dit(num_embeds_ada_norm=5), classes=4),
        "DiffusersDiT.model.num_embeds_ada_norm: got 5; allowed: classes = 4; "
        "make the model with num_embeds_ada_norm=4 (it adds the null class), or pass classes=5",
    ),
    "out_channels": (
        lambda: DiffusersDiT(dit(out_channels=4)),
        "DiffusersDiT.model.out_channels: got 4; allowed: in_channels=3, or twice that with a learned variance",
    ),
    "labels": (
        lambda: adapted(DiffusersDiT, None)(*inputs(), torch.tensor([0, 1])),
        "network.labels: got 'labels'; allowed: None for a network made without classes; "
        "make it with DiffusersDiT(model, classes=…)",
    ),
    "channels": (
        lambda: adapted(DiffusersUNet, in_channels=1, out_channels=1)(*inputs()),
        "network.image: got '3 channels'; allowed: 1 channels",
    ),
    "unet: sides": (
        lambda: adapted(DiffusersUNet)(*inputs(size=(15, 16))),
        "network.image: got '15x16'; allowed: sides that are multiples of 2; nearest: 14x16 or 16x16",
    ),
    "dit: sides": (
        lambda: adapted(DiffusersDiT)(*inputs(size=(18, 18))),
        "network.image: got '18x18'; allowed: sides that are multiples of 4; nearest: 16x16 or 20x20",
    ),
    # As many tokens as a square has: the model itself would return another picture's shape.
    "dit: rectangle": (
        lambda: adapted(DiffusersDiT)(*inputs(size=(8, 32))),
        "network.image: got '8x32'; allowed: square images (DiTTransformer2DModel); use DiffusersUNet",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(make, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}$"):
        make()


def test_without_diffusers_it_says_so(monkeypatch):
    model = unet()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(SnriseError, match=r"^DiffusersUNet: needs diffusers: pip install diffusers$"):
        DiffusersUNet(model)


@pytest.mark.slow
def test_importing_it_does_not_import_diffusers():
    code = "import sys, snrise.networks.adapters; sys.exit('diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
