import itertools
from dataclasses import replace
from types import GeneratorType

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from snrise import experiment
from snrise._errors import SnriseError
from snrise.data import Batch, Blank
from snrise.experiment import Experiment
from snrise.levels import Levels
from snrise.optimizers import AdamW
from snrise.schedules import Cosine, UniformLogSnr
from snrise.training import Ema, TrainState, train
from snrise.training.randomness import even, noise, seed_of, uniform
from snrise.weightings import Constant, MinSnr, VLoss
from tiny import config, moments, perturbed, recipe, run, scramble, state_of

pytestmark = pytest.mark.precision


@pytest.fixture(scope="module")
def dataset():
    return experiment.dataset(config())


def state(settings, dataset):
    """A run at its beginning, with nothing at zero."""
    begun = state_of(settings, len(dataset.source.classes))
    perturbed(begun.network)
    return begun


def batch_of(settings, dataset):
    return next(dataset.batches(settings.training.batch, seed=0))


class Toy(nn.Module):
    """Predicts its one weight times z; remembers the labels it was told."""

    classes = 4

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3]))
        self.seen = []

    def forward(self, z, logsnr, labels=None):
        self.seen.append(labels)
        return self.weight * z


def toy_state():
    toy = Toy()
    return TrainState(network=toy, ema=Ema(toy, 0), optimizer=AdamW()(toy))


def toy_recipe(**changes):
    settings = {
        "data": Blank((4, 4)), "network": Toy(), "images": 32, "learning_rate": 1e-2, "warmup": 0, "decay": 0.0,
        "levels": Levels(schedule=Cosine(logsnr_min=-8.0, logsnr_max=8.0)), "clip": None,
        "weighting": Constant(),
    }
    return Experiment(**settings | changes)


def toy_batches(labels=True):
    generator = torch.Generator().manual_seed(0)
    position = 0
    while True:
        images = torch.rand(16, 3, 4, 4, generator=generator) * 2 - 1
        yield Batch(images, torch.arange(16) % 4 if labels else None, list(range(16)), position)
        position += 16


def test_it_is_a_generator_with_a_report_a_step_and_an_end(dataset):
    settings = config()
    begun = state(settings, dataset)
    steps = train(begun, dataset.batches(8, seed=0), recipe(settings), images=64)
    assert isinstance(steps, GeneratorType)
    assert begun.step == 0
    first = next(steps)
    assert (begun.step, begun.images_seen) == (first.step, first.images_seen) == (1, 8)
    reports = [first, *steps]
    assert [r.step for r in reports] == list(range(1, 9))
    assert [r.images_seen for r in reports] == list(range(8, 65, 8))
    assert begun.images_seen == 64
    rate = settings.training.rate
    assert [r.learning_rate for r in reports] == [rate(r.images_seen - 4) for r in reports]
    for r in reports:
        assert r.batch == len(r.logsnr) == len(r.eps_losses) == 8
        assert r.eps_loss == pytest.approx(r.eps_losses.mean().item())
        assert r.seconds >= r.data_seconds >= 0
    more = dataset.batches(8, seed=0, position=64)
    assert next(train(begun, more, recipe(settings), images=64), None) is None


@pytest.mark.parametrize("kind", [iter, list])
def test_it_ends_with_its_batches(kind):
    """Whatever the learning rate thinks the run's length is; a list will do for batches."""
    begun = toy_state()
    three = kind(list(itertools.islice(toy_batches(), 3)))
    assert [r.images_seen for r in train(begun, three, toy_recipe(), images=1000)] == [16, 32, 48]
    assert list(train(begun, [], toy_recipe())) == []


def test_the_last_batch_may_overshoot(dataset):
    settings = config("training.images=20")
    assert run(state(settings, dataset), settings, dataset=dataset)[-1].images_seen == 24


@pytest.mark.slow
def test_two_images_are_learnt_by_heart():
    settings = config(
        "data.classes=null", "training.images=2400", "training.learning_rate=4e-3", "training.decay=0.5",
        "schedule.base={kind: uniform_logsnr, logsnr_min: -6, logsnr_max: 6}", "schedule.reference=null",
        "network.levels=[{channels: 16, blocks: 1}]",
    )
    pictures = torch.stack([torch.full((3, 16, 16), -0.8), torch.full((3, 16, 16), 0.8)])
    pictures[1, :, :8] = -0.4

    def batches(position=0):
        while True:
            indices = [(position + i) % 2 for i in range(8)]
            yield Batch(pictures[indices], None, indices, position)
            position += 8

    reports = list(train(state_of(settings, None), batches(), recipe(settings), images=2400))
    begin, end = (sum(r.loss for r in part) / len(part) for part in (reports[:3], reports[-10:]))
    assert end < begin / 5


