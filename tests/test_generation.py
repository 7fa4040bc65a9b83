import dataclasses
import hashlib
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from examples import SAMPLERS, flat
from snrise import generation as module
from snrise._errors import SnriseError
from snrise.config import Sampling
from snrise.generation import Generation, draw_labels
from snrise.process import Prediction, Straight, Target, VarianceExploding
from snrise.samplers import Ancestral, Ddim, uniform_time
from snrise.schedules import Cosine
from snrise.training import Precision
from tiny import MIXED, network

pytestmark = pytest.mark.precision

GRID = uniform_time(Cosine(logsnr_min=-8.0, logsnr_max=8.0), 4)


class Stops(NamedTuple):
    """A grid of these λ, whatever the schedule."""

    logsnrs: Any

    def __call__(self, schedule, steps, /):
        return self.logsnrs


def generation(**changes):
    """How images of 16 px are made, by a network that is told later."""
    grid = changes.pop("logsnrs", GRID)
    names = {f.name for f in dataclasses.fields(Sampling)}
    sampling = Sampling(grid=Stops(grid), **{name: value for name, value in changes.items() if name in names})
    settings = {
        "network": torch.nn.Identity(), "target": Target(Prediction.V), "size": (16, 16), "schedule": Cosine(),
        "precision": Precision.FP32, "sampling": sampling,
    }
    return Generation(**settings | {name: value for name, value in changes.items() if name not in names})


def generate(model, how, *rest, **more):
    return module.generate(dataclasses.replace(how, network=model), *rest, **more)


def trajectory(model, how, *rest, **more):
    return module.trajectory(dataclasses.replace(how, network=model), *rest, **more)


class Painter(nn.Module):
    """Says that the image is its label's grey (0.25 a class), nothing being 0; counts its calls."""

    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes
        self.unused = nn.Parameter(torch.zeros(1))
        self.calls, self.means = [], []

    def forward(self, z, logsnr, labels=None):
        self.means.append(z.mean().item())
        self.calls.append(None if labels is None else labels.tolist())
        grey = torch.zeros(len(z)) if labels is None else 0.25 * (labels + 1)
        return grey.float()[:, None, None, None].expand_as(z)


def paint(labels, count=2, **changes):
    painter = Painter()
    how = generation(target=Target(Prediction.X), sampler=Ddim(), **changes)
    images = torch.cat(list(generate(painter, how, None if labels is None else torch.tensor(labels), count)))
    return images, painter.calls


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_an_image_is_the_same_in_any_batch(guidance):
    model, labels = network(classes=3), torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])
    how = generation(guidance=guidance, sampler=Ancestral(gamma=0.3))
    batches = {batch: list(generate(model, how, labels, 8, seed=3, batch=batch)) for batch in (8, 3, 1)}
    assert [len(part) for part in batches[3]] == [3, 3, 2]
    images = {batch: torch.cat(parts).int() for batch, parts in batches.items()}
    assert images[8].shape == (8, 3, 16, 16)
    for batch in (1, 3):
        assert (images[batch] - images[8]).abs().max() <= 1
    assert all((images[8][i] - images[8][j]).abs().float().mean() > 5 for i in range(8) for j in range(i))
    fewer = torch.cat(list(generate(model, how, labels[:5], 5, seed=3, batch=64))).int()
    assert (fewer - images[8][:5]).abs().max() <= 1


def test_images_from_any_number_on():
    model, labels = network(classes=3), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = torch.cat(list(generate(model, generation(), labels, 6, seed=3, batch=2)))
    part = torch.cat(list(generate(model, generation(), labels[2:], 4, seed=3, batch=2, first=2)))
    assert torch.equal(part, whole[2:])


