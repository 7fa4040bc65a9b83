"""`snrise evaluate` and `snrise sweep` on several processes: the numbers of one process, written and printed once."""

import json
import multiprocessing
import os
import signal

import pytest
from PIL import Image

import together
from snrise import experiment
from snrise.metrics import FEATURES
from tiny import POOLED, config, objects, saved_run
from together import wait_for

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")

NAMES = ["activities", "flags", "symbols"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved_run(tmp_path_factory.mktemp("judged") / "run", config("data.hold_out=10"), NAMES)


def with_cheap_features(cache, *arguments):
    """A command with features that cost nothing, and a cache of its own."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    FEATURES["pooled"] = POOLED
    together.command(*arguments, "--features", "pooled")


def told(tmp_path, size, *arguments, cache=None):
    """What a command prints on so many processes; the first one alone prints."""
    cache = cache or tmp_path / f"cache {size}"
    processes = together.start(tmp_path / "said", size, with_cheap_features, cache, *arguments)
    assert processes.codes() == [0] * size, [processes.said(rank) for rank in range(size)]
    assert [processes.said(rank, "out") for rank in range(1, size)] == [""] * (size - 1)
    assert [processes.said(rank) for rank in range(1, size)] == [""] * (size - 1)
    return processes.said(0, "out")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_run_is_judged_as_by_one_process(run, tmp_path):
    """With batches given, samples, features and reference are the same bits; held-out images are cut otherwise."""
    found, said, out = {}, {}, tmp_path / "report"
    for size in (1, 2):
        printed = told(tmp_path, size, "evaluate", run, "-n", 20, "--batch", 3, "--held-out", 3, "--likelihood",
                       "--out", out)
        said[size], seen = printed.split("\non images that the run has not seen:\n")
        assert "3 images" in seen
        found[size] = json.loads((out / "metrics.json").read_text()), *(
            (out / name).read_bytes() for name in ("nearest.png", "spectrum.png"))
    unseen = {size: of_size[0].pop("unseen") for size, of_size in found.items()}
    assert found[1] == found[2]
    assert said[1] == said[2]
    assert found[1][0]["samples"] == 20
    assert unseen[1].keys() == unseen[2].keys()
    assert unseen[2]["images"] == unseen[2]["flow_images"] == 3
    for name, value in unseen[2].items():
        assert value == pytest.approx(unseen[1][name], rel=1e-4)
    assert files(tmp_path / "cache 1") == files(tmp_path / "cache 2")


@pytest.mark.slow
def test_a_reference_that_the_first_has_is_the_others(run, tmp_path):
    arguments = ("evaluate", run, "-n", 6, "--held-out", 2, "--out", tmp_path / "report")
    first = told(tmp_path, 2, *arguments)
    (file,) = (tmp_path / "cache 2").rglob("*.safetensors")
    before = file.stat().st_mtime_ns
    assert told(tmp_path, 2, *arguments) == first
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_folder_is_judged_as_by_one_process(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(experiment.dataset(config()).images(range(70))):  # a batch of 64 and one of 6
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "pictures" / f"{i:02}.png")
    pictures, found = tmp_path / "pictures", {}
    for size in (1, 3):
        told(tmp_path, size, "evaluate", pictures, "--reference", pictures, "--out", tmp_path / str(size))
        found[size] = files(tmp_path / str(size))
    assert found[1] == found[3]
    assert json.loads(found[1]["metrics.json"])["samples"] == 70


def without_times(lines):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.slow
def test_a_sweep_is_that_of_one_process(run, tmp_path):
    found, printed = {}, {}
    for size in (1, 2):
        out = tmp_path / str(size)
        arguments = ("sweep", run, "-n", 10, "--batch", 3, "--steps", "2,3", "--seeds", 2, "--out", out)
        said = told(tmp_path, size, *arguments)
        lines = objects(out / "sweep.jsonl")
        assert all(line["seconds"] > 0 for line in lines)
        found[size] = without_times(lines)
        printed[size] = [line.split()[:-1] for line in said.splitlines()[:-1]]
        # Nothing is measured again.
        assert told(tmp_path, size, *arguments) == said
        assert objects(out / "sweep.jsonl") == lines
        assert (out / "sweep.png").exists()
    assert found[1] == found[2]
    assert printed[1] == printed[2]
    assert [line["evaluations"] for line in found[1]] == [2, 2, 3, 3]


def test_an_interrupted_process_ends_all(run, tmp_path):
    out = tmp_path / "out"
    processes = together.start(tmp_path / "said", 2, with_cheap_features, tmp_path / "cache", "sweep", run, "-n", 12,
                               "--seeds", 9000, "--steps", 2, "--out", out)
    wait_for(lambda: (out / "sweep.jsonl").exists(), processes[0])
    os.kill(processes[1].pid, signal.SIGINT)
    assert processes.codes() == [2, 1]
    assert processes.said(0).splitlines()[-1] == (
        "error: process 0 of 2: stopped because of process 1: KeyboardInterrupt")
    assert processes.said(1) == ""


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all(run, tmp_path):
    out = tmp_path / "out"
    processes = together.start(tmp_path / "said", 2, with_cheap_features, tmp_path / "cache", "sweep", run, "-n", 12,
                               "--seeds", 9000, "--steps", 2, "--out", out)
    wait_for(lambda: (out / "sweep.jsonl").exists(), processes[0])
    processes[1].kill()
    assert processes.codes() == [2, -signal.SIGKILL]
    line = processes.said(0).splitlines()[-1]
    assert line.startswith("error: process 0 of 2: no answer from process 1: killed")
    assert line.endswith("the same command goes on from what was saved")
