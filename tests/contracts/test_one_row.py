"""A new member is one class and one row of its table: settings, runs, files, images and plans know it from then on."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.testing import assert_close
from typer.testing import CliRunner

import snrise
from snrise import cli, experiment, networks, optimizers, planning
from snrise._errors import SnriseError
from snrise.codecs import CODECS, Codec, Pixels
from snrise.config import to_yaml
from snrise.data import SOURCES, SourceConfig
from snrise.denoisers import WRAPPERS, Denoiser, Guided, Wrapper
from snrise.evaluation import Reference, judge
from snrise.experiment import Experiment
from snrise.metrics import FEATURES, METRICS, Better, Score
from snrise.networks import NetworkConfig
from snrise.rates import DECAYS, Decay
from snrise.schedules import SCHEDULES, Cosine, Schedule
from tiny import DOCUMENT, POOLED, config, fails

SHORT = ("training.images=16", "sampling.steps=2")


def experiment_of(*settings):
    return Experiment.of(config(*SHORT, *settings))


def trained(folder, *settings):
    """Two steps with these settings, saved, drawn from, and the run opened again."""
    made = experiment_of(*settings)
    with snrise.Run(made, folder, tell=lambda line: None) as run:
        assert len(list(run)) == 2
        run.save()
        run.draw()
    model = snrise.load(folder)
    assert model.config == made.config
    assert all(torch.equal(p, run.state.ema.parameters[name]) for name, p in model.network.named_parameters())
    assert model.sample(2, seed=1).shape == (2, 3, 16, 16)
    return model


# A source of images.

@dataclass(frozen=True)
class Stripes:
    count: int

    labels = None
    classes = None

    def __len__(self):
        return self.count

    def read(self, index):
        return Image.linear_gradient("L").rotate(index)

    def name(self, index):
        return f"stripes {index}"

    def fingerprint(self):
        return f"stripes {self.count}"


@dataclass(frozen=True, kw_only=True)
class StripesConfig(SourceConfig):
    count: int = 5
    classes: str | None = None

    def open(self):
        return Stripes(self.count)


def test_source(monkeypatch, tmp_path):
    monkeypatch.setitem(SOURCES, "stripes", StripesConfig)
    settings = ("data.source=stripes", "data.count=7", "data.classes=null", "data.only=[]")
    model = trained(tmp_path, *settings)
    assert model.config.data.source == StripesConfig(count=7)
    assert len(model.data()) == 7
    assert "source: stripes\n  count: 7\n" in to_yaml(model.config)
    assert model.sample(2).shape == (2, 3, 16, 16)
    with pytest.raises(SnriseError, match=r"^config\.data\.count: got 7; allowed: a setting of source=stripes alone"):
        config("data.count=7")
    with pytest.raises(SnriseError, match=r"^config\.data\.counts: no such setting 'counts'; did you mean 'count'"):
        config("data.source=stripes", "data.counts=7", "data.only=[]")


# A codec.

@dataclass(frozen=True)
class Halves(Codec):
    """Means of two pixels side by side: [b 6 h w/2], of another range, channels and size than pixels."""

    @property
    def range(self):
        return -2.0, 2.0

    def shape(self, size):
        return 6, size[0], size[1] // 2

    def encode(self, pictures):
        x = Pixels().encode(pictures)
        return torch.cat([x[..., ::2] + x[..., 1::2], x[..., ::2] - x[..., 1::2]], dim=1)

    def decode(self, x):
        total, difference = x.chunk(2, dim=1)
        pairs = torch.stack([total + difference, total - difference], dim=-1) / 2
        return Pixels().decode(pairs.flatten(-2))


def test_codec(monkeypatch, tmp_path):
    monkeypatch.setitem(CODECS, "halves", Halves)
    model = trained(tmp_path, "codec=halves", "network.image_channels=6", "sampling.guidance=2")
    assert model.config.codec == Halves()
    assert model.config.shape == (6, 16, 8)
    assert model.generation().schedule == model.config.schedule((16, 8))
    assert model.sample(2).shape == (2, 3, 16, 16)
    x = model.denoiser(torch.zeros(2, dtype=torch.int64))(9 * torch.ones(2, 6, 16, 8), torch.zeros(2))
    assert x.abs().max() <= 2
    with pytest.raises(SnriseError, match=r"^config\.network\.image_channels: got 3; allowed: 6, the channels of the"):
        Experiment.of(config("codec=halves"))


def test_pictures_without_colour_are_one_channel(tmp_path):
    model = trained(tmp_path, "codec=grey", "network.image_channels=1")
    pictures = model.sample(2)
    assert pictures.shape == (2, 3, 16, 16)
    assert torch.equal(pictures[:, :1].expand(-1, 3, -1, -1), pictures)


# Guidance, or whatever else wraps a denoiser.

@dataclass(frozen=True, kw_only=True)
class Opposed(Wrapper):
    weight: float = 0.5

    def __call__(self, denoise, reference):
        return Denoiser(lambda z, logsnr: denoise(z, logsnr) - self.weight * reference(z, logsnr), denoise.process)


def test_guidance(monkeypatch, tmp_path):
    monkeypatch.setitem(WRAPPERS, "opposed", Opposed)
    model = trained(tmp_path, "sampling.wrappers=[{kind: opposed, weight: 0.25}, {kind: guided, scale: 3}]")
    assert model.config.sampling.wrappers == (Opposed(weight=0.25), Guided(scale=3.0))
    z, logsnr, labels = 0.1 * torch.randn(2, 3, 16, 16), torch.zeros(2), torch.tensor([0, 1])
    plain = model.with_sampling(["sampling.wrappers=[]", "sampling.guidance=1"])
    x, none = plain.denoiser(labels)(z, logsnr), plain.denoiser()(z, logsnr)
    assert_close(model.denoiser(labels)(z, logsnr), none + 3 * (x - 0.25 * none - none))
    assert not torch.equal(model.sample(2, seed=1), plain.sample(2, seed=1))


# The learning rate's fall.

@dataclass(frozen=True)
class Steps(Decay):
    count: int = 2

    def __call__(self, left):
        return math.ceil(left * self.count) / self.count


def test_decay(monkeypatch, tmp_path):
    monkeypatch.setitem(DECAYS, "steps", Steps)
    model = trained(tmp_path, "training.decay_shape={kind: steps, count: 4}")
    assert model.config.training.decay_shape == Steps(count=4)
    assert model.config.training.rate(16) == 0 < model.config.training.rate(15)


# A schedule.

@dataclass(frozen=True, kw_only=True)
class Lifted(Schedule):
    by: float = 1.0

    def __call__(self, t):
        return Cosine()(t) + self.by

    def derivative(self, t):
        return Cosine().derivative(t)

    def inverse(self, logsnr):
        return Cosine().inverse(logsnr - self.by)


def test_schedule(monkeypatch, tmp_path):
    monkeypatch.setitem(SCHEDULES, "lifted", Lifted)
    model = trained(tmp_path, "schedule.base={kind: lifted, by: 0.5}", "schedule.reference=null")
    assert model.generation().schedule == Lifted(by=0.5)
    assert model.sample(1).shape == (1, 3, 16, 16)


# A network.


@dataclass(frozen=True, kw_only=True)
class ToyConfig(NetworkConfig):
    width: int = 8

    def build(self, classes):
        return Toy(self, classes)


class Toy(nn.Module):
    def __init__(self, config, classes):
        super().__init__()
        self.config, self.classes = config, classes
        self.enter = nn.Conv2d(3, config.width, 3, padding=1)
        self.condition = nn.Linear(1, config.width)
        self.label = nn.Embedding(classes + 1, config.width)
        self.leave = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, z, logsnr, labels=None):
        labels = torch.full((len(z),), self.classes, device=z.device) if labels is None else labels
        h = self.enter(z) + (self.condition(logsnr[:, None] / 10) + self.label(labels))[:, :, None, None]
        return self.leave(torch.relu(h))


def test_network(tmp_path, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "toy", ToyConfig)
    settings = "network={kind: toy, width: 4}"
    model, plan = trained(tmp_path, settings), planning.plan(experiment_of(settings), planning.device("h100"))
    assert isinstance(model.network, Toy)
    assert model.config.network == ToyConfig(width=4)
    assert plan.whole.parameters == sum(p.numel() for p in model.network.parameters())
    assert [row.name for row in plan.rows] == ["enter", "condition", "label", "leave", "loss"]


# An optimizer.


@dataclass(frozen=True, kw_only=True)
class ToySgd:
    momentum: float = 0.9

    def __call__(self, network, *, betas=(0.9, 0.99), weight_decay=0.0, precision=None):
        return torch.optim.SGD(network.parameters(), lr=0.0, momentum=self.momentum, weight_decay=weight_decay)


@pytest.mark.slow
def test_optimizer(tmp_path, monkeypatch):
    monkeypatch.setitem(optimizers.OPTIMIZERS, "toy_sgd", ToySgd)
    settings = "training.optimizer={kind: toy_sgd, momentum: 0.5}"
    model, plan = trained(tmp_path, settings), planning.plan(experiment_of(settings), planning.device("h100"))
    assert model.config.training.optimizer == ToySgd(momentum=0.5)
    assert plan.step.static["optimizer"] == plan.step.static["parameters"]


# A metric.

def contrast(samples, reference):
    """The ratio of the standard deviations of the features; POOLED's are pixels."""
    ratio = samples.features.std() / reference.features.std()
    yield Score("contrast", float(ratio), 0.25, Better.ONE, "1 is that of the data", caution="contrast: a toy")


