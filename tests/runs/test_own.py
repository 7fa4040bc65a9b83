"""Data and networks of the user's own: trained, stopped, resumed, opened again, judged and planned as any other."""

import itertools
import re
from dataclasses import dataclass

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import snrise
from own import NETWORKS, Mine, Pictures, experiment, made, unet
from snrise import planning
from snrise.config import Log, Sampling
from snrise.data import Dataset, Emoji, Indexed, Preprocess, Streamed, as_data
from snrise.metrics import FEATURES
from snrise.networks import ViTConfig, build
from snrise.process import Prediction, Target
from snrise.schedules import Cosine, for_resolution
from snrise.training import TrainState, latest, read_header, train
from snrise.weightings import MinSnr
from tiny import POOLED, comparable, scramble


class Endless(IterableDataset):
    """The same as a stream that begins anew each time."""

    def __iter__(self):
        pictures = Pictures()
        return (pictures[i] for i in range(len(pictures)))


def trained(how, folder, steps=None):
    with snrise.Run(how, folder, tell=lambda line: None) as run:
        for i, _ in enumerate(run, start=1):
            if i == steps:
                break
        run.save()
    return run


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_resumes_bit_for_bit(kind, tmp_path):
    straight = trained(experiment(made(kind)), tmp_path / "straight")
    trained(experiment(made(kind)), tmp_path / "stopped", steps=5)
    scramble(7)
    resumed = trained(experiment(made(kind, seed=9)), tmp_path / "stopped")
    assert resumed.state.images_seen == 96
    for name, p in straight.state.network.state_dict().items():
        assert torch.equal(p, resumed.state.network.state_dict()[name]), name
    for name, p in straight.state.ema.parameters.items():
        assert torch.equal(p, resumed.state.ema.parameters[name]), name
    assert comparable(tmp_path / "straight" / "log.jsonl") == comparable(tmp_path / "stopped" / "log.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_opened_sampled_judged_and_planned(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    how = experiment(made(kind))
    run = trained(how, tmp_path / "run")
    assert run.draw().exists()
    model = snrise.load(tmp_path / "run", network=made(kind, seed=5))
    assert all(torch.equal(p, run.state.ema.parameters[name]) for name, p in model.network.named_parameters())
    assert (model.classes, model.frequencies, model.images_seen) == (("dark", "bright"), (0.75, 0.25), 96)
    images = model.sample(3, seed=1, classes=["bright"], guidance=2.0, steps=3)
    assert (images.shape, images.dtype) == ((3, 3, 8, 16), torch.uint8)
    assert torch.equal(images[:2], model.sample(2, seed=1, classes=["bright"], guidance=2.0, steps=3))
    report = snrise.evaluate(model, n=12, data=Pictures(), features="pooled")
    assert (report.samples, report.references) == (12, 40)
    plan = planning.plan(how, planning.device("h100"))
    assert plan.whole.parameters == sum(p.numel() for p in how.network.parameters())
    assert plan.step.peak > 0
    assert plan.largest >= 8


def test_a_run_of_ones_own_network_says_what_is_needed(tmp_path):
    trained(experiment(Mine()), tmp_path / "run", steps=1)
    file = latest(tmp_path / "run" / "checkpoints")
    where = f"{Mine.__module__}.Mine"
    with pytest.raises(snrise.SnriseError, match=re.escape(
            f"{file}: holds weights of a network of its own, {where}; give one to put them into: snrise.load(path, ")):
        snrise.load(tmp_path / "run")
    with pytest.raises(snrise.SnriseError, match=r"network\.enter\.weight|ema\.enter\.weight"):
        snrise.load(tmp_path / "run", network=Mine(width=4))
    with pytest.raises(snrise.SnriseError, match=r"^config\.data\.source: got 'external, .*'; allowed: .*data=…"):
        snrise.evaluate(snrise.load(tmp_path / "run", network=Mine()), n=8)
    with pytest.raises(snrise.SnriseError, match=r"network\.type was '.*Mine', now 'diffusers|network\.type was"):
        snrise.Run(experiment(unet()), tmp_path / "run")


def test_the_settings_are_those_of_the_objects(tmp_path):
    schedule = for_resolution(Cosine(), (8, 16))
    how = experiment(Mine(), schedule=schedule, target=Target(Prediction.EPS), weighting=MinSnr(gamma=3.0), seed=4)
    trained(how, tmp_path / "run", steps=1)
    model = snrise.load(tmp_path / "run", network=Mine())
    assert model.config.training.batch == 8
    assert model.generation().schedule == schedule
    assert model.generation().target == Target(Prediction.EPS)
    assert (model.config.loss.weighting, model.config.seed) == (MinSnr(gamma=3.0), 4)


@pytest.mark.parametrize(("settings", "warmup"), [
    ({"images": 300}, 30), ({"images": 100_000}, 1000), ({"images": 300, "warmup": 200}, 200),
])
def test_the_warm_up_of_a_short_run_is_short(settings, warmup):
    how = snrise.Experiment(data=Pictures(), network=Mine(), **settings)
    assert (how.warmup, how.rate.warmup, how.settings.training.warmup) == (warmup, warmup, warmup)


@pytest.mark.parametrize("data", [
    lambda: DataLoader(Pictures(), batch_size=5), Endless, lambda: Streamed([Pictures()[i] for i in range(40)]),
])
def test_a_stream_is_gone_on_with_where_it_was(data, tmp_path):
    straight = trained(experiment(made("own"), data()), tmp_path / "straight")
    trained(experiment(made("own"), data()), tmp_path / "stopped", steps=5)
    resumed = trained(experiment(made("own"), data()), tmp_path / "stopped")
    assert all(torch.equal(p, q) for p, q in zip(
        straight.state.network.parameters(), resumed.state.network.parameters(), strict=True))


def test_batches_of_a_stream_are_its_images_in_order():
    stream = as_data(DataLoader(Pictures(), batch_size=5))
    batches = list(itertools.islice(stream.batches(8, seed=0, position=3), 9))
    images, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "labels"))
    numbers = [i % 40 for i in range(3, 3 + len(images))]
    assert torch.equal(labels, torch.tensor([Pictures()[i][1] for i in numbers]).long())
    assert torch.equal(images[37], Pictures()[0][0])
    assert stream.size == (8, 16)
    assert stream.length is None


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_by_number_do_not_depend_on_workers(workers):
    whole = Indexed(Pictures(), workers=workers).batches(8, seed=3)
    part = Indexed(Pictures()).batches(4, seed=3, position=8)
    first, second = next(whole), next(whole)
    assert first.position == 0
    assert torch.equal(second.images[:4], next(part).images)
    assert second.indices[:4] == next(iter(Indexed(Pictures()).batches(4, seed=3, position=8))).indices


