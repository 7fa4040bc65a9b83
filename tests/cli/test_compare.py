"""`snrise compare`: arms on one budget, one table, resumed; and each of its errors."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from snrise import cli
from snrise._errors import SnriseError
from snrise.config import Log, Sampling, parse
from snrise.documents import read_document
from snrise.experiment import Experiment
from snrise.metrics import FEATURES
from snrise.precision import Precision
from snrise.runs import Pace, comparison
from snrise.runs.comparison import Comparison, Point, Row, curve, table
from snrise.trained import load
from snrise.training import checkpoints
from tiny import DOCUMENT, POOLED, config, fails

ARMS = ("tiny.yaml name=v", "tiny.yaml name=x loss.prediction=x")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)


def compare(*arguments):
    command = ["compare", *ARMS, "--features", "pooled", "-n", "8", "--out", "out", *map(str, arguments)]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def points():
    return json.loads(Path("out/comparison.json").read_text())


@pytest.mark.slow
def test_a_comparison(tmp_path):
    output = compare("--images", 32, "--seeds", 2, "--points", 2)
    found = points()
    assert [(p["arm"], p["seed"], p["images_seen"]) for p in found] == [
        (arm, seed, seen) for seed in (0, 1) for arm in ("v", "x") for seen in (16, 32)
    ]
    assert all(p["seconds"] > 0 and p["metrics"]["samples"] == 8 for p in found)
    assert found[1]["seconds"] > found[0]["seconds"]
    for arm, prediction in (("v", "v"), ("x", "x")):
        for seed in (0, 1):
            settings = parse(read_document(str(tmp_path / f"out/{arm}-seed{seed}/config.yaml")))
            assert (settings.loss.prediction.value, settings.seed, settings.training.images) == (prediction, seed, 32)
    last = [p["metrics"]["KID-pooled"] for p in found if p["arm"] == "x" and p["images_seen"] == 32]
    assert f"{sum(last) / 2:.4f} ± " in output
    for name in ("comparison.png", "grids.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 100


def test_the_same_command_again_does_nothing_new(monkeypatch):
    first = compare("--images", 16, "--seeds", 1, "--points", 1)
    before = points()
    monkeypatch.setattr(comparison, "Run", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(comparison, "judge", lambda *a: pytest.fail("judged again"))
    assert compare("--images", 16, "--seeds", 1, "--points", 1) == first
    assert points() == before


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_as_if_it_never_stopped(tmp_path):
    arms = {"v": config("training.images=32")}
    whole, cut = (Comparison(folder=tmp_path / name, arms=arms, seeds=1, number=8, extractor=POOLED, points=2)
                  for name in ("whole", "cut"))
    assert list(whole.train("v", 0)) == [8, 16, 24, 32]
    training = cut.train("v", 0)
    assert [next(training) for _ in range(3)] == [8, 16, 24]
    training.close()
    assert [int(f.stem) for f in checkpoints(tmp_path / "cut/v-seed0/checkpoints")] == [16, 24]
    assert list(cut.train("v", 0)) == [32]
    assert list(cut.train("v", 0)) == []
    metrics = [[(p.images_seen, p.metrics) for p in c.judge("v", 0)] for c in (whole, cut)]
    # What the interruption left, at 24 images, is no moment of the comparison.
    assert [seen for seen, _ in metrics[0]] == [16, 32]
    assert metrics[0] == metrics[1]


class Pictures:
    """Dark and bright."""

    classes = ("dark", "bright")

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((3, 16, 16), 60 + 130 * (index % 2) + index, dtype=torch.uint8), index % 2


class Own(torch.nn.Conv2d):
    """A network that snrise knows nothing of."""

    classes = 2

    def __init__(self):
        super().__init__(3, 3, 3, padding=1)

    def forward(self, z, logsnr, labels=None):
        return super().forward(z)


def test_live_experiments_are_arms(tmp_path):
    network = Own()
    before = network.weight.detach().clone()
    live = Experiment(data=Pictures(), network=network, images=16, batch=8, precision=Precision.FP32,
                      sampling=Sampling(steps=2), log=Log(every=8, grid=4, tensorboard=False))
    compared = Comparison(folder=tmp_path, arms={"live": live, "settings": config("training.images=16")}, seeds=2,
                          number=8, extractor=POOLED, points=2)
    assert [list(compared.train("live", seed)) for seed in (0, 1)] == [[8, 16], [8, 16]]
    assert list(compared.train("live", 0)) == []
    assert torch.equal(network.weight, before)
    first, second = (load(tmp_path / f"live-seed{seed}", network=Own(), ema=False).network.weight for seed in (0, 1))
    assert not torch.equal(first, second)
    assert [(p.arm, p.images_seen, p.metrics["references"]) for p in compared.judge("live", 0)] == [
        ("live", 8, 20), ("live", 16, 20),
    ]
    assert torch.equal(network.weight, before)
    assert list(compared.train("settings", 0)) == [8, 16]


def test_an_arm_on_a_stream_cannot_be_judged(tmp_path):
    live = Experiment(data=itertools.repeat(torch.zeros(3, 16, 16, dtype=torch.uint8)), network=Own())
    with pytest.raises(SnriseError, match=r"Comparison\.arms\.a: got 'snrise\.data\.\w+\.Streamed'; allowed: data by"):
        Comparison(folder=tmp_path, arms={"a": live}, seeds=1, number=8, extractor=POOLED)


def test_a_live_arm_is_judged_at_its_own_size(tmp_path):
    live = Experiment(data=Pictures(), network=Own(), sampling=Sampling(upsample=2))
    with pytest.raises(SnriseError, match=r"Comparison\.arms\.a\.sampling\.upsample: got 2; allowed: 1 for"):
        Comparison(folder=tmp_path, arms={"a": live}, seeds=1, number=8, extractor=POOLED)


def test_a_budget_of_time_becomes_a_number_of_images(monkeypatch):
    module = sys.modules["snrise.cli.compare"]
    paces = {"v": Pace(4.1, 0.0, 32), "x": Pace(8.0, 0.0, 32)}
    monkeypatch.setattr(module, "measure", lambda config, *_, **__: paces[config.name])
    compare("--budget", "4s", "--seeds", 1, "--points", 1)
    assert {p["arm"]: p["images_seen"] for p in points()} == {"v": 16, "x": 32}
    # It is measured once.
    monkeypatch.setattr(module, "measure", lambda *_, **__: pytest.fail("measured again"))
    compare("--budget", "4s", "--seeds", 1, "--points", 1)


def point(arm, seed, images_seen, value, seconds=1.0):
    return Point(arm, seed, images_seen, seconds, {"m": value})


def test_a_table_is_of_the_ends():
    found = [point("a", 0, 8, 9.0), point("a", 0, 16, 1.0), point("a", 1, 16, 2.0), point("b", 0, 16, 1.2)]
    assert table(found, "m") == [Row("b", 1.2, None, 1), Row("a", 1.5, pytest.approx(0.5**0.5), 2)]


def test_a_curve_is_of_means():
    found = [point("a", 0, 8, 4.0, 1.0), point("a", 1, 8, 6.0, 3.0), point("a", 0, 16, 1.0, 5.0), point("b", 0, 8, 0.0)]
    assert curve(found, "a", "m") == [(2.0, 5.0, pytest.approx(2**0.5)), (5.0, 1.0, 0.0)]


@pytest.mark.parametrize(("arguments", "message"), [
    (["tiny.yaml"], "compare: got (None, None); allowed: either --budget or --images"),
    (["tiny.yaml", "--budget", "5 fortnights"], "--budget: got '5 fortnights'; allowed: a time; such as 90s"),
    (["tiny.yaml", "--images", "many"], "--images: got 'many'; allowed: a number of images; such as 64000"),
    (["tiny.yaml", "tiny.yaml", "--images", "8"], "compare: two arms are called 'tiny'; give one of them `name=…`"),
    (["tiny.yaml", "tiny.yaml name=b", "--images", "8"], "compare: b and tiny have the same settings; leave one out"),
    (["tiny.yaml loss.prediktion=x", "--images", "8"], "config.loss.prediktion: no such setting 'prediktion'; did you"),
    (["tiny.yaml", "--images", "8", "--features", "pool"], "--features: no such features 'pool'; did you"),
])
def test_a_mistake_is_one_line(monkeypatch, capsys, arguments, message):
    assert fails(monkeypatch, capsys, "compare", *arguments).startswith(message)
