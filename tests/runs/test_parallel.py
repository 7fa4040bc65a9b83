"""Several processes train the run of one: the same images, λ and noise, and the same weights but for rounding."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import together
from snrise._errors import SnriseError
from snrise.training import latest, read_header
from tiny import DOCUMENT, comparable, objects
from together import wait_for

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")

#: Without dropout, which is drawn for slices, and with everything else that is random.
PLAIN = ("network.levels.0.dropout=0.0", "data.flip=true", "training.class_dropout=0.3", "training.images=256",
         "log.samples=96", "log.checkpoint=64")
DROPOUT = ("data.flip=true", "training.class_dropout=0.3", "training.images=800", "log.every=72", "log.checkpoint=8")


def weights(folder, parts=("network", "ema")):
    return {name: t for name, t in load_file(latest(folder / "checkpoints")).items() if name.startswith(parts)}


def distance(a, b):
    """The largest difference of two runs' weights."""
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def same(a, b):
    """Whether two checkpoints hold the same bits."""
    a, b = load_file(latest(a / "checkpoints")), load_file(latest(b / "checkpoints"))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(tmp_path, name, size, settings, *more):
    """Train in a folder of that name; what the processes wrote down, by rank."""
    processes = together.start(tmp_path / f"{name} said", size, together.train, tmp_path / name, settings, *more)
    assert processes.codes() == [0] * size, [processes.said(rank) for rank in range(size)]
    return processes.noted()


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


@pytest.mark.parametrize(("optimizer", "near"), [
    ("adamw", 1e-5), pytest.param("muon", 1e-4, marks=pytest.mark.slow),
])
def test_several_processes_train_the_run_of_one(tmp_path, optimizer, near):
    settings = (*PLAIN, f"training.optimizer={optimizer}")
    (alone,) = trained(tmp_path, "1", 1, settings)
    assert len(alone["steps"]) == 32
    for size in (2, 3):
        noted = trained(tmp_path, str(size), size, settings)
        assert [note["rank"] for note in noted] == [*range(size)]
        for step, of_one in enumerate(alone["steps"]):
            steps = [note["steps"][step] for note in noted]
            slices = [of_rank.pop("seen") for of_rank in steps]
            assert max(map(len, slices)) - min(map(len, slices)) <= 1
            assert [*itertools.chain(*slices)] == of_one["seen"]
            assert all(of_rank == steps[0] for of_rank in steps)
            for name in ("indices", "logsnr", "fault", "counts"):
                assert steps[0][name] == of_one[name]
            for name in ("loss", "norm", "losses"):
                assert steps[0][name] == pytest.approx(of_one[name], rel=1e-3)
        assert distance(tmp_path / "1", tmp_path / str(size)) < near
        assert files(tmp_path / "1") == files(tmp_path / str(size))
        assert [note["told"] for note in noted] == [alone["told"], *[[]] * (size - 1)]
        logs = [comparable(tmp_path / name / "log.jsonl") for name in ("1", str(size))]
        for line, of_one in zip(*reversed(logs), strict=True):
            assert line.keys() == of_one.keys()
            for name in line:
                assert line[name] == pytest.approx(of_one[name], rel=1e-3)


@pytest.mark.slow
def test_the_number_of_processes_may_change_within_a_run(tmp_path):
    trained(tmp_path, "straight", 1, PLAIN)
    for size, steps in ((1, 8), (2, 10), (1, None)):
        *_, note = trained(tmp_path, "run", size, PLAIN, steps)
    assert any("going on from 144 images" in line for line in note["told"])
    assert distance(tmp_path / "straight", tmp_path / "run") < 1e-5
    assert [line["images_seen"] for line in objects(tmp_path / "run" / "log.jsonl")] == [*range(16, 257, 16)]


@pytest.mark.slow
def test_a_number_that_is_not_finite_drops_the_step_in_all(tmp_path):
    (alone,) = trained(tmp_path, "1", 1, PLAIN, None, [22])
    noted = trained(tmp_path, "2", 2, PLAIN, None, [22])  # in the second half of the third batch
    for note in (alone, *noted):
        faults = [step["fault"] for step in note["steps"]]
        assert [i for i, fault in enumerate(faults) if fault] == [2]
        assert faults[2].startswith("output of ")
    assert noted[0]["steps"][2]["fault"] == noted[1]["steps"][2]["fault"] == alone["steps"][2]["fault"]
    assert distance(tmp_path / "1", tmp_path / "2") < 1e-5
    (event,), (of_one,) = (objects(tmp_path / name / "events.jsonl") for name in "21")
    assert event["images"][0]["name"] == of_one["images"][0]["name"]
    assert (event["event"], event["where"], event["loss"]) == ("fault", of_one["where"], "nan")
    dropped, of_one = (note["told"][0].split(", named in")[0] for note in (noted[0], alone))
    assert dropped == of_one
    assert dropped.startswith("step dropped: ")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "rank"), [(45, 2), (40, 0)])
