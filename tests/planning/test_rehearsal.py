"""An imagined step holds and multiplies what a real one does."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from snrise import experiment
from snrise.data import Batch, Blank
from snrise.experiment import Experiment
from snrise.losses import denoising_loss
from snrise.networks import attention
from snrise.networks.cost import copied
from snrise.planning import Device, rehearse
from snrise.planning.ledger import Ledger, imagined
from snrise.training import train
from tiny import CROPPED, MIXED, NETWORKS, built, config, pretends_to_be_on_a_gpu, recipe, state_of

pytestmark = pytest.mark.precision

CONFIGS = [
    *(pytest.param(which, id=name) for table in NETWORKS.values() for name, which in table.items()),
    pytest.param(CROPPED, id="frozen, on a crop"),
]
#: A CPU whose allocator loses nothing.
EXACT = Device(title="a CPU", memory=2**30, gpu=False, overhead=0.0)
CLASSES = 3


def settings(which=MIXED, *overrides):
    return replace(config("training.precision=fp32", *overrides), network=which)


def rehearsed(how, device=EXACT):
    return rehearse(Experiment.imagined(how, CLASSES), device)


def checkpointed(which):
    return replace(which, levels=tuple(replace(level, checkpoint=True) for level in which.levels))


def real(how):
    """The second step of a real run, by the same bookkeeping: most bytes alive, FLOPs, and FLOPs as PyTorch counts."""
    state, count = state_of(how, CLASSES), how.training.batch
    images = torch.zeros(count, 3, *how.data.resolution, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    batches = (Batch(images=images, labels=labels, indices=list(range(count)), position=i * count)
               for i in itertools.count())
    steps = train(state, batches, recipe(how))
    with Ledger() as ledger:
        for tensor in (images, labels, *state.network.state_dict(keep_vars=True).values(), *state.network.buffers(),
                       *state.ema.parameters.values()):
            ledger._see(tensor)
        with FlopCounterMode(display=False) as counter:  # it takes operations apart: not while bytes are counted
            next(steps)
        before = [p.detach().clone() for p in state.network.parameters()]
        ledger.begin(float)
        next(steps)
    del before
    return ledger.peak, ledger.flops, counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("which", CONFIGS)
def test_it_holds_and_multiplies_what_a_real_step_does(which):
    how = settings(which)
    count, (peak, flops, pytorchs) = how.training.batch, real(how)
    found = rehearsed(how)
    # To the byte, but for a few numbers an image: λ, weight, losses.
    assert 0 <= peak - found.peak <= 32 * count
    assert found.flops * count == flops == pytorchs


@pytest.mark.slow
@pytest.mark.parametrize(("change", "tolerance"), [
    (("training.optimizer=muon",), 1e-4), (("training.accumulate=4",), 1e-4), (("training.accumulate=3",), 1e-4),
    (("loss.factors=[1, 2]", "data.resolution=[16, 24]"), 1e-4), (("training.precision=bf16",), 1e-3),
    (("training.class_dropout=0", "training.clip=null"), 1e-4),
])
def test_with_other_settings_too(change, tolerance):
    how = settings(MIXED, *change)
    assert rehearsed(how).peak == pytest.approx(real(how)[0], rel=tolerance)


def test_what_is_frozen_has_no_gradients():
    learnt = (p for name, p in built(CROPPED, CLASSES).named_parameters() if not name.startswith("inner."))
    assert rehearsed(settings(CROPPED)).gradients == 4 * sum(p.numel() for p in learnt)


@pytest.mark.slow
def test_with_activation_checkpointing_too():
    how = settings(replace(MIXED, levels=tuple(replace(level, checkpoint=True) for level in MIXED.levels)))
    (peak, flops, _), found, without = real(how), rehearsed(how), rehearsed(settings())
    assert found.peak == pytest.approx(peak, rel=2e-3)
    assert found.flops * how.training.batch == flops
    assert sum(found.kept.values()) < 0.5 * sum(without.kept.values())
    assert 1.15 < found.flops / without.flops < 4 / 3  # a forward pass more, but for what is in no level


@pytest.mark.slow
def test_more_parts_hold_less_of_the_batch_at_a_time():
    whole, parts = (rehearsed(settings(MIXED, f"training.accumulate={n}")) for n in (1, 4))
    assert (whole.images, parts.images) == (8, 2)
    assert sum(parts.kept.values()) < 0.5 * sum(whole.kept.values())
    assert parts.flops == pytest.approx(whole.flops, rel=0.02)


def test_what_is_kept_is_what_autograd_saves():
    """Of a real forward pass: bytes of all that autograd holds, but for parameters, and of the output."""
    how = settings()
    network = experiment.network(how, CLASSES).train()
    x, eps = torch.rand(2, 8, 3, 16, 16)
    held = {}

    def hold(tensor):
        held[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        denoising_loss(network, recipe(how).target, x, eps, torch.zeros(8), torch.zeros(8, dtype=torch.int64))
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    saved = sum(storage.nbytes() for key, storage in held.items() if key not in own)
    kept = rehearsed(how).kept
    # x and ε are held by the loop, not by autograd.
    assert sum(kept.values()) == pytest.approx(saved + 2 * x.nbytes, rel=0.01)


@pytest.mark.slow
def test_a_gpu_keeps_norms_in_float32_and_never_a_matrix_of_scores():
    cpu, gpu = (Device(title="x", memory=1, gpu=gpu, overhead=0.0) for gpu in (False, True))
    conv, vit = NETWORKS["uvit"]["conv"], NETWORKS["vit"]["class tokens"]
    half = config("training.precision=bf16")
    for which, more in ((conv, True), (vit, False)):
        on_cpu, on_gpu = (sum(rehearsed(replace(half, network=which), d).kept.values()) for d in (cpu, gpu))
        assert (on_gpu > on_cpu) is more


@pytest.mark.skipif(not pretends_to_be_on_a_gpu(), reason="this PyTorch asks for CUDA, or a driver")
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("which", CONFIGS)
def test_on_a_gpu_it_keeps_what_cuda_keeps(which, half):
    """A forward pass on tensors of PyTorch's that say they are on a GPU, with its rules of autocast, needs none."""
    def saved(device, network, z):
        held = {}

        def hold(tensor):
            held[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        torch.set_autocast_enabled(device, half)
        torch.set_autocast_dtype(device, torch.bfloat16)
        try:
            with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
                network(z, z.new_zeros(len(z)))
        finally:
            torch.set_autocast_enabled(device, False)
            torch.clear_autocast_cache()
        own = {p.untyped_storage()._cdata for p in network.parameters()}
        return sum(storage.nbytes() for key, storage in held.items() if key not in own)

    meta = built(which, device="meta")

    def on(device):
        like = copied(meta, lambda t: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device))
        return saved(device, like, torch.empty(2, 3, 32, 32, device=device))

    with imagined(gpu=True):
        ours = on("cpu")
    with FakeTensorMode(), Fused():
        attention.axial_angles.cache_clear()
        cudas = on("cuda")
    attention.axial_angles.cache_clear()
    assert ours == pytest.approx(cudas, rel=0.02 if half else 0.05)


