import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from snrise.networks.stems import Patches, PatchStem, shuffled, unshuffled


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_shuffles_are_those_of_pytorch(factor, memory):
    x = random(2, 3, 8, 12).to(memory_format=memory)
    h = unshuffled(x, factor)
    assert torch.equal(h, F.pixel_unshuffle(x, factor))
    assert h.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shuffled(h, factor), x)
    assert shuffled(h, factor).is_contiguous()


@pytest.mark.parametrize("factor", [2, 4])
def test_patches_are_a_convolution_with_its_derivative(factor):
    patches = Patches(3, 5, factor, stride=factor)
    x = random(2, 3, 8, 12).requires_grad_()
    inputs = (x, patches.weight, patches.bias)
    found = patches(x), F.conv2d(x, patches.weight, patches.bias, stride=factor)
    assert_close(*found)
    toward = random(*found[0].shape, seed=1)
    assert_close(*(torch.autograd.grad((out * toward).sum(), inputs) for out in found))


def test_a_stem_begins_as_nothing_and_keeps_the_size():
    stem = PatchStem(3, 8, 4)
    h = stem.down(random(2, 3, 16, 8))
    assert h.shape == (2, 8, 4, 2)
    assert torch.equal(stem.up(h), torch.zeros(2, 3, 16, 8))
