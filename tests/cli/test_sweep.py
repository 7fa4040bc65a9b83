"""`snrise sweep`: every combination, measured once, and each of its errors."""

import dataclasses

import pytest
from PIL import Image

from snrise.metrics import FEATURES
from tiny import DOCUMENT, POOLED, command, fails, objects


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        (path / "tiny.yaml").write_text(DOCUMENT)
        command("train", "tiny.yaml", "training.images=16", "--out", "run")
    return path


@pytest.fixture(autouse=True)
def in_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(FEATURES, "pooled", POOLED)


def sweep(*arguments):
    return command("sweep", "run", "--features", "pooled", "-n", 8, *arguments)


@pytest.mark.slow
def test_every_combination_against_the_evaluations_it_takes(tmp_path, monkeypatch):
    output = sweep("--steps", "2,3", "--sampler", "ddim,heun", "--guidance", "1,2", "--out", tmp_path)
    lines = objects(tmp_path / "sweep.jsonl")
    taken = {tuple(s.removeprefix("sampling.") for s in line["settings"]): line["evaluations"] for line in lines}
    assert taken == {
        ("sampler=ddim", "guidance=1", "steps=2"): 2, ("sampler=ddim", "guidance=1", "steps=3"): 3,
        ("sampler=ddim", "guidance=2", "steps=2"): 4, ("sampler=ddim", "guidance=2", "steps=3"): 6,
        # Two a step, but for the last.
        ("sampler=heun", "guidance=1", "steps=2"): 3, ("sampler=heun", "guidance=1", "steps=3"): 5,
        ("sampler=heun", "guidance=2", "steps=2"): 6, ("sampler=heun", "guidance=2", "steps=3"): 10,
    }
    assert all(line["KID-pooled"] > 0 and line["number"] == 8 for line in lines)
    assert "sampler=heun guidance=2 steps=3" in output
    with Image.open(tmp_path / "sweep.png") as picture:
        assert min(picture.size) > 300

    # What was measured is not measured again; what is new is.
    lazy = dataclasses.replace(POOLED, load=lambda: pytest.fail("measured again"))
    monkeypatch.setitem(FEATURES, "pooled", lazy)
    again = sweep("--steps", "2,3", "--sampler", "ddim,heun", "--guidance", "1,2", "--out", tmp_path)
    assert again == output
    assert objects(tmp_path / "sweep.jsonl") == lines


def test_seeds_are_averaged(tmp_path):
    output = sweep("--steps", 2, "--seeds", 2, "--out", tmp_path)
    values = [line["KID-pooled"] for line in objects(tmp_path / "sweep.jsonl")]
    assert [line["seed"] for line in objects(tmp_path / "sweep.jsonl")] == [0, 1]
    assert values[0] != values[1]
    assert f"{sum(values) / 2:.4f}" in output


def test_intervals_of_guidance_and_settings_for_all(tmp_path):
    sweep("sampling.sampler=ddim", "--steps", 4, "--guidance", 2, "--guidance-interval", "-99,99;98,99;none",
          "--out", tmp_path)
    lines = objects(tmp_path / "sweep.jsonl")
    assert all(line["settings"][0] == "sampling.sampler=ddim" for line in lines)
    taken = {line["settings"][-1]: line["evaluations"] for line in lines}
    # Outside of the interval the second pass is skipped.
    within = "sampling.guidance_interval="
    assert taken == {f"{within}[-99.0, 99.0]": 8, f"{within}[98.0, 99.0]": 4, f"{within}null": 8}


def test_averages_of_several_widths(folder, tmp_path):
    command("train", "tiny.yaml", "training.averages=[0.05,0.1]", "log.checkpoint=16", "--out", "kept")
    arguments = ("--features", "pooled", "-n", 8, "--steps", 2, "--ema", "0.06,0.2", "--out", tmp_path)
    output = command("sweep", "kept", *arguments)
    lines = objects(tmp_path / "sweep.jsonl")
    assert [line["ema"] for line in lines] == [0.06, 0.2]
    assert lines[0]["KID-pooled"] != lines[1]["KID-pooled"]
    assert "steps=2 ema=0.06" in output
    assert command("sweep", "kept", *arguments) == output
    assert len(objects(tmp_path / "sweep.jsonl")) == 2


def test_larger_pictures_are_compared_with_larger_images(tmp_path):
    (plain,), (large,) = (
        (sweep("--steps", 2, *more, "--out", tmp_path / str(i)), objects(tmp_path / str(i) / "sweep.jsonl"))[1]
        for i, more in enumerate([[], ["sampling.upsample=2"]])
    )
    assert len(large["decibels"]) == len(plain["decibels"]) + 1


@pytest.mark.parametrize(("arguments", "message"), [
    (["--features", "pool"], "--features: no such features 'pool'; did you mean 'pooled'?"),
    (["--steps", "4,4"], "--steps: got '4,4'; allowed: values, each once, with commas between them"),
    (["--ema", "0.1,wide"], "--ema: got 'wide'; allowed: a width, such as 0.05"),
    (["--ema", "0.1"], "run/averages: got 'no averages'"),
    (["--steps", "4,x"], "config.sampling.steps: "),
    (["--guidance-interval", "1,2;"], "--guidance-interval: got '1,2;'; allowed: values, each once, with semicolons"),
    (["--guidance-interval", "1;2"], "--guidance-interval: got '1'; allowed: two values of λ, such as -3,5"),
    (["sampling.step=3"], "config.sampling.step: no such setting 'step'; did you mean 'steps'?"),
    (["--sampler", "hein"], "config.sampling.sampler.kind: no such kind 'hein'; did you mean 'heun'?"),
])
def test_a_mistake_is_one_line(monkeypatch, capsys, arguments, message):
    assert fails(monkeypatch, capsys, "sweep", "run", *arguments).startswith(message)
