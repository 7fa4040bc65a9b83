import sys

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch._subclasses.fake_tensor import FakeTensorMode

from snrise import documents, experiment
from snrise._errors import SnriseError
from snrise.networks import Level, UViT, UViTConfig
from snrise.networks import build as build_network
from snrise.networks.adapters import DiffusersDiT, DiffusersUNet
from snrise.optimizers import Muon
from snrise.optimizers.muon import QUINTIC, MuonAndAdamW, of_one_shape, orthogonalized
from snrise.training import Precision, load_state, save_state, train
from tiny import NETWORKS, built, pretends_to_be_on_a_gpu, recipe, state_of

pytestmark = pytest.mark.precision


@pytest.mark.parametrize("shape", [(8, 8), (8, 40), (40, 8)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)).float())
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_singular_vectors_stay():
    torch.manual_seed(0)
    matrix = torch.randn(6, 20)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalized(matrix).float() @ vh.T
    torch.testing.assert_close(found, torch.diag(found.diagonal()), atol=0.05, rtol=0)


def network():
    torch.manual_seed(0)
    levels = (Level(channels=16, blocks=1), Level(channels=32, blocks=1, attention=True))
    return UViT(UViTConfig(levels=levels, embedding=16))


def test_the_first_step_has_the_size_of_an_orthogonal_matrix():
    net = network()
    optimizer = Muon(scale=20.0)(net)
    for group in optimizer.param_groups:
        group["lr"] = 0.001 * group.get("lr_scale", 1.0)
    kernel = net.middle.blocks[0].conv1.weight
    before = kernel.detach().clone()
    kernel.grad = torch.randn_like(kernel) * 1e-4
    optimizer.step()
    step = (kernel.detach() - before).reshape(len(kernel), -1)
    values = torch.linalg.svdvals(step) / 0.02
    assert values.min() > 0.5
    assert values.max() < 1.3


def orthogonal(net, optimizer):
    """The names of the parameters that Muon itself takes."""
    chosen = {id(p) for group in optimizer.param_groups if group.get("muon") for p in group["params"]}
    return {name for name, p in net.named_parameters() if id(p) in chosen}


def test_edges_and_vectors_are_left_to_adamw():
    net = network()
    optimizer = Muon()(net)
    names = orthogonal(net, optimizer)
    assert "middle.blocks.0.conv1.weight" in names
    assert not [n for n in names if n.startswith(("stem.", "conditioning.")) or ".film." in n or n.endswith("bias")]
    every = sorted(id(p) for group in optimizer.param_groups for p in group["params"])
    assert every == sorted(id(p) for p in net.parameters())


def test_the_edges_of_a_vit():
    """Patches in and out, modulations and the class's positions; the MLP's own `enter` and `leave` are within."""
    net = NETWORKS["vit"]["class tokens"].build(3)
    of_a_block = {f"blocks.{i}.{name}.weight" for i in range(3) for name in ("qkv", "out", "enter", "leave")}
    assert orthogonal(net, Muon()(net)) == of_a_block


def test_the_edges_of_jit():
    net = build_network("jit-b-256", classes=10, device="meta")
    left = {name.split(".", 1)[0] for name in net.edges} | {"modulation"}
    assert left == {"conditioning", "enter", "positions", "modulation", "leave", "blocks"}
    assert {name for name in net.edges if name.startswith("blocks.")} == {
        f"blocks.{i}.modulation.{part}" for i in range(12) for part in ("weight", "bias")}


@pytest.mark.parametrize("config", [pytest.param(c, id=n) for table in NETWORKS.values() for n, c in table.items()])
def test_every_network_says_its_edges(config):
    """What has one side of the image's or the condition's numbers is an edge; what is wide on both sides is not."""
    net = built(config, 3)
    names = dict(net.named_parameters())
    assert net.edges <= names.keys()
    assert {n for n in names if "conditioning." in n} <= net.edges
    inner = orthogonal(net, Muon()(net))
    assert inner
    assert inner == {n for n, p in names.items() if p.ndim >= 2 and n not in net.edges}


def test_the_edges_of_adapted_models():
    unet = UNet2DModel(block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, num_class_embeds=3,
                       down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    dit = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=1,
                                sample_size=16, patch_size=4, num_embeds_ada_norm=2)
    for net in (DiffusersUNet(unet, 2), DiffusersDiT(dit, 2)):
        names = orthogonal(net, Muon()(net))
        assert names
        assert not [n for n in names if any(part in n for part in ("conv_in", "conv_out", "emb", "norm", "proj_out"))]


