"""`snrise train-codec` and `evaluate-codec`, then `train`, `sample`, `evaluate` on the codes: as a user does it."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from PIL import Image

import coded
from snrise.autoencoding import of_run
from snrise.codecs import Autoencoder
from snrise.data import as_float
from snrise.metrics import FEATURES
from tiny import DOCUMENT, POOLED, command, fails, size_of

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with settings, a trained codec and a run on its codes."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "codec.yaml").write_text(coded.DOCUMENT)
    (folder / "tiny.yaml").write_text(DOCUMENT)
    said = command("train-codec", folder / "codec.yaml", "data.hold_out=4", "--out", folder / "codec")
    assert "objective: sum of absolute differences, 0.5 critic after 16 images" in said
    assert f"judge it: snrise evaluate-codec {folder / 'codec'}" in said
    kept = f"data.cache_folder={folder / 'kept'}"
    said = command("train", folder / "tiny.yaml", "--resolution", "32", f"codec={folder / 'codec'}", kept,
                   "schedule.reference=null", "--out", folder / "latent")
    assert "as codes of 2x16x16" in said
    return folder


def test_the_same_command_has_nothing_left_to_do(place):
    said = command("train-codec", place / "codec.yaml", "data.hold_out=4", "--out", place / "codec")
    assert "going on from 48 images" in said
    assert "done: " in said


def test_settings_of_a_run_on_codes_say_all(place):
    told = yaml.safe_load((place / "latent/config.yaml").read_text())
    assert told["network"]["image_channels"] == 2
    assert told["codec"]["path"] == str(place / "codec")
    assert len(told["codec"]["mean"]) == len(told["codec"]["std"]) == 2
    assert told["codec"]["weights"]


def test_it_is_sampled_from(place):
    command("sample", place / "latent", "-n", "3", "--out", place / "pictures")
    assert {size_of(file) for file in (place / "pictures").glob("*.png")} == {(32, 32)}


def test_reconstructions_are_judged(place, monkeypatch):
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    said = command("evaluate-codec", place / "codec", "-n", "6", "--out", place / "judged", "--pool", "4")
    head, *rows = said.splitlines()
    assert head.split()[1:3] == ["images", str(place / "codec")]
    assert [row.split()[0] for row in rows[:5]] == ["PSNR", "SSIM", "stlpips-alex", "FD-pooled", "KID-pooled"]
    metrics = json.loads((place / "judged/metrics.json").read_text())
    assert metrics.keys() == {str(place / "codec"), "pooled by 4"}
    assert metrics["pooled by 4"]["images"] == 6
    assert size_of(place / "judged/reconstructions.png") == (6 * 66 + 2, 3 * 66 + 2)
    assert (place / "judged/spectrum.png").exists()


def test_images_of_a_folder_are_reconstructed(place, tmp_path, monkeypatch):
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    for i in range(4):
        Image.linear_gradient("L").rotate(20 * i).save(tmp_path / f"{i}.png")
    said = command("evaluate-codec", place / "codec", "--data", tmp_path, "--out", tmp_path / "judged", "--pool", "2")
    assert said.startswith("4 images")


@pytest.mark.slow
def test_its_time_counts_as_that_of_the_runs_on_its_codes(place, monkeypatch):
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    arm = f"{place / 'tiny.yaml'} data.resolution=[32,32] data.cache_folder={place / 'kept'}"
    said = command("compare", f"{arm} name=latent codec={place / 'codec'}", f"{arm} name=pixels", "--images", "16",
                   "--seeds", "1", "-n", "8", "--points", "1", "--out", place / "compared")
    assert "codec" in said
    points = {point["arm"]: point for point in json.loads((place / "compared/comparison.json").read_text())}
    told = json.loads((place / "codec/diffusers/snrise.json").read_text())
    assert told["images_seen"] == 48
    assert points["latent"]["seconds"] > told["seconds"] > 0
    assert points["pixels"]["pictures_per_second"] > 0


def test_its_weights_are_exported_alone(place, tmp_path, monkeypatch, capsys):
    said = command("export", place / "codec", "--out", tmp_path / "small")
    assert f"an autoencoder in diffusers' format, in bf16: {tmp_path / 'small'} (0.0 MB)" in said
    codec, whole = Autoencoder(path=str(tmp_path / "small")), Autoencoder(path=str(place / "codec"))
    assert codec.training_seconds == whole.training_seconds > 0
    assert codec.statements() == whole.statements()
    pictures = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    found, expected = (as_float(one.reconstruct(pictures)) for one in (codec, whole))
    assert 0 < (found - expected).abs().max() < 0.1
    weights = "diffusion_pytorch_model.safetensors"
    sizes = [(folder / weights).stat().st_size for folder in (tmp_path / "small", place / "codec/diffusers")]
    assert sizes[0] < 0.6 * sizes[1] + 10_000
    again = ("export", place / "codec", "--out", tmp_path / "small")
    assert fails(monkeypatch, capsys, *again).startswith("--out: got ")
    error = fails(monkeypatch, capsys, *again, "--ema", "0.1")
    assert error.startswith("--ema: got 0.1; allowed: nothing for an autoencoder")


def test_a_budget_that_its_codec_has_used_up(place, monkeypatch, capsys):
    arm = f"{place / 'tiny.yaml'} data.resolution=[32,32] codec={place / 'codec'}"
    told = json.loads((place / "codec/diffusers/snrise.json").read_text())
    error = fails(monkeypatch, capsys, "compare", f"{arm} name=a", f"{arm} name=b training.batch=4", "--budget",
                  f"{told['seconds'] / 2:.3f}s", "--out", place / "none")
    assert error.startswith("compare: a: got 'a codec trained for ")


def test_settings_are_printed_and_nothing_trained(tmp_path):
    out = ("--out", tmp_path / "none")
    said = command("train-codec", "emoji-f4", "training.batch=2", "--seed", "3", *out, "--dry-run")
    told = yaml.safe_load(said)
    assert (told["autoencoder"]["multipliers"], told["training"]["batch"], told["seed"]) == ([1, 2, 4], 2, 3)
    assert not (tmp_path / "none").exists()


def test_a_budget_is_a_number_of_images(tmp_path):
    (tmp_path / "codec.yaml").write_text(coded.DOCUMENT)
    command("train-codec", tmp_path / "codec.yaml", "training.batch=8", "--budget", "2s", "--out", tmp_path / "run")
    config = of_run(tmp_path / "run")
    assert config.training.images % 8 == 0
    assert config.training.images != 48


@pytest.mark.slow
def test_a_signal_saves_and_stops(tmp_path):
    (tmp_path / "codec.yaml").write_text(coded.DOCUMENT)
    snrise = [sys.executable, "-m", "snrise", "train-codec", "codec.yaml"]
    arguments = [*snrise, "training.images=80000", "log.every=4", "--out", "run"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "run/log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT
    assert "images and saved; the same command goes on" in said
    assert list((tmp_path / "run/checkpoints").glob("*.safetensors"))


@pytest.mark.parametrize(("arguments", "message"), [
    (("train-codec", "emoji-f9"), "recipe: no such recipe or file 'emoji-f9'; did you mean 'emoji-f8'?"),
    (("train-codec", "emoji-f8", "emoji-f4"), "train-codec: got ['emoji-f8', 'emoji-f4']; allowed: one recipe"),
    (("train-codec", "folder-f8"), "config.data.path:"),
    (("train-codec", "objective.perceptual=lpips"), "config.objective.perceptual: no such perceptual distance 'lpips'"),
    (("train", "codec=runs/none"), "codec.path: "),
    (("train", "codec=pixel"), "config.codec.kind: no such kind 'pixel'; did you mean 'pixels'?"),
    (("evaluate-codec", "runs", "--data", "built-in", "--resolution", "32"), "codec.path: "),
])
def test_mistakes(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert fails(monkeypatch, capsys, *arguments).startswith(message)


def test_images_to_reconstruct_are_wanted(monkeypatch, capsys, tmp_path):
    codec = coded.saved(tmp_path / "codec")
    error = fails(monkeypatch, capsys, "evaluate-codec", codec)
    assert error.startswith("--data: got None; allowed: images to reconstruct; give --data DIR")
    error = fails(monkeypatch, capsys, "evaluate-codec", codec, "--data", "built-in")
    assert error.startswith("--resolution: got None; allowed: a side in pixels")


@pytest.mark.slow
def test_what_pooling_leaves_of_codes_is_measured(place, tmp_path):
    said = command("schedule", "--resolution", "32", "--data", "emoji", "--codec", place / "codec",
                   "--out", tmp_path / "schedule.png")
    assert "codes of 2x16x16: signal power of 256 images" in said
    assert re.search(r"pooling by 2 acts as 1\.\d\d, 4 acts as [123]\.\d\d, 8 acts as ", said)
    assert (tmp_path / "schedule-codes.png").exists()


def test_a_nest_is_of_pixels(monkeypatch, capsys, place):
    error = fails(monkeypatch, capsys, "train", "emoji-128", f"codec={place / 'codec'}")
    assert "allowed: pixels, whose octaves a nest adds; take a network without a nest" in error


def test_a_codec_is_no_diffusion_model(monkeypatch, capsys, place):
    error = fails(monkeypatch, capsys, "sample", place / "codec")
    assert "these are the settings of an autoencoder; train a network on its codes: snrise train codec=" in error
