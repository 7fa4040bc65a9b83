"""The benchmark for a GPU in its reduced form, which needs none: every part but the peers, and what may go wrong."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import snrise

pytestmark = pytest.mark.precision

#: In seconds: no case is stopped for being slow.
FOREVER = 10**6
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    """The module, with those beside it found and without what it imports staying."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu")


def reduced(gpu, tmp_path, *more):
    options = gpu.parsed(["--out", str(tmp_path), "--reduced", "--minutes", "0.02", *more])
    options.until = time.time() + FOREVER
    options.limit = FOREVER
    return options


def rows(tmp_path):
    return json.loads((tmp_path / "gpu.json").read_text())["rows"]


@pytest.mark.slow
def test_throughput_and_training(gpu, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu.gpu_training, "GRACE", FOREVER)
    for part in ("throughput", "training"):
        assert gpu.child(part, reduced(gpu, tmp_path)) == 0
    steps, run = rows(tmp_path)
    assert (steps["id"], steps["batch"]) == ("throughput/tiny-32/eager", 4)
    assert min(steps["images_per_second"], steps["gflop_per_image"], steps["share_of_peak"]) > 0
    assert steps["allocated_predicted_gib"] <= steps["reserved_predicted_gib"]
    assert 0 <= run["images"] - run["images_planned"] < run["batch"]
    assert snrise.load(tmp_path / "emoji-32.safetensors").images_seen == run["images"]
    assert all((tmp_path / name).stat().st_size for name in run["files"])
    assert capsys.readouterr().out.splitlines()[0].count("|") == gpu.HEAD.splitlines()[0].count("|")
    assert gpu.child("throughput", reduced(gpu, tmp_path)) == 0
    assert len(rows(tmp_path)) == 2


@pytest.mark.slow
def test_a_chain_begins_each_recipe_with_the_weights_of_the_one_before(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.gpu_training, "GRACE", FOREVER)
    assert gpu.child("training", reduced(gpu, tmp_path, "--train", "emoji-32", "emoji-64")) == 0
    assert [row["id"] for row in rows(tmp_path)] == ["training/emoji-32", "training/emoji-64"]
    low, high = (snrise.load(tmp_path / f"{row['recipe']}.safetensors").network for row in rows(tmp_path))
    assert not torch.equal(high.leave.weight, torch.zeros_like(high.leave.weight))
    inner = high.inner.state_dict()
    assert all(torch.equal(inner[name], weight) for name, weight in low.state_dict().items())


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_errors_are_rows(gpu):
    def greedy(halved):
        if halved < 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried\nmore")
        return {"batch": 8 >> halved}

    def fails(error):
        def case(halved):
            raise error
        return case

    row = gpu.attempt(greedy, 100)
    assert (row["batch"], row["errors"]) == (2, ["OutOfMemoryError: CUDA out of memory. Tried"] * 2)
    assert gpu.attempt(fails(ValueError("one\ntwo")), 100) == {"error": "ValueError: one"}
    assert gpu.attempt(fails(ImportError(name="peer")), 100) == {"error": "not installed: peer"}
    assert gpu.attempt(fails(RuntimeError("CUDA error: illegal")), 100)["lost"]
    assert gpu.attempt(lambda halved: time.sleep(30), 1)["error"] == "TimeoutError: not done after 1 s"


def test_a_process_that_dies_is_a_row_and_the_rest_goes_on(gpu, tmp_path, monkeypatch):
    started = []

    def run(command, **_):
        started.append(command)
        if len(started) == 1:
            gpu.note(tmp_path, running="throughput/s-64/eager")
        return subprocess.CompletedProcess(command, -11 if len(started) == 1 else gpu.LOST if len(started) == 2 else 0)

    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    monkeypatch.setattr(gpu.subprocess, "run", run)
    gpu.supervise("throughput", 100, reduced(gpu, tmp_path))
    assert len(started) == 3
    assert [row["error"] for row in rows(tmp_path)] == ["its process ended with -11"]


def test_what_is_wanted_first(gpu, tmp_path):
    order = gpu.wanted(gpu.parsed(["--out", str(tmp_path)]))
    assert order[:2] == [("m-256", "eager"), ("s-256", "eager")]
    assert len(order) == len(set(order)) == 3 * len(gpu.OWN)


def test_each_recipe_has_minutes_of_its_own_or_an_equal_part(gpu, tmp_path, capsys):
    assert gpu.shared([6.0], ["a", "b"]) == {"a": 3.0, "b": 3.0}
    assert gpu.shared([1.0, 2.0], ["a", "b"]) == {"a": 1.0, "b": 2.0}
    with pytest.raises(SystemExit):
        gpu.parsed(["--out", str(tmp_path), "--train", "a", "b", "c", "--minutes", "1", "2"])
    assert "2 numbers for 3 recipes" in capsys.readouterr().err