def test_an_error_in_one_process_ends_all_with_its_reason(tmp_path, number, rank):
    unreadable = {number: SnriseError(f"image {number} is broken")}
    processes = together.start(tmp_path / "said", 3, together.train, tmp_path / "run", PLAIN, None, (), unreadable)
    assert processes.codes() == [2, 2, 2]
    for other in range(3):
        why = "" if other == rank else f"process {other} of 3: stopped because of process {rank}: "
        assert processes.said(other) == f"error: {why}image {number} is broken\n"


def test_an_error_of_the_one_that_writes_is_told_by_all(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").mkdir()
    processes = together.start(tmp_path / "said", 2, together.train, tmp_path / "run", PLAIN)
    assert processes.codes() == [2, 2]
    assert "config.yaml" in processes.said(0)
    assert processes.said(0) == processes.said(1)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_after_the_same_step(tmp_path):
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    arguments = ("train", tmp_path / "tiny.yaml", *DROPOUT[:2], "training.images=80000", "--out", tmp_path / "run")
    processes = together.start(tmp_path / "said", 2, together.command, *arguments)
    journal = tmp_path / "run" / "log.jsonl"
    wait_for(lambda: journal.exists() and journal.stat().st_size, processes[0])
    os.kill(processes[1].pid, signal.SIGTERM)
    assert processes.codes() == [128 + signal.SIGTERM] * 2
    (line,) = [line for line in processes.said(0, "out").splitlines() if line.startswith("stopped at")]
    (file,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert line.startswith(f"stopped at {read_header(file).images_seen:,} images and saved")
    assert [processes.said(1, stream) for stream in ("out", "err")] == ["", ""]


def differing(folder):
    return together.train(folder, (*PLAIN, f"seed={together.world().rank}"))


def too_many(folder):
    return together.train(folder, (*PLAIN, "training.batch=1"))


@pytest.mark.slow
@pytest.mark.parametrize(("function", "told"), [
    (differing, "settings of process 1: got 'others'; allowed: the same, as in process 0"),
    (too_many, "training.batch: got 1; allowed: an image or more for each of 2 processes; start 1 at most"),
])
def test_what_does_not_fit_together_is_refused(tmp_path, function, told):
    processes = together.start(tmp_path / "said", 2, function, tmp_path / "run")
    assert processes.codes() == [2, 2]
    assert all(told in processes.said(rank) for rank in range(2))
    assert len(processes.said(0).splitlines()) == 1


@pytest.mark.slow
def test_files_that_any_of_them_cannot_read_are_listed_once(tmp_path):
    from PIL import Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    draw = random.Random(0)
    for i in range(24):
        Image.new("RGB", (20, 20), tuple(draw.randrange(256) for _ in range(3))).save(pictures / f"{i:02d}.png")
    for i in (3, 9, 14, 20):
        (pictures / f"{i:02d}.png").write_bytes(b"no picture")
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    listed = {}
    for size in (1, 2):
        out = tmp_path / f"run {size}"
        arguments = ("train", tmp_path / "tiny.yaml", "--data", pictures, "training.images=48", PLAIN[0], "--out", out)
        processes = together.start(tmp_path / f"said {size}", size, together.command, *arguments)
        assert processes.codes() == [0] * size
        listed[size] = (out / "skipped.txt").read_text()
        assert "4 images could not be read" in processes.said(0, "out")
    assert listed[1] == listed[2]
    assert len(listed[1].splitlines()) == 4
    assert distance(tmp_path / "run 1", tmp_path / "run 2") < 1e-5


@pytest.mark.slow
def test_the_pace_is_measured_together_and_the_same_in_all(tmp_path):
    processes = together.start(tmp_path / "said", 2, measured)
    assert processes.codes() == [0, 0]
    first, second = processes.noted()
    assert first == second
    assert first[0] > 0
    assert first[1] > 0


def measured():
    from snrise.experiment import Experiment
    from snrise.runs import measure
    from tiny import config

    return list(measure(Experiment.of(config(*PLAIN)), seconds=0.2, world=together.world()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_torchrun_starts_it_and_hands_on_its_signals(tmp_path, number):
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "snrise",
              "train", "tiny.yaml", "log.every=40", "data.cache=none", "data.workers=1", "--out", "run"]
    with subprocess.Popen([*launch, "training.images=80000"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        journal = tmp_path / "run" / "log.jsonl"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.01)
        process.send_signal(number)
        output, error = process.communicate(timeout=together.LONG)
    assert output.count("and saved; the same command goes on") == 1, error
    assert "error:" not in error
    seen = read_header(latest(tmp_path / "run" / "checkpoints")).images_seen
    done = subprocess.run([*launch, f"training.images={seen + 80}"], cwd=tmp_path, check=True, capture_output=True,
                          text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.count(f"going on from {seen:,} images") == 1
    assert json.loads(journal.read_text().splitlines()[-1])["images_seen"] == seen + 80