@dataclass
class Items:
    """A map-style data set of these."""

    items: list

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


FLOATS = torch.rand(4, 3, 8, 8)


def test_floats_are_what_they_are_said_to_be():
    unit = next(Indexed(Items(list(FLOATS)), values="unit").batches(4, seed=0))
    signed = next(Indexed(Items(list(FLOATS * 2 - 1)), values="signed").batches(4, seed=0))
    torch.testing.assert_close(unit.images, signed.images)
    assert unit.images.min() < 0


def test_grey_images_are_three_equal_channels():
    grey = Items([torch.full((1, 8, 8), i, dtype=torch.uint8) for i in range(4)])
    images = next(Indexed(grey).batches(4, seed=0)).images
    assert images.shape == (4, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 2])


@pytest.mark.parametrize(("data", "told"), [
    (3, "Experiment.data: got 'int'; allowed: a data set of snrise.data, a map-style data set, or an iterable"),
    (Items([FLOATS[0]]), r"got 'floats from 0.0\d to .* in item 0 of Items'; allowed: uint8, or floats of which"),
    (lambda: Indexed(Items([FLOATS[0] * 3]), values="unit"), r"got '0.0\d to [23].*values from 0 to 1, as was said"),
    (Items([torch.zeros(2, 8, 8, dtype=torch.uint8)]), r"got '\(2, 8, 8\) in item 0 of Items'; allowed: images of 3"),
    (Items([torch.zeros(3, 8, 8, dtype=torch.int64)]), "got 'torch.int64 in item 0 of Items'; allowed: uint8, or"),
    (Items([("x", 1)]), "got 'str in item 0 of Items'; allowed: a tensor, an array or a picture"),
    (Items([(1, 2, 3, 4)]), "got '4 parts in item 0 of Items'; allowed: an image"),
    (iter([]), "got 'a list_iterator of no items'; allowed: one that yields images"),
    (Items([]), "Indexed.items: got 0; allowed: 1 item or more"),
    (lambda: Indexed(Items([FLOATS[0]]), values="units"), "Indexed.values: no such choice 'units'; did you mean"),
])
def test_data_that_cannot_be_used_are_told(data, told):
    with pytest.raises(snrise.SnriseError, match=told):
        experiment(Mine(), data() if callable(data) else data)


