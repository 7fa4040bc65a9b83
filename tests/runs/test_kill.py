"""A process that is killed again and again, in the middle of anything, ends as one that never was.

Five kills take minutes: they are in the second stage, `-m slow`; two are in every run of the tests.
"""

import importlib.util
import multiprocessing
import random
import time

import pytest
import torch
from safetensors.torch import load_file

import own
from snrise.training import checkpoints, latest, read_header
from tiny import DOCUMENT, comparable, train_apart
from together import wait_for

SETTINGS = ("data.flip=true", "training.class_dropout=0.3", "training.optimizer=muon", "log.every=72")


pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")


@pytest.fixture
def start():
    """Starts a function in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["own", "tiny", "diffusers.models.unets.unet_2d"])

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start


def kill_somewhere(process, folder, draw):
    """Kill a run after it has come further, half of the times while it writes a checkpoint."""
    before = latest(folder)
    wait_for(lambda: latest(folder) != before, process)
    time.sleep(draw.uniform(0, 0.1))
    if draw.random() < 0.5:
        wait_for(lambda: any(folder.glob(".*.tmp")), process)
        time.sleep(draw.uniform(0, 0.003))
    assert process.is_alive()
    process.kill()
    process.join()


def kill_again_and_again(tmp_path, begin, kills, images):
    """Train without a break, and with as many kills: `begin` starts a process for a folder, saving so often."""
    straight = begin(tmp_path / "straight", images)
    straight.join()
    assert straight.exitcode == 0
    draw, folder = random.Random(), tmp_path / "killed" / "checkpoints"
    for _ in range(kills):
        kill_somewhere(begin(tmp_path / "killed", 8), folder, draw)
    assert read_header(checkpoints(folder)[0]).images_seen < images
    last = begin(tmp_path / "killed", 8)
    last.join()
    assert last.exitcode == 0
    ends = [latest(tmp_path / name / "checkpoints") for name in ("straight", "killed")]
    a, b = map(load_file, ends)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    headers = [read_header(end) for end in ends]
    assert headers[0].images_seen == headers[1].images_seen == images
    assert headers[0].step == headers[1].step
    assert headers[0].extra["spikes"] == headers[1].extra["spikes"]
    assert headers[0].extra["meter"]["bins"] == headers[1].extra["meter"]["bins"]
    logs = [comparable(tmp_path / name / "log.jsonl") for name in ("straight", "killed")]
    assert logs[0] == logs[1]
    assert not list(folder.glob(".*.tmp"))


@pytest.mark.parametrize(("kills", "images"), [(2, 480), pytest.param(5, 1000, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_as_one_that_never_was(tmp_path, start, kills, images):
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    settings = [tmp_path / "tiny.yaml", *SETTINGS, f"training.images={images}"]

    def begin(folder, every):
        return start(train_apart, [*settings, f"log.checkpoint={every}", "--out", folder])

    kill_again_and_again(tmp_path, begin, kills, images)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "diffusers"])
def test_so_does_a_run_of_objects_of_ones_own(tmp_path, start, kind):
    if kind == "diffusers" and importlib.util.find_spec("diffusers") is None:
        pytest.skip("needs diffusers")

    def begin(folder, every):
        return start(own.train_apart, kind, folder, 480, every)

    kill_again_and_again(tmp_path, begin, 3, 480)
