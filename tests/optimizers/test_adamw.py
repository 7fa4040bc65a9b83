import pytest
import torch
from torch import nn

from snrise.optimizers.adamw import FusedAdamW, in_memory_order


def network():
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8 * 16, 4)
    return nn.Sequential(*parts).to(memory_format=torch.channels_last)


def stepped(optimizer, **settings):
    net = network()
    steps = optimizer(net.parameters(), lr=1e-2, weight_decay=0.1, **settings)
    for seed in range(3):
        images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        net(images.to(memory_format=torch.channels_last)).square().sum().backward()
        steps.step()
        steps.zero_grad()
    return net, steps


@pytest.mark.parametrize("fused", [False, True])
def test_steps_are_those_of_pytorch_to_the_bit(fused):
    (ours, mine), (theirs, other) = (stepped(kind, fused=fused) for kind in (FusedAdamW, torch.optim.AdamW))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()
        for name, value in mine.state[a].items():
            assert torch.equal(value, other.state[b][name])
            assert value.stride() == other.state[b][name].stride()


def test_the_fused_step_copies_no_kernel():
    net, steps = stepped(FusedAdamW, fused=True)
    net(torch.randn(1, 3, 4, 4)).square().sum().backward()
    with torch.profiler.profile() as profile:
        steps.step()
    assert not [event for event in profile.events() if event.name == "aten::clone"]


def test_memory_order_is_a_view():
    kernel = torch.randn(8, 3, 5, 5).to(memory_format=torch.channels_last)
    view = in_memory_order(kernel)
    assert view.is_contiguous()
    assert view.data_ptr() == kernel.data_ptr()
    for other in (torch.randn(8, 3, 5, 5), torch.randn(8, 3), torch.randn(8, 3).T):
        assert in_memory_order(other) is other