def test_another_seed_is_another_picture_and_the_same_the_same():
    model = network()
    one, same, other = (next(generate(model, generation(), None, 1, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert (one.int() - other.int()).abs().float().mean() > 5


def test_images_are_uint8_on_the_cpu():
    images = next(generate(network(), generation(size=(16, 24)), None, 2))
    assert (images.dtype, images.device.type, images.shape) == (torch.uint8, "cpu", (2, 3, 16, 24))


def test_a_network_in_training_is_asked_without_dropout_and_left_as_it_was():
    """Also between two states of a trajectory, when whoever trains it goes on."""
    model, how = network(replace(MIXED, levels=tuple(replace(v, dropout=0.5) for v in MIXED.levels))), generation()
    still = next(generate(model, how, None, 2))
    model.train()
    model.middle.eval()
    modes = [module.training for module in model.modules()]
    assert torch.equal(next(generate(model, how, None, 2)), still)
    states = []
    for state in trajectory(model, how, None, 2):
        assert [module.training for module in model.modules()] == modes
        states.append(state.x)
    assert torch.equal(states[-1], still)
    assert [module.training for module in model.modules()] == modes


def test_labels_reach_the_network_and_come_out():
    images, calls = paint([0, 2])
    assert calls == [[0, 2]] * 4
    # The grid ends at λ = 8, where a little noise is left: σ = 0.018, two grey levels.
    means = images.double().mean(dim=(1, 2, 3))
    assert_close(means, 127.5 * (1 + torch.tensor([0.25, 0.75])).double(), atol=3, rtol=0)


def test_guidance_of_one_never_asks_twice():
    assert paint([0, 1], guidance=1.0)[1] == [[0, 1]] * 4


def test_guidance_asks_for_the_null_class_and_steers_away_from_it():
    images, calls = paint([0, 1], guidance=1.5)
    assert calls == [[0, 1], None] * 4
    means = images.double().mean(dim=(1, 2, 3))
    assert_close(means, 127.5 * (1 + 1.5 * torch.tensor([0.25, 0.5])).double(), atol=3, rtol=0)


def test_guidance_without_labels_is_none():
    assert paint(None, guidance=3.0)[1] == [None] * 4


def test_guidance_within_an_interval():
    calls = paint([0, 1], guidance=2.0, guidance_interval=(-1.0, 1.0))[1]
    inside = [bool(-1 <= logsnr <= 1) for logsnr in GRID[:-1]]
    assert sum(call is None for call in calls) == sum(inside) == 1


def test_clipping_holds_the_image_in_range():
    means = {}
    for clip in (True, False):
        painter = Painter()
        how = generation(target=Target(Prediction.X), sampler=Ddim(), guidance=3.0, clip=clip)
        list(generate(painter, how, torch.tensor([2, 2]), 2))
        means[clip] = painter.means[-1]
    # On the way down, before the last rounding: x̂ is 3·0.75 = 2.25, and z at the last level but one is α·x̂ and noise.
    alpha = torch.sigmoid(GRID[-2]).sqrt().item()
    assert means[True] == pytest.approx(alpha, abs=0.1)
    assert means[False] == pytest.approx(2.25 * alpha, abs=0.1)


def test_the_process_of_the_target_gives_the_first_noise():
    """Straight: σ(λ) at the noisy end is not VP's."""
    seen = []

    class Spy(Painter):
        def forward(self, z, logsnr, labels=None):
            seen.append(z.std().item())
            return super().forward(z, logsnr, labels)

    grid = uniform_time(Cosine(logsnr_min=-1.0, logsnr_max=8.0), 2)
    for process in (Straight(), Target(Prediction.X).process):
        how = generation(target=Target(Prediction.X, process), sampler=Ddim(), logsnrs=grid)
        list(generate(Spy(), how, None, 8))
    straight, preserving = seen[0], seen[2]
    assert straight == pytest.approx(torch.sigmoid(torch.tensor(0.5)).item(), rel=0.03)
    assert preserving == pytest.approx(torch.sigmoid(torch.tensor(1.0)).sqrt().item(), rel=0.03)


@pytest.mark.parametrize(("changes", "message"), [
    ({"guidance": -1.0}, r"^guidance: got -1"),
    ({"upsample": 0}, r"^upsample: got 0; allowed: a whole number, 1 \(as trained\) or more"),
    ({"clip": False, "dynamic_clip": 0.9}, r"^dynamic_clip: got 0\.9; allowed: a number above 0, up to 1"),
])
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(SnriseError, match=message):
        generation(**changes)


@given(weights=st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any), count=st.integers(1, 200),
       seed=st.integers(0, 2**31))
def test_labels_come_in_the_proportions_of_the_data(weights, count, seed):
    share = torch.tensor(weights).double() / sum(weights)
    labels = draw_labels(share.tolist(), count, seed)
    assert torch.equal(labels, draw_labels(share.tolist(), count, seed))
    so_far = labels[:, None].eq(torch.arange(len(weights))).cumsum(0)
    off = (so_far - torch.arange(1, count + 1)[:, None] * share).abs()
    assert len(labels) == count
    # As few pictures off as a low-discrepancy sequence promises, at the end of each block of 16; in between a few more.
    assert (off[15::16] < 3).all()
    assert (off < 6).all()
    assert (so_far[:, share == 0] == 0).all()


@given(count=st.integers(0, 300), more=st.integers(0, 300), seed=st.integers(0, 2**31))
def test_the_label_of_an_image_does_not_depend_on_how_many_there_are(count, more, seed):
    share = [0.5, 0.2, 0.2, 0.1]
    assert torch.equal(draw_labels(share, count + more, seed)[:count], draw_labels(share, count, seed))


@pytest.mark.parametrize(("seed", "digest"), [
    (0, "b9b73c80ba61591d"), (1, "88c05dbfee1b9d2b"), (7, "c03f63a74ccbc1b7"),
])
def test_the_labels_of_a_seed_stay_as_they_were(seed, digest):
    labels = draw_labels([1.0] * 200, 4096, seed)
    assert hashlib.blake2b(bytes(labels.tolist()), digest_size=8).hexdigest() == digest


def test_labels_of_many_images_are_even_too():
    counts = draw_labels([1.0] * 1000, 500_000, seed=0).bincount(minlength=1000)
    assert (counts - 500).abs().max() < 8


def test_labels_are_shuffled_and_leave_global_randomness_alone():
    before = torch.get_rng_state()
    one, other = draw_labels([0.5, 0.5], 100, 0), draw_labels([0.5, 0.5], 100, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one, other)
    assert not torch.equal(one, one.sort().values)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0], [0, 1, 2]])
