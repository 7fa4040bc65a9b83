"""The papers' networks have the papers' sizes."""

import pytest
import torch
from torch import nn

from snrise._errors import SnriseError
from snrise.networks import PRESETS, NetworkConfig, build, cost
from tiny import built

#: Millions of parameters and 10⁹ multiply-adds of one image, as published; None: not published.
PUBLISHED = {
    "uvit-2b-128": (2000, None), "uvit-2b-256": (2000, None), "uvit-2b-512": (2000, None),
    "sid2-small-256": (None, 137),
    "jit-b-256": (131, 25), "jit-l-256": (459, 88), "jit-h-256": (953, 182),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_knows_its_size(name):
    side = int(name.rsplit("-", 1)[1])
    assert isinstance(PRESETS[name], NetworkConfig)
    network = built(PRESETS[name], classes=1000, device="meta")
    image, logsnr = torch.zeros(1, 3, side, side, device="meta"), torch.zeros(1, device="meta")
    assert network(image, logsnr, torch.zeros(1, dtype=torch.int64, device="meta")).shape == image.shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_papers_network_has_its_published_size(name):
    side = int(name.rsplit("-", 1)[1])
    parameters, gmacs = PUBLISHED[name]
    found = cost(build(name, classes=1000, device="meta"), (side, side))
    if parameters is not None:
        assert found.parameters / 1e6 == pytest.approx(parameters, rel=0.005)
    if gmacs is not None:
        assert found.macs / 1e9 == pytest.approx(gmacs, rel=0.015)


def test_an_unknown_preset_is_told():
    with pytest.raises(SnriseError, match=r"networks\.build: no such preset 'jit-b-255'; did you mean 'jit-b-256'?"):
        build("jit-b-255")


class Toy(nn.Module):
    """Two layers whose cost is known: a 1×1 convolution and a product of the mean colour."""

    classes = None

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 5, 1), nn.Conv2d(5, 3, 3, padding=1)])
        self.linear = nn.Linear(3, 3)

    def forward(self, z, logsnr, labels=None):
        for block in self.blocks:
            z = block(z)
        return z + self.linear(z.mean((2, 3)))[:, :, None, None]


def test_cost_counts_parts_by_hand():
    found = cost(Toy(), (8, 6))
    assert [(p.name, p.parameters, p.macs) for p in found.parts] == [
        ("blocks.0", 3 * 5 + 5, 48 * 15), ("blocks.1", 5 * 3 * 9 + 3, 48 * 135), ("linear", 12, 9)]
    assert (found.parameters, found.macs, found.flops) == (170, 48 * 150 + 9, 2 * (48 * 150 + 9))
    assert str(found).splitlines()[0] == f"{'8x6':<24}M parameters       GMACs"
    assert str(found).splitlines()[-1].startswith("all")


def test_cost_leaves_the_network_alone():
    toy = Toy()
    cost(toy, (8, 8))
    assert not any(p.is_meta for p in toy.parameters())


def test_attention_is_counted():
    """Two n×n products of the whole width, over and above the linear layers."""
    narrow, wide = (cost(build("jit-b-256", device="meta"), (side, side)).macs for side in (256, 512))
    tokens, width, depth = 256, 768, 12
    extra = wide - 4 * narrow  # linear layers grow by 4, attention by 16; the condition's layers not at all
    attention = 2 * tokens**2 * width * depth
    assert extra == pytest.approx(12 * attention, rel=0.15)