def test_a_network_that_says_no_edges_is_refused():
    told = r"muon\.network: got 'Linear'; allowed: a network with the attribute `edges`"
    with pytest.raises(SnriseError, match=told):
        Muon()(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("shape", [(8, 8), (12, 20), (8, 40), (40, 8), (64, 576)])
def test_steps_on_gram_matrices_are_the_steps(shape):
    """In float64, by the definition, whatever way is taken."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    torch.testing.assert_close(orthogonalized(matrix, torch.float64), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(orthogonalized(matrix.float()), x.float(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(orthogonalized(matrix, torch.bfloat16).double(), x, rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(8, 8), (12, 20), (8, 40), (40, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stack_of_matrices_is_each_by_itself(shape, dtype):
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = torch.stack([orthogonalized(matrix, dtype) for matrix in stack])
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype is torch.float64 else {"rtol": 0, "atol": 0.05}
    torch.testing.assert_close(orthogonalized(stack, dtype), each, **close)


def test_matrices_of_one_shape_together_step_as_each_by_itself(monkeypatch):
    """As on a GPU; kernels that are channels-last in memory among them, and a parameter without a gradient."""

    def steps():
        torch.manual_seed(0)
        kernels = [torch.nn.Parameter(torch.randn(6, 4, 3, 3)) for _ in range(3)]
        kernels[1].data = kernels[1].data.to(memory_format=torch.channels_last)
        group = {"params": [*kernels, torch.nn.Parameter(torch.randn(6, 4, 3, 3))], "muon": True, "weight_decay": 0.1}
        optimizer = MuonAndAdamW([group], lr=0.1)
        for _ in range(3):
            for p in kernels:
                p.grad = torch.randn(p.shape)
                if p is kernels[1]:
                    p.grad = p.grad.to(memory_format=torch.channels_last)
            optimizer.step()
        return group["params"]

    alone = steps()
    made = []
    module = sys.modules["snrise.optimizers.muon"]

    def together(parameters):
        found = {}
        for p in parameters:
            found.setdefault(module.in_memory_order(p).shape, []).append(p)
        made.append(sorted(map(len, found.values())))
        return list(found.values())

    monkeypatch.setattr(module, "of_one_shape", together)
    torch.testing.assert_close(steps(), alone, rtol=1e-4, atol=1e-5)
    assert made == [[1, 2]] * 3


@pytest.mark.skipif(not pretends_to_be_on_a_gpu(), reason="this PyTorch asks for CUDA, or a driver")
def test_on_a_gpu_all_of_one_shape_go_together():
    with FakeTensorMode():
        a, b, c = (torch.empty(rows, 4, device="cuda") for rows in (4, 8, 4))
        x, y = torch.empty(4, 4), torch.empty(4, 4)
        found = of_one_shape([a, x, b, c, y])
    assert [list(map(id, together)) for together in found] == [[id(a), id(c)], [id(x)], [id(b)], [id(y)]]


@pytest.mark.parametrize(("precision", "native", "dtype"), [
    (Precision.AUTO, True, torch.bfloat16), (Precision.AUTO, False, torch.float32),
    (Precision.FP32, True, torch.float32), (Precision.BF16, False, torch.bfloat16),
])
def test_its_products_are_in_the_runs_precision(monkeypatch, precision, native, dtype):
    monkeypatch.setattr("snrise.precision.bf16_is_native", lambda device: native)
    net, asked = network(), []
    optimizer = Muon()(net, precision=precision)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    module = sys.modules["snrise.optimizers.muon"]
    monkeypatch.setattr(module, "orthogonalized", lambda m, dtype: asked.append(dtype) or m)
    optimizer.step()
    assert set(asked) == {dtype}


def test_a_scale_out_of_range_is_refused():
    with pytest.raises(SnriseError, match=r"Muon\.scale: got 0"):
        Muon(scale=0)


def test_it_resumes_bit_for_bit(tmp_path):
    settings = documents.load("emoji-32", [
        "training.images=24", "training.batch=4", "network.levels.0.channels=16", "network.levels.1.channels=32",
        "data.only=[activities]", "training.precision=fp32",
    ])
    data = experiment.dataset(settings)

    def run(state, stop):
        for report in train(state, data.batches(4, seed=0, position=state.images_seen), recipe(settings)):
            if report.images_seen >= stop:
                return state
        return state

    whole = run(state_of(settings, 97), 24)
    half = run(state_of(settings, 97), 12)
    path = save_state(half, tmp_path, "")
    resumed = state_of(settings, 97)
    load_state(resumed, path)
    run(resumed, 24)
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
