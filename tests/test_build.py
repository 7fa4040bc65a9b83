import dataclasses
import math
import re

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import snrise
from snrise import experiment, models
from snrise._errors import SnriseError
from snrise.config import Sampling, to_yaml
from snrise.data import Emoji, ImageFolder
from snrise.process import Prediction, Straight, VarianceExploding
from snrise.rates import CosineDecay
from snrise.samplers import DpmSolverPP, Karras
from snrise.schedules import Cosine, Interpolated, Shifted, UniformLogSnr, for_resolution
from snrise.training import save_state
from snrise.weightings import MinSnr
from tiny import config, generation_of, inputs, recipe, run, scramble, state_of

T = torch.linspace(0, 1, 11, dtype=torch.float64)


def scheduled(settings):
    return settings.schedule(settings.data.resolution)


@pytest.mark.parametrize(("size", "shift"), [
    ("[64, 64]", 0.0), ("[16, 16]", -2 * math.log(4)), ("[128, 128]", 2 * math.log(2)), ("[32, 512]", 2 * math.log(2)),
])
def test_the_schedule_follows_the_resolution(size, shift):
    found = scheduled(config(f"data.resolution={size}"))
    assert_close(found(T), Cosine()(T) - shift)


def test_a_schedule_without_a_reference_stays():
    settings = config("schedule.reference=null", "schedule.base=linear_beta", "data.resolution=[256, 256]")
    assert settings.schedule(settings.data.resolution) == settings.schedule.base


def test_a_schedule_with_ends_that_stay():
    found = scheduled(config("data.resolution=[256, 256]", "schedule.ends=stay"))
    assert found == for_resolution(Cosine(), (256, 256), ends="stay")
    assert_close(found(T)[[0, -1]], torch.tensor([15.0, -15.0], dtype=torch.float64))


def test_a_schedule_interpolates_to_the_noisy_reference():
    found = scheduled(config("data.resolution=[256, 256]", "schedule.noisy_reference=[32, 32]"))
    assert found == Interpolated(clean=Shifted(base=Cosine(), factor=4.0), noisy=Shifted(base=Cosine(), factor=8.0))


def test_another_reference():
    found = scheduled(config("data.resolution=[256, 256]", "schedule.reference=[32, 128]"))
    assert found == Shifted(base=Cosine(), factor=4.0)


def test_a_noisy_reference_needs_a_reference():
    with pytest.raises(SnriseError, match=r"^config\.schedule\.noisy_reference: got \(32, 32\); allowed: null"):
        scheduled(config("schedule.reference=null", "schedule.noisy_reference=[32, 32]"))


@pytest.mark.parametrize(("classes", "count"), [("class", 3), ("subclass", None), ("null", 0)])
def test_emoji(classes, count):
    source = config(f"data.classes={classes}").data.source.open()
    assert isinstance(source, Emoji)
    if count is not None:
        assert len(source.classes or ()) == count


def test_a_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 30), "red").save(tmp_path / name / "a.png")
    settings = config("data.source=folder", f"data.path='{tmp_path}'", "data.classes=folders", "data.only=[]",
                      "data.resolution=[16, 24]", "data.fit=pad", "data.background=blue")
    dataset = experiment.dataset(settings)
    assert dataset.source == ImageFolder(str(tmp_path), "folders")
    assert dataset.source.classes == ("cat", "dog")
    pixels = dataset.images([0])[0]
    assert pixels.shape == (3, 16, 24)
    assert pixels[:, 8, 0].tolist() == [0, 0, 255]
    assert pixels[:, 8, 12].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("overrides", "message"), [
    (["data.classes=folders"], "config.data.classes: got 'folders'; allowed: class, subclass or null for emoji"),
    (["data.only=[flag]"], "Emoji.only: no such class of emoji 'flag'; did you mean 'flags'?"),
    (["data.source=folder", "data.path=nowhere"], "config.data.only: got ['activities', 'flags', 'symbols']"),
    (["data.source=folder", "data.path=nowhere", "data.only=[]"],
     "ImageFolder.path: got 'nowhere'; allowed: an existing"),
    (["data.background=reddish"], "Preprocess.background: got 'reddish'"),
])
def test_a_wrong_source_is_told(overrides, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}"):
        experiment.dataset(config(*overrides))