@pytest.fixture
def with_contrast(monkeypatch, tmp_path):
    monkeypatch.setitem(METRICS, "contrast", contrast)
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)


def test_metric(with_contrast, tmp_path):
    data = experiment.dataset(config())
    judgement = judge([data.images(range(0, 300, 3)) // 2], Reference.of(data, POOLED, home=tmp_path))
    assert judgement["contrast"] == pytest.approx(0.5, abs=0.1)
    assert f"{'contrast':<18}{judgement['contrast']:.4f} ± 0.2500  (1 is that of the data)" in str(judgement)
    assert "caution: contrast: a toy" in str(judgement)
    report = json.loads(json.dumps(judgement.as_json()))
    assert (report["contrast"], report["contrast error"]) == (judgement["contrast"], 0.25)
    assert report["cautions"][-1] == "contrast: a toy"


@pytest.mark.slow
def test_metric_in_a_comparison(with_contrast, monkeypatch, capsys):
    arms = ["tiny.yaml name=v", "tiny.yaml name=x loss.prediction=x"]
    command = ["compare", *arms, "--features", "pooled", "-n", "8", "--out", "out", "--images", "8", "--seeds", "1",
               "--points", "1", "--metric"]
    monkeypatch.delitem(METRICS, "contrast")
    assert fails(monkeypatch, capsys, *command, "contrast").startswith("--metric: no such metric 'contrast'; did you")
    CliRunner().invoke(cli.app, [*command, "recall"], catch_exceptions=False)
    # What was judged before the metric was there is judged again, not trained again.
    monkeypatch.setitem(METRICS, "contrast", contrast)
    result = CliRunner().invoke(cli.app, [*command, "contrast"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    points = {p["arm"]: p["metrics"]["contrast"] for p in json.loads(Path("out/comparison.json").read_text())}
    header, *rows = [line.split() for line in result.stdout.splitlines() if " images " in line or "8 " in line][-3:]
    assert "contrast" in header
    best_first = sorted(points, key=lambda arm: abs(points[arm] - 1))
    assert [(row[0], row[2]) for row in rows] == [(arm, f"{points[arm]:.4f}") for arm in best_first]
