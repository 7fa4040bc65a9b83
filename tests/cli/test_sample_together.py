"""`snrise sample` on several processes: the files of one process, written once; and commands that want one process."""

import contextlib
import multiprocessing
import os
import signal

import numpy as np
import pytest
from typer.testing import CliRunner

import together
from snrise import cli
from snrise.cli import together as module
from snrise.parallel import ALONE
from snrise.runs.gallery import Gallery
from tiny import config, pixels, saved_run
from together import wait_for

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")

NAMES = ["activities", "flags", "symbols"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their weights."""
    folder = tmp_path_factory.mktemp("runs")
    saved_run(folder / "0", config("sampling.sampler=ancestral"), NAMES)
    saved_run(folder / "1", config("sampling.sampler=ancestral", "seed=5"), NAMES)
    return folder


def sample(tmp_path, size, *arguments):
    """What the processes said, once all have ended well."""
    processes = together.start(tmp_path / "said", size, together.command, "sample", *arguments)
    assert processes.codes() == [0] * size, [processes.said(rank) for rank in range(size)]
    said = [processes.said(rank, "out") for rank in range(size)]
    assert said[1:] == [""] * (size - 1)
    assert [processes.said(rank) for rank in range(size)] == [""] * size
    return said[0]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.slow
def test_several_processes_write_the_files_of_one(runs, tmp_path):
    for size in (1, 2, 3):
        out = tmp_path / str(size)
        assert sample(tmp_path, size, runs / "0", "-n", 10, "--batch", 3, "--out", out) == f"10 pictures in {out}/\n"
        # What is missing is made again, and nothing else is touched.
        (out / "000004.png").unlink()
        kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
        said = sample(tmp_path, size, runs / "0", "-n", 10, "--batch", 3, "--out", out)
        assert said == f"10 pictures in {out}/, 9 of them from before\n"
        assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert sorted(contents(tmp_path / "1")) == [*(f"{i:06d}.png" for i in range(10)), "sampling.json"]
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "3")


def written(*arguments):
    """How many pictures this process writes."""
    counts, write = [], Gallery._write

    def counted(self, folder, places, *rest):
        counts.append(len(places))
        write(self, folder, places, *rest)

    Gallery._write = counted
    with contextlib.suppress(SystemExit):
        together.command("sample", *arguments)
    return sum(counts)


def test_few_pictures_are_dealt_out_too(runs, tmp_path):
    """Batches are smaller then, which changes rounding; a process that nothing is left for does nothing."""
    for name, size, count, options, shares in (
        ("together", 2, 10, (), [5, 5]), ("five", 1, 10, ("--batch", 5), [10]), ("alone", 1, 10, (), [10]),
        ("many", 3, 2, (), [1, 1, 0]), ("one", 1, 2, ("--batch", 1), [2]),
    ):
        processes = together.start(tmp_path / "said", size, written, runs / "0", "-n", count, *options, "--out",
                                   tmp_path / name)
        assert processes.codes() == [0] * size
        assert processes.noted() == shares
    assert contents(tmp_path / "together") == contents(tmp_path / "five")
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    for i in range(10):
        ours, theirs = (pixels(tmp_path / name / f"{i:06d}.png") for name in ("together", "alone"))
        assert np.abs(ours - theirs).max() <= 1


def test_a_grid_is_that_of_one_process(runs, tmp_path):
    for size in (1, 2):
        out = tmp_path / f"{size}.png"
        said = sample(tmp_path, size, runs / "0", "-n", 7, "--batch", 2, "--first", 3, "--out", out)
        assert said == f"7 pictures in {out}\n"
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_an_error_in_one_ends_all_with_a_line_each(runs, tmp_path):
    out = tmp_path / "out"
    sample(tmp_path, 1, runs / "0", "-n", 1, "--out", out)
    (out / "000003.png").mkdir()
    processes = together.start(tmp_path / "said", 2, together.command, "sample", runs / "0", "-n", 4, "--batch", 2,
                               "--out", out)
    assert processes.codes() == [2, 2]
    first, second = (processes.said(rank) for rank in range(2))
    assert second.startswith(f"error: {out / '000003.png'}: cannot be written: ")
    assert first == f"error: process 0 of 2: stopped because of process 1: {second.removeprefix('error: ')}"
    assert first.count("\n") == 1


def test_what_the_first_cannot_write_is_told_by_all(runs, tmp_path):
    (tmp_path / "grid.png").mkdir()
    processes = together.start(tmp_path / "said", 2, together.command, "sample", runs / "0", "-n", 2, "--out",
                               tmp_path / "grid.png")
    assert processes.codes() == [2, 2]
    assert processes.said(0) == processes.said(1)
    assert processes.said(0).startswith(f"error: {tmp_path / 'grid.png'}: cannot be written: ")


def test_a_signal_to_one_stops_all_after_the_same_batch(runs, tmp_path):
    out = tmp_path / "out"
    processes = together.start(tmp_path / "said", 2, together.command, "sample", runs / "0", "-n", 90_000, "--batch",
                               2, "--out", out)
    wait_for(lambda: (out / "000005.png").exists(), processes[0])
    os.kill(processes[1].pid, signal.SIGINT)
    assert processes.codes() == [128 + signal.SIGINT] * 2
    count = len([*out.glob("*.png")])
    told = f"stopped: {count} of 90000 pictures in {out}/; the same command goes on\n"
    assert [processes.said(rank, "out") for rank in range(2)] == [told, ""]
    assert count % 4 == 0
    assert (out / f"{count - 1:06d}.png").exists()


def of_its_own(folder, out):
    """Each process samples from another run."""
    together.command("sample", folder / str(together.world().rank), "-n", 2, "--out", out)


def test_processes_with_other_weights_are_refused(runs, tmp_path):
    processes = together.start(tmp_path / "said", 2, of_its_own, runs, tmp_path / "out")
    assert processes.codes() == [2, 2]
    for rank in range(2):
        (line,) = processes.said(rank).splitlines()
        assert line.startswith(f"error: {runs / str(rank)}: weights of process 1: got '")
        assert line.endswith("a folder that all of them see")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "what"), [
    (("sample", "run", "--states", "way.png"), "snrise sample --states"), (("schedule",), "snrise schedule"),
])
def test_what_one_process_does_is_refused_by_the_first_alone(tmp_path, arguments, what):
    processes = together.start(tmp_path, 2, together.command, *arguments)
    assert processes.codes() == [2, 2]
    told = "got '2 processes'; allowed: one; several run train, sample, evaluate and sweep; start it without torchrun"
    assert [processes.said(rank) for rank in range(2)] == [f"error: {what}: {told}\n", ""]
    assert [processes.said(rank, "out") for rank in range(2)] == ["", ""]


@pytest.mark.parametrize("command", sorted({c.name for c in cli.app.registered_commands}))
def test_each_command_runs_on_several_processes_or_says_that_it_does_not(monkeypatch, tmp_path, command):
    """Without processes: what a command does first is to look for them, or to look for the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "started", lambda: 2)
    monkeypatch.setattr(module.World, "from_environment", lambda: ALONE)
    arguments = {"schedule": [], "push": ["nowhere", "me/flags"]}.get(command, ["nowhere"])
    result = CliRunner().invoke(cli.app, [command, *arguments])
    refused = f"snrise {command}: got" in result.stderr
    assert refused == (command not in ("train", "sample", "evaluate", "sweep"))
    assert result.exit_code == (2 if refused else 1)
