"""A step on a GPU, on tensors that say they are on one: PyTorch raises where two devices meet. No GPU is needed."""

import contextlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from snrise.data import Batch
from snrise.networks import attention
from snrise.networks import build as build_network
from snrise.networks.cost import copied
from snrise.training import TrainState, loop
from tiny import config, pretends_to_be_on_a_gpu, recipe


class WithoutDriver(TorchFunctionMode):
    """What PyTorch refuses where there is no GPU: its generators, pinned memory, the way back."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.randn:
            del kwargs["generator"]
        if func is torch.Tensor.pin_memory:
            return args[0]
        if func is torch.Tensor.backward:
            assert args[0].device.type == "cuda"
            return None
        return func(*args, **kwargs)


@pytest.fixture(autouse=True)
def no_cached_positions():
    attention.axial_angles.cache_clear()
    yield
    attention.axial_angles.cache_clear()


@pytest.mark.skipif(not pretends_to_be_on_a_gpu(), reason="this PyTorch asks for CUDA, or a driver")
@pytest.mark.parametrize("settings", [(), ("training.accumulate=3", "training.optimizer=muon")])
def test_every_tensor_of_a_step_is_where_the_network_is(settings, monkeypatch):
    how, own, asked = config(*settings), torch.Generator, []
    steps = recipe(how)

    class Noted:
        def __new__(cls, device="cpu"):
            asked.append(str(device))
            return own()

    monkeypatch.setattr(loop.torch, "Generator", Noted)
    monkeypatch.setattr(loop.torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    meta = build_network(how.network, 3, device="meta")
    with FakeTensorMode(allow_non_fake_inputs=True), WithoutDriver():
        network = copied(meta, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda"))
        state, labels = TrainState.begun(how.training, network), torch.zeros(8, dtype=torch.int64)
        batch = Batch(images=torch.empty(8, 3, 16, 16), labels=labels, indices=list(range(8)), position=0)
        logsnr, losses, plain = loop._gradient(state, batch, steps)
        for p in network.parameters():
            p.grad = torch.empty_like(p)
        state.optimizer.step()
        state.ema.update(network, 8, 8)
    assert asked == ["cuda:0"] * 8
    assert (logsnr.device.type, losses.device.type, plain.device.type) == ("cpu", "cuda", "cuda")
    kept = [value for entries in state.optimizer.state.values() for value in entries.values() if value.ndim]
    assert {t.device.type for t in (*kept, *state.ema.parameters.values())} == {"cuda"}