def test_labels_out_of_range_or_number_are_refused(labels):
    with pytest.raises(SnriseError, match=r"generate\.labels: got \[.*\]; allowed: 2 class numbers from 0 to 2"):
        paint(labels)


def test_labels_for_a_network_without_classes_are_refused():
    how = generation(target=Target(Prediction.X), sampler=Ddim())
    with pytest.raises(SnriseError, match=r"generate\.labels: got \[0\]; allowed: None: this network knows no classes"):
        next(generate(Painter(None), how, torch.tensor([0]), 1))


@pytest.mark.parametrize("labels", [[0, 1], None])
def test_a_weak_network_is_the_reference_of_the_same_labels_and_of_none(labels):
    class Weak(Painter):
        """Half as bright."""

        def forward(self, z, logsnr, labels=None):
            return 0.5 * super().forward(z, logsnr, labels) - 0.1

    weak = Weak()
    images, calls = paint(labels, guidance=1.5, weak=weak, guidance_interval=(-3.0, 9.0))
    assert calls == [labels] * 4
    assert weak.calls == [labels] * 3
    assert weak.training
    grey = torch.zeros(2) if labels is None else torch.tensor([0.25, 0.5])
    wanted = grey + 0.5 * (grey - 0.5 * grey + 0.1)
    assert_close(images.double().mean(dim=(1, 2, 3)), 127.5 * (1 + wanted.double()), atol=3, rtol=0)


def test_guidance_is_rescaled():
    """Two stripes, ±0.2 with the class and ±0.1 without: guided at 3, ±0.4; with its contrast again, ±0.2."""
    class Striped(Painter):
        def forward(self, z, logsnr, labels=None):
            stripes = torch.tensor([1.0, -1.0]).repeat(8).expand_as(z)
            return stripes * (0.1 if labels is None else 0.2)

    grid, found = torch.tensor([-8.0, 12.0], dtype=torch.float64), {}
    for rescale in (0.0, 0.5, 1.0):
        how = generation(target=Target(Prediction.X), sampler=Ddim(), logsnrs=grid, guidance=3.0, rescale=rescale)
        images = next(generate(Striped(), how, torch.tensor([0]), 1)).double()
        found[rescale] = images[..., 0::2].mean().item() - 127.5
    assert found == pytest.approx({0.0: 127.5 * 0.4, 0.5: 127.5 * 0.3, 1.0: 127.5 * 0.2}, abs=1.5)