def test_a_step_does_not_depend_on_global_randomness(dataset):
    settings = config()
    weights = []
    for seed in (1, 2):
        scramble(seed)
        begun = state(settings, dataset)
        scramble(seed + 10)
        before = torch.get_rng_state()
        run(begun, settings, 2, dataset)
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(begun.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulating_over_parts_is_the_whole_batch(dataset, parts):
    after = []
    for accumulate in (1, parts):
        settings = config(f"training.accumulate={accumulate}", "network.levels.0.dropout=0", "training.clip=0.5")
        begun = state(settings, dataset)
        (report,) = run(begun, settings, 1, dataset)
        after.append((report, begun))
    (whole, a), (split, b) = after
    assert split.loss == pytest.approx(whole.loss, rel=1e-5)
    assert split.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    assert torch.equal(split.logsnr, whole.logsnr)
    # Moments are linear and quadratic in the gradient; Adam's first step itself is its sign alone.
    whole_moments, split_moments = moments(a), moments(b)
    for name, _ in a.network.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            mine, other = whole_moments[name][moment], split_moments[name][moment]
            assert_close(other, mine, atol=1e-5 * mine.abs().max().item(), rtol=1e-3)


@pytest.mark.parametrize(("share", "expected"), [(0.0, [0, 1, 2, 3] * 4), (1.0, [4] * 16)])
def test_class_dropout(share, expected):
    begun = toy_state()
    next(train(begun, toy_batches(), toy_recipe(class_dropout=share)))
    assert begun.network.seen[0].tolist() == expected


def test_class_dropout_of_a_half_drops_about_half():
    begun = toy_state()
    for _ in train(begun, toy_batches(), toy_recipe(class_dropout=0.5, learning_rate=1.0), images=1600):
        pass
    labels = torch.cat(begun.network.seen)
    assert (labels == 4).double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert ((labels == 4) | (labels == torch.arange(1600) % 4)).all()


def test_without_labels_the_network_is_told_none():
    begun = toy_state()
    next(train(begun, toy_batches(labels=False), toy_recipe()))
    assert begun.network.seen == [None]


def first_report(**changes):
    return next(train(toy_state(), toy_batches(), toy_recipe(**changes)))


def test_the_weighting_enters_the_loss():
    plain, weighted = first_report(), first_report(weighting=MinSnr(gamma=0.1))
    assert torch.equal(plain.eps_losses, weighted.eps_losses)
    assert plain.loss == pytest.approx(plain.eps_loss)
    expected = (MinSnr(gamma=0.1)(weighted.logsnr) * weighted.eps_losses).mean().item()
    assert weighted.loss == pytest.approx(expected, rel=1e-5)
    assert weighted.loss < 0.9 * plain.loss


def test_the_importance_enters_the_loss():
    cosine, uniform = Cosine(logsnr_min=-8.0, logsnr_max=8.0), UniformLogSnr(logsnr_min=-8.0, logsnr_max=8.0)
    report = first_report(levels=Levels(schedule=uniform, like=cosine))
    density = 1 / (torch.cosh(report.logsnr / 2) * 2 * torch.pi)
    within = 1 - 4 / torch.pi * torch.atan(torch.exp(torch.tensor(-4.0)))  # of the cosine's mass between its limits
    expected = (density / within * 16 * report.eps_losses).mean().item()
    assert report.loss == pytest.approx(expected, rel=1e-4)
    assert report.loss != pytest.approx(report.eps_loss, rel=1e-2)


def test_the_scales_of_the_loss_enter():
    assert first_report(factors=(1, 2)).loss > first_report().loss


def test_clipping_holds_the_norm_of_the_gradient():
    free = toy_state()
    norm = next(train(free, toy_batches(), toy_recipe())).grad_norm
    assert norm > 0.01
    for clip, used in ((norm / 10, norm / 10), (norm * 10, norm), (None, norm)):
        begun = toy_state()
        report = next(train(begun, toy_batches(), toy_recipe(clip=clip)))
        assert report.grad_norm == pytest.approx(norm)
        moment = moments(begun)["weight"]["exp_avg"].abs().item()
        assert moment == pytest.approx(0.1 * used, rel=1e-3)


def test_a_step_reaches_the_average():
    begun = toy_state()
    for _ in train(begun, toy_batches(), toy_recipe(), images=32):
        assert torch.equal(begun.ema.parameters["weight"], begun.network.weight)
    assert begun.network.weight.item() != pytest.approx(0.3)


def test_batches_from_elsewhere_are_refused(dataset):
    settings = config()
    begun = state(settings, dataset)
    steps = train(begun, dataset.batches(8, seed=0, position=8), recipe(settings))
    told = r"train\.batches: got 'a batch from image 8'; allowed: the batch from image 0"
    with pytest.raises(SnriseError, match=told):
        next(steps)
    assert begun.step == 0


@pytest.mark.parametrize(("name", "value"), [("clip", 0.0), ("class_dropout", 1.5), ("accumulate", 0)])
def test_a_recipe_out_of_range_is_refused(name, value):
    with pytest.raises(SnriseError, match=f"^{name}: got {value}"):
        toy_recipe(**{name: value})


def test_seeds_of_uses_and_positions_differ():
    seeds = {seed_of(s, i, use) for s in range(10) for i in range(0, 800, 8) for use in ("noise", "dropout")}
    assert len(seeds) == 2000
    assert seed_of(1, 8, "noise") == seed_of(1, 8, "noise")


@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("batch", [16, 8, 4])
def test_what_an_image_gets_does_not_depend_on_its_batch(batch, stratified):
    """λ, noise and dropped labels, bit for bit: a batch of 32 is two of 16 and four of 8."""
    def seen(size):
        toy, found = Toy(), []
        pictures = [(torch.full((3, 4, 4), i, dtype=torch.uint8), i % 4) for i in range(32)]
        levels = Levels(schedule=Cosine(logsnr_min=-8.0, logsnr_max=8.0), stratified=stratified)
        how = toy_recipe(data=pictures, network=toy, levels=levels, batch=size, class_dropout=0.3)
        toy.register_forward_pre_hook(lambda module, told: found.append(told))
        with torch.no_grad():
            toy.weight.zero_()
        how = replace(how, learning_rate=1e-30)
        reports = list(train(TrainState.of(how), how.dataset.batches(size, seed=0), how, images=32))
        return [torch.cat(parts) for parts in zip(*found, strict=True)], torch.cat([r.logsnr for r in reports])

    (z, logsnr, labels), told = seen(32)
    other, its = seen(batch)
    for mine, theirs in zip((z, logsnr, labels, told), (*other, its), strict=True):
        assert torch.equal(mine, theirs)
    assert (labels == 4).any()


def test_times_of_images_in_a_row_are_even_and_of_others_are_not_the_same():
    for first in (0, 7, 10**9):
        for count in (8, 32, 100):
            found = even(3, "t", first, count).sort().values
            gaps = torch.cat([found, found[:1] + 1]).diff()
            assert gaps.max() < 2.7 / count
            assert gaps.min() > 0.3 / count
    assert not torch.equal(even(3, "t", 0, 8), even(4, "t", 0, 8))
    assert not torch.equal(even(3, "t", 0, 8), even(3, "u", 0, 8))


def test_uniform_numbers_are_uniform_and_independent():
    found = uniform(0, "t", 0, 20_000)
    assert abs(found.mean() - 0.5) < 0.01
    assert abs(found.var() - 1 / 12) < 0.003
    assert abs(torch.corrcoef(torch.stack([found[:-1], found[1:]]))[0, 1]) < 0.03
    assert ((found >= 0) & (found < 1)).all()


@pytest.mark.parametrize("side", [8, 300], ids=["one thread", "several"])
def test_noise_is_white_and_belongs_to_its_image(side):
    cpu = torch.device("cpu")
    whole = noise(0, 5, (3, 3, side, side), cpu)
    assert torch.equal(whole[1:], noise(0, 6, (2, 3, side, side), cpu))
    assert whole.std().item() == pytest.approx(1, abs=0.1)
    assert abs(torch.corrcoef(whole.flatten(1))[0, 1]) < 0.2
    assert not torch.equal(whole, noise(1, 5, (3, 3, side, side), cpu))


def test_the_default_weight_is_that_of_the_v_loss():
    assert Experiment(data=Blank((4, 4)), network=Toy()).weighting == VLoss()


def broken_batches(at):
    """Batches of which one has an image that is not a number."""
    for i, batch in enumerate(toy_batches()):
        if i == at:
            batch.images[3] = torch.nan
        yield batch


def test_a_step_that_is_not_finite_is_dropped_and_told():
    begun = toy_state()
    recipe = toy_recipe()
    reports = list(train(begun, broken_batches(1), recipe, images=48))
    assert [r.fault for r in reports] == [None, "output of the network (Toy)", None, None]
    assert [(r.step, r.images_seen, r.position, r.batch) for r in reports] == [
        (1, 16, 16, 16), (1, 16, 32, 0), (2, 32, 48, 16), (3, 48, 64, 16)]
    assert (begun.step, begun.images_seen, begun.position, begun.faults) == (3, 48, 64, 1)
    assert reports[1].indices == list(range(16))
    assert reports[1].eps_losses.isnan().nonzero().flatten().tolist() == [3]


def test_a_dropped_step_leaves_no_trace_in_weights_average_or_optimizer():
    begun, clean = toy_state(), toy_state()
    for state_, stream in ((begun, broken_batches(1)), (clean, broken_batches(9))):
        steps = train(state_, stream, toy_recipe())
        next(steps)
        if state_ is begun:
            before = [t.clone() for t in (begun.network.weight, begun.ema.parameters["weight"])]
            assert next(steps).fault
            assert torch.equal(before[0], begun.network.weight)
            assert torch.equal(before[1], begun.ema.parameters["weight"])
            assert begun.network.weight.grad is None
    assert moments(begun)["weight"]["step"] == 1
    assert torch.equal(moments(begun)["weight"]["exp_avg"], moments(clean)["weight"]["exp_avg"])
