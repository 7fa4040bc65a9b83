import pytest
import torch
from torch import nn

from snrise.training.faults import Spikes, first_nonfinite, nonfinite_weight


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1 / x


class Root(nn.Module):
    """Finite at 0, with a gradient that is not."""

    def forward(self, x):
        return (x * 0).abs().sqrt()


def network(middle):
    net = nn.Sequential(nn.Linear(3, 3), middle, nn.Linear(3, 1))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    return net


def test_the_first_module_is_named():
    net = network(Reciprocal())
    assert first_nonfinite(net, lambda: net(torch.ones(2, 3))) == "output of 1 (Reciprocal)"


def test_a_weight_is_named():
    net = network(nn.Identity())
    with torch.no_grad():
        net[2].bias[0] = torch.nan
    assert nonfinite_weight(net) == "weight 2.bias"


def test_a_gradient_is_named():
    net = network(Root())
    told = first_nonfinite(net, lambda: net(torch.ones(2, 3)).sum().backward())
    assert told in ("gradient of 0.weight", "gradient of 0.bias")


def test_what_the_network_has_no_part_in():
    net = network(nn.Identity())
    assert first_nonfinite(net, lambda: net(torch.ones(2, 3)).sum().backward()) is None
    assert nonfinite_weight(net) is None


def test_no_hook_stays():
    net = network(Reciprocal())
    with pytest.raises(RuntimeError):
        first_nonfinite(net, lambda: net(torch.ones(2, 4)))
    assert not any(m._forward_hooks for m in net.modules())
    assert not any(p._backward_hooks for p in net.parameters())


def test_spikes_are_told_from_noise_and_from_a_slow_rise():
    generator = torch.Generator().manual_seed(0)
    losses = 1 + 0.2 * torch.randn(2000, generator=generator)
    rise = losses + torch.linspace(0, 3, 2000)
    for course in (losses, rise, losses.flip(0) * torch.linspace(5, 1, 2000)):
        spikes = Spikes()
        assert not any(spikes(float(loss)) for loss in course)
        last = float(course[-200:].mean())
        assert spikes(6 * last)
        assert not spikes(last)
        assert spikes(6 * last)


def test_the_beginning_is_no_spike():
    spikes = Spikes()
    assert not any(spikes(loss) for loss in (1.0, 50.0, 3.0))


def test_spikes_go_on_from_their_state():
    a = Spikes()
    for i in range(120):
        a(1 + 0.1 * (i % 3))
    b = Spikes(**a.state())
    assert [a(x) for x in (1.0, 2.0, 1.1)] == [b(x) for x in (1.0, 2.0, 1.1)] == [False, True, False]
    assert a == b
