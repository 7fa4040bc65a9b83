"""Runs on codes and on pixels are the same code: what is promised of the one holds of the other."""

import itertools

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

import coded
import snrise
import tiny
import together
from snrise import Run, planning
from snrise._errors import SnriseError
from snrise.checkpoint import read_header
from snrise.codecs import Pixels
from snrise.encoding import encoded, with_measured_codes
from snrise.evaluation import Reference, fit, judge
from snrise.experiment import Experiment
from snrise.export import WeightFormat, export_weights
from snrise.training import latest
from tiny import POOLED, comparable, scramble

pytest.importorskip("diffusers")

SHORT = ("training.images=32", "log.checkpoint=16", "data.flip=true", "data.hold_out=10")


@pytest.fixture(scope="module", params=["pixels", "kl", "vq"])
def settings(request, tmp_path_factory):
    """Of a run, for any more."""
    kept = f"data.cache_folder={tmp_path_factory.mktemp('kept')}"
    if request.param == "pixels":
        return lambda *more: tiny.config(*coded.FEW, *SHORT, *more)
    codec = coded.saved(tmp_path_factory.mktemp("codec"), f"autoencoder.kind={request.param}")
    return lambda *more: with_measured_codes(coded.latent(codec, *SHORT, kept, *more))


def trained(config, folder, steps=None):
    with Run(encoded(Experiment.of(config)), folder, lambda line: None) as run:
        list(itertools.islice(run, steps))
        run.save()
        run.draw()
    return folder


@pytest.mark.slow
def test_a_run_that_is_interrupted_ends_as_one_that_is_not(settings, tmp_path):
    trained(settings(), tmp_path / "whole")
    for steps in (1, 2, None):
        scramble(steps or 0)
        trained(settings(), tmp_path / "parts", steps)
    ends = [load_file(latest(tmp_path / name / "checkpoints")) for name in ("whole", "parts")]
    assert [name for name, t in ends[0].items() if not torch.equal(t, ends[1][name])] == []
    assert comparable(tmp_path / "whole/log.jsonl") == comparable(tmp_path / "parts/log.jsonl")


def test_samples_are_pictures_of_the_seed_and_their_number(settings, tmp_path):
    trained(settings(), tmp_path)
    model = snrise.load(tmp_path)
    pictures = model.sample(3, seed=1)
    assert pictures.shape == (3, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert (model.sample(2, seed=1).int() - pictures[:2].int()).abs().max() <= 1
    assert model.at((48, 32)).sample(1).shape == (1, 3, 48, 32)


def test_they_are_judged_as_pictures(settings, tmp_path):
    model = snrise.load(trained(settings(), tmp_path))
    data = model.data()
    reference = Reference.of(data, POOLED, home=tmp_path)
    judgement = judge(model.samples(8, batch=4), reference)
    assert judgement.samples == 8
    assert judgement.spectrum.decibels.isfinite().all()
    assert data.size == (32, 32)


def test_exported_weights_sample_alike(settings, tmp_path):
    trained(settings(), tmp_path / "run")
    file = tmp_path / "weights.safetensors"
    export_weights(latest(tmp_path / "run/checkpoints"), file, WeightFormat.FP32)
    assert torch.equal(snrise.load(tmp_path / "run").sample(2), snrise.load(file).sample(2))


@pytest.mark.slow
def test_its_cost_is_planned_without_encoding_anything(settings):
    config = settings()
    plan = planning.plan(Experiment.imagined(config, 1), planning.device("h100"))
    assert plan.step.flops > 0
    assert plan.config.shape == config.shape


@pytest.mark.slow
def test_several_processes_train_the_run_of_one(tmp_path):
    made = coded.latent(coded.saved(tmp_path / "codec"), *SHORT, f"data.cache_folder={tmp_path}",
                        "network.levels.0.dropout=0.0", "data.flip=false")
    config = with_measured_codes(made)
    one = together.start(tmp_path / "said 1", 1, on_codes, config, tmp_path / "1")
    assert one.codes() == [0], one.said(0)
    two = together.start(tmp_path / "said 2", 2, on_codes, config, tmp_path / "2")
    assert two.codes() == [0, 0], two.said(0)
    ends = [load_file(latest(tmp_path / name / "checkpoints")) for name in ("1", "2")]
    for name, t in ends[0].items():
        if name.startswith(("network", "ema")):
            assert_close(ends[1][name], t, rtol=0, atol=1e-5)
    assert read_header(latest(tmp_path / "2/checkpoints")).images_seen == 32


def on_codes(config, folder):
    """Train in this process, of one or several, each of which encodes its share."""
    world = snrise.parallel.World.from_environment()
    with Run(encoded(Experiment.of(config), world=world), folder, lambda line: None, world=world) as run:
        list(run)
        run.save()


def test_likelihoods_are_of_pixels_alone(settings, tmp_path):
    model = snrise.load(trained(settings(), tmp_path))
    images = snrise.experiment.held_out(model.config)
    found = fit(model, images, 4)
    assert bool((found.loss.mean > 0).all())
    assert (found.bound is None) == (model.config.codec != Pixels())
    if model.config.codec.range is None:
        with pytest.raises(SnriseError, match=r"^config\.codec: got 'diffusers'; allowed: pixels, whose likelihood"):
            snrise.evaluation.likelihood(model, images, 2)


def test_a_run_whose_codec_has_gone(tmp_path):
    codec = coded.saved(tmp_path / "codec")
    trained(with_measured_codes(coded.latent(codec, *SHORT, f"data.cache_folder={tmp_path}")), tmp_path / "run")
    codec.rename(tmp_path / "moved")
    with pytest.raises(SnriseError, match=r"^codec\.path: got '.*codec'; allowed: emoji-f8, a run of snrise"):
        snrise.load(tmp_path / "run").sample(1)