def test_images_of_two_sizes_are_told():
    sizes = Items([torch.zeros(3, side, 8, dtype=torch.uint8) for side in (8, 10)])
    with pytest.raises(snrise.SnriseError, match=r"Experiment\.data: got .*; allowed: images of one size"):
        next(as_data(sizes).batches(2, seed=0))


def test_an_iterator_that_ends_is_told(tmp_path):
    once = (Pictures()[i] for i in range(40))
    with pytest.raises(snrise.SnriseError, match="the generator has ended and cannot be iterated over again"):
        trained(experiment(Mine(), once), tmp_path / "run")


@pytest.mark.parametrize(("changes", "told"), [
    ({"data": Dataset(Emoji("class"), Preprocess((8, 16)))}, r"network\.classes: got 2; allowed: 9, as many"),
    ({"factors": (3,)}, r"config\.loss\.factors\[0\]: got 3; allowed: a divisor of the resolution 8x16; such as 2"),
    ({"weighting": lambda logsnr: logsnr}, r"Experiment\.weighting: got 'function'; allowed: a type in the table of"),
    ({"sampling": Sampling(grid=lambda schedule, steps: None)}, r"Experiment\.sampling\.grid: got 'function'"),
])
def test_experiments_that_make_no_sense_are_refused(changes, told):
    with pytest.raises(snrise.SnriseError, match=told):
        snrise.Experiment(**{"data": Pictures(), "network": Mine()} | changes)


class Captioned(Items):
    """Dark and bright images, each told by one of two vectors."""

    def __init__(self):
        grey = [torch.full((3, 8, 8), level, dtype=torch.uint8) for level in (40, 210)]
        super().__init__([(grey[i % 2], None, torch.eye(2)[[i % 2]]) for i in range(8)])


@pytest.mark.slow
def test_context_vectors_arrive_and_guide(tmp_path):
    """Without a class, the vector alone says whether an image is dark or bright."""
    config = ViTConfig(width=16, depth=2, patch=4, head=8, bottleneck=16, class_tokens=0, context=2)
    torch.manual_seed(0)
    how = experiment(build(config), Captioned(), images=6400, batch=32, learning_rate=3e-3, warmup=320,
                     ema_half_life=200, class_dropout=0.2, sampling=Sampling(steps=10), log=Log(every=3200, grid=4,
                     samples=10**9, tensorboard=False))
    trained(how, tmp_path / "run")
    model = snrise.load(tmp_path / "run")
    told = torch.eye(2)[:, None].repeat_interleave(4, dim=0)
    dark, bright = model.sample(8, context=told, guidance=1.5).double().mean(dim=(1, 2, 3)).chunk(2)
    assert dark.max() < 115
    assert bright.min() > 140
    assert read_header(latest(tmp_path / "run" / "checkpoints")).extra["classes"] is None


def test_some_contexts_are_dropped():
    seen = []

    class Spy(Mine):
        classes = None

        def forward(self, z, logsnr, labels=None, context=None):
            seen.append(context)
            return super().forward(z, logsnr)

    how = experiment(Spy(), Captioned(), class_dropout=0.5, batch=64)
    next(train(TrainState.of(how), how.data.batches(64, seed=0), how))
    (context,) = seen
    dropped = context.abs().sum(dim=(1, 2)) == 0
    assert 10 < int(dropped.sum()) < 54
    assert torch.equal(context[~dropped].sum(dim=(1, 2)), torch.ones(int((~dropped).sum())))
