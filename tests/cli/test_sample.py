"""`snrise sample`: pictures from a run, and each of its errors."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from snrise import build, cli
from snrise.config import to_yaml
from snrise.samplers import Ancestral
from snrise.training import save_state
from tiny import config, fails, perturbed, run, size_of

FLAGS = ["activities", "flags", "symbols"]
SETTINGS = ("sampling.sampler={kind: ancestral, eta: 0.7, gamma: 0.3}", "sampling.guidance=1.5", "schedule.ends=stay",
            "process=straight", "loss.prediction=x")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with and one without classes, with weights that say something."""
    folder = tmp_path_factory.mktemp("runs")
    for name, overrides in (("classes", ()), ("plain", ("data.classes=null",))):
        settings = config(*SETTINGS, *overrides)
        state = build.state(settings, 3 if name == "classes" else None)
        run(state, settings, 1)
        perturbed(state.network)
        state.ema.update(state.network, 10**9, 10**9)
        extra = {"classes": FLAGS if name == "classes" else None,
                 "frequencies": [0.5, 0.25, 0.25] if name == "classes" else None}
        save_state(state, folder / name / "checkpoints", to_yaml(settings), extra)
    return folder


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sample(*arguments):
    result = CliRunner().invoke(cli.app, ["sample", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


class Calls(list):
    def generate(self, network, how, labels, count, **options):
        self.append((how, None if labels is None else labels.tolist(), count, options))
        yield torch.zeros(count, 3, *how.size, dtype=torch.uint8)


@pytest.fixture
def calls(monkeypatch):
    """What the command asks `generate` for; nothing is computed."""
    recorded = Calls()
    # The package's attribute of that name is the command, so the module is found where modules are.
    monkeypatch.setattr(sys.modules["snrise.cli.sample"], "generate", recorded.generate)
    return recorded


def test_a_grid(trained, tmp_path):
    assert "5 pictures in grid.png" in sample(trained / "classes", "-n", 5, "--out", "grid.png")
    assert size_of(tmp_path / "grid.png") == (3 * 66 + 2, 2 * 66 + 2)
    assert pixels("grid.png")[2:66, 2:66].std() > 5


def test_the_grid_lies_in_the_runs_folder(trained):
    sample(trained / "plain", "-n", 2, "--seed", 7)
    assert (trained / "plain" / "samples-7.png").exists()


def test_a_folder_of_pictures_does_not_depend_on_the_batch(trained, tmp_path):
    assert "7 pictures in a/" in sample(trained / "classes", "-n", 7, "--out", "a", "--batch", 3)
    sample(trained / "classes", "-n", 7, "--out", "deep/b", "--batch", 7)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == [f"{i:06d}.png" for i in range(7)]
    for name in names:
        assert pixels(f"a/{name}").shape == (16, 16, 3)
        assert np.abs(pixels(f"a/{name}") - pixels(f"deep/b/{name}")).max() <= 1
    assert np.abs(pixels("a/000000.png") - pixels("a/000001.png")).mean() > 5


def test_the_seed_decides(trained):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        sample(trained / "plain", "-n", 1, "--seed", seed, "--out", name)
    assert (pixels("a.png") == pixels("b.png")).all()
    assert (pixels("a.png") != pixels("c.png")).any()


def test_everything_is_the_checkpoints(trained, calls):
    sample(trained / "classes", "-n", 8, "--out", "a.png", "--seed", 3, "--batch", 5)
    ((how, labels, count, options),) = calls
    expected = build.generation(config(*SETTINGS))
    assert torch.equal(how.logsnrs, expected.logsnrs)
    assert (how.target, how.sampler, how.guidance, how.size) == (
        expected.target, expected.sampler, 1.5, (16, 16))
    assert sorted(labels) == [0, 0, 0, 0, 1, 1, 2, 2]
    assert (count, options) == (8, {"seed": 3, "batch": 5})


def test_one_checkpoint_file(trained, calls):
    (file,) = (trained / "plain" / "checkpoints").iterdir()
    sample(file, "-n", 2, "--out", "a.png")
    assert calls[0][1] is None


def test_steps_and_guidance(trained, calls):
    sample(trained / "classes", "-n", 2, "--out", "a.png", "--steps", 5, "--guidance", 3)
    how = calls[0][0]
    assert (len(how.logsnrs), how.guidance) == (6, 3.0)
    assert torch.equal(how.logsnrs, build.generation(config(*SETTINGS), steps=5).logsnrs)


@pytest.mark.parametrize(("arguments", "eta", "gamma"), [
    ((), 0.7, 0.3), (("--eta", 0), 0.0, 0.3), (("--gamma", 0), 0.7, 0.0), (("--eta", 1, "--gamma", 1), 1.0, 1.0),
])
def test_what_is_not_given_of_the_sampler_is_the_runs(trained, calls, arguments, eta, gamma):
    sample(trained / "classes", "-n", 1, "--out", "a.png", *arguments)
    assert calls[0][0].sampler == Ancestral(eta=eta, gamma=gamma, process=config(*SETTINGS).process)


def test_another_schedule_needs_a_flag_and_is_warned_of(trained, calls):
    command = ["sample", str(trained / "classes"), "-n", "1", "--out", "a.png", "--steps", "4",
               "--schedule", "{kind: uniform_logsnr, logsnr_min: -3, logsnr_max: 20}"]
    result = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert calls[0][0].logsnrs.tolist() == pytest.approx([-3.0, 2.75, 8.5, 14.25, 20.0])
    assert result.stderr.startswith(
        "sampling on another schedule than the model was trained with: λ -3.0 … 20.0 instead of -15.0 … 15.0; ")


@pytest.mark.parametrize(("text", "told"), [
    ("{kind: cosin}", "--schedule.kind: no such kind 'cosin'; did you mean 'cosine'?"),
    ("{kind: cosine, ofset: 1}", "--schedule.ofset: no such setting 'ofset'; did you mean 'offset'?"),
    ("[1", "--schedule: got '[1'; allowed: a YAML value"),
])
def test_another_schedule_must_be_one(trained, monkeypatch, capsys, text, told):
    assert fails(monkeypatch, capsys, "sample", trained / "plain", "--schedule", text).startswith(told)


def test_a_broken_checkpoint_is_passed_over_and_told(trained, calls, tmp_path):
    shutil.copytree(trained / "plain", tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "000000000099.safetensors").write_bytes(b"torn")
    result = CliRunner().invoke(cli.app, ["sample", "run", "-n", "1", "--out", "a.png"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr.startswith("passed over a broken checkpoint: run/checkpoints/000000000099.safetensors: not a ")
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.write_bytes(b"torn")
    result = CliRunner().invoke(cli.app, ["sample", "run"])
    assert re.fullmatch(r"run/\S+99.safetensors: not a whole .*; run/\S+08.safetensors: not .*", str(result.exception))


def test_classes_by_name(trained, calls):
    sample(trained / "classes", "-n", 5, "--out", "a.png", "--class", "symbols", "--class", "flags")
    assert calls[0][1] == [2, 1, 2, 1, 2]


def test_a_class_changes_the_picture(trained):
    for name in ("flags", "symbols"):
        sample(trained / "classes", "-n", 1, "--out", f"{name}.png", "--class", name)
    assert (pixels("flags.png") != pixels("symbols.png")).any()


def test_the_averaged_or_the_last_weights(trained, tmp_path):
    settings = config("data.classes=null")
    state = build.state(settings, None)
    state.step = 1
    perturbed(state.network)
    save_state(state, tmp_path / "run" / "checkpoints", to_yaml(settings), {"classes": None, "frequencies": None})
    for name, flag in (("a.png", "--ema"), ("b.png", "--last"), ("c.png", "--ema")):
        sample("run", "-n", 1, flag, "--out", name)
    assert (pixels("a.png") != pixels("b.png")).any()
    assert (pixels("a.png") == pixels("c.png")).all()


@pytest.mark.parametrize(("arguments", "message"), [
    (["{runs}/classes", "--class", "flag"], "classes: no such class 'flag'; did you mean 'flags'? allowed: "),
    (["{runs}/plain", "--class", "flags"], "classes: got ['flags']; allowed: none: this run was trained without"),
    (["nowhere"], "nowhere: got 'no checkpoint'; allowed: a run's folder or a checkpoint file; train one:"),
    (["{runs}"], "{runs}: got 'no checkpoint'"),
    (["text"], "text: not a whole checkpoint of snrise"),
    (["{runs}/plain", "--steps", "0"], "uniform_time.steps: got 0; allowed: a whole number above 0"),
    (["{runs}/plain", "--eta", "2"], "Ancestral.eta: got 2.0; allowed: a number in [0, 1]"),
    (["{runs}/plain", "--gamma", "-1"], "Ancestral.gamma: got -1.0"),
    (["{runs}/plain", "--guidance", "-1"], "Generation.guidance: got -1.0"),
    (["{runs}/plain", "--device", "tpu"], "--device: got 'tpu'; not usable here"),
    (["{runs}/plain", "--out", "a.jpeg"], "--out: got 'a.jpeg'; allowed: a grid (….png) or a folder"),
    (["{runs}/plain", "--out", "text"], "--out: got 'text'; allowed: a grid (….png) or a folder; this is a file"),
    (["{runs}/plain", "--out", "text/a.png"], "[Errno "),
])
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "text").write_text("hello")
    arguments = [a.format(runs=trained) for a in arguments]
    assert fails(monkeypatch, capsys, "sample", *arguments, "-n", "1").startswith(message.format(runs=trained))