def test_dynamic_clipping_scales_into_range():
    """Half of the pixels are at 2, the others at 1: cut off, all are white; scaled, these are grey."""
    class Bright(Painter):
        def forward(self, z, logsnr, labels=None):
            return torch.tensor([1.0, 2.0]).repeat(8).expand_as(z)

    grid, found = torch.tensor([-8.0, 12.0], dtype=torch.float64), {}
    for percentile in (None, 0.9):
        how = generation(target=Target(Prediction.X), sampler=Ddim(), logsnrs=grid, dynamic_clip=percentile)
        images = next(generate(Bright(), how, None, 1)).double()
        found[percentile] = images[..., 0::2].mean().item()
    assert found == pytest.approx({None: 255, 0.9: 127.5 * 1.5}, abs=1)


def test_upsampling_asks_for_images_of_both_sizes():
    seen = []

    class Spy(Painter):
        def forward(self, z, logsnr, labels=None):
            seen.append((tuple(z.shape[-2:]), labels.tolist()))
            return super().forward(z, logsnr, labels)

    how = generation(target=Target(Prediction.X), sampler=Ddim(), size=(16, 24), upsample=2)
    images = next(generate(Spy(), how, torch.tensor([1, 0]), 2))
    assert images.shape == (2, 3, 32, 48)
    assert seen == [((32, 48), [1, 0]), ((16, 24), [1, 0])] * 4


@pytest.mark.parametrize("sampler", flat(SAMPLERS))
def test_every_sampler_makes_images_that_do_not_depend_on_their_batch(sampler):
    model, labels = network(classes=3), torch.tensor([0, 1, 2])
    how = generation(guidance=1.5, rescale=0.5, dynamic_clip=0.99, sampler=sampler)
    whole, single = (torch.cat(list(generate(model, how, labels, 3, batch=batch))).int() for batch in (3, 1))
    assert (whole - single).abs().max() <= 1
    states = list(trajectory(model, how, labels, 3))
    assert len(states) == len(GRID)
    assert (states[-1].z.int() - whole).abs().max() <= 1


# On the way


@pytest.mark.parametrize("process", [Target(Prediction.V).process, Straight()])
def test_a_trajectory_ends_in_what_is_generated(process):
    model, labels = network(classes=3), torch.tensor([2, 0])
    how = generation(target=Target(Prediction.V, process), sampler=Ancestral(), guidance=2.0)
    states = list(trajectory(model, how, labels, 2, seed=4, first=3))
    assert_close(torch.tensor([state.logsnr for state in states]).double(), GRID)
    for state in states:
        for picture in (state.z, state.x):
            assert (picture.shape, picture.dtype, picture.device.type) == ((2, 3, 16, 16), torch.uint8, "cpu")
    made = next(generate(model, how, labels, 2, seed=4, first=3))
    assert torch.equal(states[-1].z, made)
    assert torch.equal(states[-1].x, made)


def test_a_trajectory_shows_noise_of_the_right_size_and_what_the_network_takes_it_for():
    """x̂ is the class's grey from the first state on; σ = 0.98 and 0.5 of noise, whatever the process."""
    logsnrs = torch.tensor([-3.0, torch.log(torch.tensor(3.0)), 8.0], dtype=torch.float64)
    for process in (Target(Prediction.X).process, Straight(), VarianceExploding()):
        how = generation(target=Target(Prediction.X, process), sampler=Ddim(), logsnrs=logsnrs,
                         size=(64, 64))
        states = list(trajectory(Painter(), how, torch.tensor([1]), 1))
        for state in states[:2]:
            assert_close(state.x.double(), torch.full((1, 3, 64, 64), 127.5 * 1.5).double(), atol=1, rtol=0)
        spread = (states[1].z.double() / 127.5).std().item()
        assert spread == pytest.approx(0.5, rel=0.1)  # clamped where it leaves the range
        assert 0.5 < (states[0].z.double() / 127.5).std().item() < 0.9


def test_no_gradients_and_no_contexts_are_left_open_between_states():
    for state in trajectory(network(), generation(precision=Precision.BF16), None, 1):
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert state.x.dtype == torch.uint8