def test_the_weights_depend_on_the_seed_alone():
    states = []
    for seed, noise in ((0, 1), (0, 2), (1, 3)):
        scramble(noise)
        before = torch.get_rng_state()
        states.append(experiment.network(config(f"seed={seed}"), 3).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_resolution_that_the_network_cannot_take_is_told_at_the_setting():
    message = r"^config\.data\.resolution: got '17x16'; allowed: sides that are multiples of 2; nearest: 16x16 or 18x16"
    with pytest.raises(SnriseError, match=message):
        experiment.network(config("data.resolution=[17, 16]"), None)


def test_the_recipe_takes_every_setting():
    settings = config(
        "process=straight", "loss.prediction=u", "loss.weighting={kind: min_snr, gamma: 3}", "training.clip=0.5",
        "training.class_dropout=0.3", "training.accumulate=2", "seed=7", "training.learning_rate=0.01",
        "training.decay=0.25", "training.decay_shape=cosine", "loss.levels.stratified=false",
        "loss.levels.draw={kind: uniform_logsnr, logsnr_min: -9, logsnr_max: 9}", "loss.levels.like=cosine",
    )
    how = recipe(settings)
    assert (how.target.prediction, how.target.process) == (Prediction.U, Straight())
    assert how.weighting == MinSnr(gamma=3.0)
    assert (how.clip, how.class_dropout, how.accumulate, how.seed) == (0.5, 0.3, 2, 7)
    assert how.precision == settings.training.precision
    rate = how.rate
    assert (rate.peak, rate.total, rate.warmup, rate.decay, rate.shape) == (0.01, 64, 16, 0.25, CosineDecay())
    assert how.drawn.schedule == UniformLogSnr(logsnr_min=-9.0, logsnr_max=9.0)
    assert (how.drawn.stratified, how.drawn.like) == (False, Cosine())
    assert recipe(config()).drawn.schedule == config().schedule((16, 16))


@pytest.mark.parametrize(("overrides", "factors"), [
    (["data.resolution=[256, 256]"], (1,)), (["data.resolution=[512, 512]"], (1, 2, 4, 8, 16)),
    (["data.resolution=[512, 512]", "loss.factors=[1, 4]"], (1, 4)), (["loss.factors=[1, 2]"], (1, 2)),
])
def test_the_scales_of_the_loss_follow_the_resolution(overrides, factors):
    assert recipe(config(*overrides)).scales == factors


def test_the_state_takes_the_settings_of_the_optimizer():
    settings = config("training.betas=[0.8, 0.95]", "training.weight_decay=0.1", "training.ema_half_life=77")
    begun = state_of(settings, 3)
    assert begun.ema.half_life == 77
    assert {group["betas"] for group in begun.optimizer.param_groups} == {(0.8, 0.95)}
    assert {group["weight_decay"] for group in begun.optimizer.param_groups} == {0.1, 0.0}
    assert (begun.step, begun.images_seen) == (0, 0)


def test_images_are_made_on_the_schedule_of_the_training():
    settings = config("data.resolution=[16, 24]", "sampling.steps=4", "sampling.guidance=2",
                      "sampling.guidance_interval=[-3, 3]", "sampling.clip=false", "process=ve")
    how = generation_of(settings)
    assert_close(how.logsnrs, scheduled(settings)(torch.linspace(1, 0, 5, dtype=torch.float64)))
    assert how.size == how.whole_size == (16, 24)
    assert how.sampling == settings.sampling
    assert how.target.process == VarianceExploding()


def test_all_settings_of_the_sampling_arrive():
    settings = config("sampling.sampler={kind: dpm_solver_pp, eta: 0.3}", "sampling.grid=karras", "sampling.upsample=2",
                      "sampling.rescale=0.7", "sampling.dynamic_clip=0.99", "data.resolution=[16, 24]")
    how = generation_of(settings)
    assert_close(how.logsnrs, Karras()(scheduled(settings), settings.sampling.steps))
    assert how.sampling == Sampling(
        sampler=DpmSolverPP(eta=0.3), grid=Karras(), upsample=2, rescale=0.7, dynamic_clip=0.99, steps=2)
    assert how.whole_size == (32, 48)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder and its state after two steps."""
    settings, folder = config(), tmp_path_factory.mktemp("run")
    begun = state_of(settings, 3)
    run(begun, settings, 2)
    save_state(begun, folder / "checkpoints", to_yaml(settings),
               {"classes": ["a", "b", "c"], "frequencies": [0.5, 0.25, 0.25]})
    return folder, begun


def test_a_run_is_opened_with_the_averaged_weights_or_the_last(trained):
    folder, begun = trained
    z, logsnr = inputs()
    for ema in (True, False):
        opened = snrise.load(folder, ema=ema)
        assert opened.config == config()
        assert opened.images_seen == 16
        assert (opened.classes, opened.frequencies) == (("a", "b", "c"), (0.5, 0.25, 0.25))
        expected = begun.ema.parameters if ema else dict(begun.network.named_parameters())
        assert all(torch.equal(p, expected[name]) for name, p in opened.network.named_parameters())
        opened.network(z, logsnr)
    assert snrise.load(folder / "checkpoints" / "000000000016.safetensors").images_seen == 16


def test_labels_from_names(trained):
    opened = snrise.load(trained[0])
    assert opened.labels_of(["c", "a", "c"]) == [2, 0, 2]
    with pytest.raises(SnriseError, match=r"^classes: no such class 'bb'; did you mean 'b'\? allowed: a, b, c$"):
        opened.labels_of(["bb"])
    with pytest.raises(SnriseError, match=r"^classes: got \['a'\]; allowed: none: this run was trained without"):
        dataclasses.replace(opened, classes=None).labels_of(["a"])


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_checkpoint_is_told(tmp_path, monkeypatch, there):
    path = tmp_path if there else tmp_path / "none"
    allowed = "a run's folder, a checkpoint, exported weights, hub:USER/NAME"
    message = f"{path}: got 'no checkpoint'; allowed: {allowed}; train one: snrise train"
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}$"):
        snrise.load(path)
