import pytest
import torch

from snrise import build, documents
from snrise._errors import SnriseError
from snrise.networks import Level, UViT, UViTConfig
from snrise.training import load_state, muon, save_state, train
from snrise.training.muon import orthogonalized


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
    optimizer = muon(net, scale=20.0)
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


def test_edges_and_vectors_are_left_to_adamw():
    net = network()
    optimizer = muon(net)
    chosen = {id(p) for p in optimizer.param_groups[0]["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in chosen}
    assert "middle.blocks.0.conv1.weight" in names
    assert not [n for n in names if n.startswith(("stem.", "conditioning.")) or ".film." in n or n.endswith("bias")]
    every = sorted(id(p) for group in optimizer.param_groups for p in group["params"])
    assert every == sorted(id(p) for p in net.parameters())


def test_a_scale_out_of_range_is_refused():
    with pytest.raises(SnriseError, match=r"muon\.scale: got 0"):
        muon(network(), scale=0)


def test_it_resumes_bit_for_bit(tmp_path):
    settings = documents.load("emoji-32", [
        "training.images=24", "training.batch=4", "network.levels.0.channels=16", "network.levels.1.channels=32",
        "data.only=[activities]", "training.precision=fp32",
    ])
    data = build.dataset(settings)

    def run(state, stop):
        for report in train(state, data.batches(4, seed=0, position=state.images_seen), build.recipe(settings)):
            if report.images_seen >= stop:
                return state
        return state

    whole = run(build.state(settings, 97), 24)
    half = run(build.state(settings, 97), 12)
    path = save_state(half, tmp_path, "")
    resumed = build.state(settings, 97)
    load_state(resumed, path)
    run(resumed, 24)
    for a, b in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(a, b)
