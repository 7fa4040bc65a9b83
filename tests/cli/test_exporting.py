"""`snrise export`, and its file where a run is asked for."""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

import snrise
from snrise import experiment, models
from snrise.config import parse, to_yaml
from snrise.metrics import FEATURES
from snrise.runs.gallery import origin_of
from snrise.training import save_state
from tiny import DOCUMENT, POOLED, command, config, fails, perturbed, pixels, run, state_of

FLAGS = ["activities", "flags", "symbols"]


@pytest.fixture(autouse=True)
def trained(tmp_path, monkeypatch):
    """A run of three classes in a folder to work in."""
    settings = config()
    state = state_of(settings, 3)
    run(state, settings, 1)
    perturbed(state.network)
    state.ema.update(state.network, 10**9, 10**9)
    save_state(state, tmp_path / "run" / "checkpoints", to_yaml(settings),
               {"classes": FLAGS, "frequencies": [0.5, 0.25, 0.25]})
    monkeypatch.chdir(tmp_path)


def test_a_file_samples_as_the_run_does(tmp_path):
    told = command("export", "run", "--dtype", "fp32", "--out", "deep/a.safetensors")
    size = (tmp_path / "deep" / "a.safetensors").stat().st_size / 1e6
    assert told == f"tiny, 8 images seen, in fp32: deep/a.safetensors ({size:.1f} MB)\n"
    for source, out in (("run", "a"), ("deep/a.safetensors", "b")):
        command("sample", source, "-n", 3, "--class", "flags", "--out", out)
    for i in range(3):
        assert (pixels(f"a/{i:06d}.png") == pixels(f"b/{i:06d}.png")).all()
    assert origin_of(tmp_path / "a" / "000000.png") == origin_of(tmp_path / "b" / "000000.png")


def test_a_pipeline_of_diffusers_samples_as_the_run_does(monkeypatch, capsys):
    pytest.importorskip("diffusers")
    told = command("export", "run", "--format", "diffusers", "--dtype", "fp32", "--out", "deep/pipeline")
    assert told.splitlines()[-1] == "tiny, 8 images seen, in fp32: deep/pipeline, a pipeline of diffusers"
    command("sample", "run", "-n", 3, "--class", "flags", "--seed", 4, "--out", "a")
    pipeline = snrise.interop.SnrisePipeline.from_pretrained("deep/pipeline")
    pipeline.set_progress_bar_config(disable=True)
    for i, image in enumerate(pipeline(3, classes=["flags"], seed=4).images):
        assert (pixels(f"a/{i:06d}.png") == np.asarray(image)).all()
    told = fails(monkeypatch, capsys, "export", "run", "--format", "diffusers", "--out", "deep/pipeline")
    assert told.startswith("--out: got 'deep/pipeline'; allowed: a folder that is not there yet")


@pytest.mark.slow
def test_a_built_in_name_is_sampled_judged_and_begun_with(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "in bf16: models/tiny.safetensors" in command("export", "run", "--out", "models/tiny.safetensors")
    assert "2 pictures in samples-0.png" in command("sample", "tiny", "-n", 2)
    command("evaluate", "tiny", "-n", 6, "--features", "pooled", "--limit", 6)
    assert (tmp_path / "tiny-evaluation" / "metrics.json").exists()
    command("sweep", "tiny", "--steps", "1", "-n", 6, "--features", "pooled")
    assert (tmp_path / "sweep" / "sweep.jsonl").exists()
    told = command("train", "--from", "tiny", "training.images=8", "--out", "more", "--device", "cpu")
    assert f"beginning with the weights of {tmp_path}/models/tiny.safetensors\n" in told
    # A name holds on any machine, where a path would not.
    assert parse(yaml.safe_load((tmp_path / "more" / "config.yaml").read_text())).training.start == "tiny"
    # After one step the weights are still near those that the run began with.
    before, after = (dict(snrise.load(tmp_path / name).network.named_parameters()) for name in ("run", "more"))
    fresh = dict(experiment.network(config(), 3).named_parameters())
    near, far = (sum(torch.dist(after[n], other[n]).item() for n in after) for other in (before, fresh))
    assert near < far / 5


def test_what_a_file_says_of_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "FOLDER", tmp_path / "models")
    command("export", "run", "--out", "models/tiny.safetensors")
    for name, path in (("tiny", f"{tmp_path}/models/tiny.safetensors"), ("models/tiny.safetensors",) * 2):
        told = dict(line.split(maxsplit=1) for line in command("show", name).splitlines())
        assert told["run"] == f"tiny in {path}"
        assert told["classes"] == "activities, flags, symbols"
        assert told["pictures:"] == f"snrise sample {path}"
        assert "UViT, predicts v" in told["network"]
    assert "images seen    8\n" in command("show", next((tmp_path / "run" / "checkpoints").iterdir()))


@pytest.mark.slow
def test_an_average_of_another_width_is_put_together(tmp_path):
    """From those that a run keeps with its checkpoints; a run without any says what is missing."""
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    more = ("training.averages=[0.05,0.1]", "training.optimizer=muon", "log.checkpoint=8", "--device", "cpu")
    command("train", "tiny.yaml", *more, "--out", "kept")
    assert len(list((tmp_path / "kept" / "averages").iterdir())) == 8
    for width in ("0.05", "0.1", "0.2"):
        command("export", "kept", "--ema", width, "--dtype", "fp32", "--out", f"{width}.safetensors")
    command("export", "kept", "--dtype", "fp32", "--out", "own.safetensors")
    files = {p.stem: load_file(p) for p in tmp_path.glob("*.safetensors")}
    (newest,) = (tmp_path / "kept" / "checkpoints").glob("*64.safetensors")
    whole = load_file(newest)
    for i, width in enumerate(("0.05", "0.1")):  # those that were kept are themselves, but for half precision
        for name, made in files[width].items():
            assert_close(made, whole[f"powers.{i}.{name.removeprefix('ema.')}"], rtol=2e-3, atol=2e-3)
    moved = [sum(torch.dist(files[w][n], files["own"][n]) for n in files["own"]) for w in ("0.05", "0.1", "0.2")]
    assert 0 < moved[0] < moved[1] < moved[2]
    # As one network.
    command("sample", "0.2.safetensors", "-n", 2, "--out", "pictures")
    assert snrise.load(tmp_path / "kept", width=0.2).fingerprint.endswith(", ema 0.2")


def test_mistakes_are_one_line(monkeypatch, capsys):
    command("export", "run")
    for arguments, told in (
        (("export", "run"), "--out: got 'tiny.safetensors'; allowed: a file that is not there yet; remove it, or"),
        (("export", "none"), "none: got 'no checkpoint'; allowed: a run's folder, "),
        (("train", "training.images=8", "--out", "tiny.safetensors"),
         "--out: got 'tiny.safetensors'; allowed: a run's folder; begin with a file's weights: --from FILE"),
        (("export", "run", "--ema", "0.1", "--out", "b.safetensors"),
         "run/averages: got 'no averages'; allowed: those that a run keeps with its checkpoints; train with"),
        (("export", "run", "--ema", "0.5", "--out", "b.safetensors"),
         "--ema: got 0.5; allowed: a width above 0, below 0.289"),
        (("sample", "tiny.safetensors", "--last"), "tiny.safetensors: got 'averaged weights alone, exported"),
    ):
        assert fails(monkeypatch, capsys, *arguments).startswith(told)