class Fused(TorchFunctionMode):
    """Without a GPU, PyTorch would not choose the attention that one has."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            if not torch.is_autocast_enabled("cuda"):
                return torch.ops.aten._scaled_dot_product_efficient_attention(*args, None, True)[0]
            return torch.ops.aten._scaled_dot_product_flash_attention(*(t.bfloat16() for t in args))[0]
        return func(*args, **(kwargs or {}))


def test_nothing_imagined_stays():
    """Rotary positions are cached by size: those of an imagined network would be no numbers."""
    how = settings()
    rehearsed(how)
    assert experiment.network(how, CLASSES)(torch.zeros(1, 3, 16, 16), torch.zeros(1)).isfinite().all()
    for function in (F.group_norm, F.layer_norm, F.dropout, torch.addcmul):
        assert not (getattr(function, "__module__", None) or "").startswith("snrise")


@pytest.mark.slow
def test_context_vectors_count():
    network = built(replace(NETWORKS["uvit"]["transformer"], context=24), CLASSES)
    without, few, many = (
        rehearse(Experiment(data=Blank((16, 16), ("a", "b", "c"), context), network=network, images=64, batch=4), EXACT)
        for context in (None, (2, 24), (50, 24))
    )
    assert without.peak < few.peak < many.peak
    assert without.flops < few.flops < many.flops
