"""torchrun starts processes again that have failed, and with other numbers of machines; the run goes on."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_parallel import DROPOUT, PLAIN, distance, same, trained

import together
from snrise.training import latest
from tiny import DOCUMENT, comparable

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")]

#: Seconds for a start of torchrun's and its workers', on a machine that is busy with other tests.
LONG = 4 * together.LONG
#: `snrise` in steps that are slow, in one process slower still, so that another machine can join before the end.
SLOWLY = """
import os, time
from snrise import cli, runs

def slowly(*arguments):
    for batch in batches_of(*arguments):
        time.sleep(5 if batch.position >= 80 and os.environ["WORLD_SIZE"] == "1" else 0.2)
        yield batch

batches_of, runs.run.batches_of = runs.run.batches_of, slowly
cli.main()
"""


class Torchrun:
    """One machine's torchrun, and what it and its workers print."""

    def __init__(self, folder, name, *arguments, **environment):
        self.file = folder / f"{name}.out"
        with self.file.open("w") as file, (folder / f"{name}.err").open("w") as errors:
            launch = [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)]
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | environment
            self.process = subprocess.Popen(launch, cwd=folder, stdout=file, stderr=errors, env=environment)

    def workers(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in children.read_text().split()]

    def said(self, words):
        """Where each start of the run went on, if it was in these words."""
        return [int(n.replace(",", "")) for n in re.findall(rf"going on from ([\d,]+) images {words} \(",
                                                            self.file.read_text())]

    def end(self):
        for worker in self.workers() if self.process.poll() is None else ():
            os.kill(worker, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def until(condition, *machines):
    """Wait for something, for which these have to be at work."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        assert all(machine.process.poll() is None for machine in machines)
        time.sleep(0.02)


@pytest.fixture
def machine(tmp_path):
    """Starts a torchrun in the folder of the test; all are ended after it."""
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    (tmp_path / "slowly.py").write_text(SLOWLY)
    started = []

    def start(name, *arguments, **environment):
        started.append(Torchrun(tmp_path, name, *arguments, **environment))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_workers_that_are_killed_are_started_again_and_end_bit_for_bit(tmp_path, machine):
    settings = ("train", "tiny.yaml", *DROPOUT, "data.workers=1", "--out")
    straight = together.start(tmp_path / "said", 2, together.command, "train", tmp_path / "tiny.yaml", *settings[2:],
                              tmp_path / "straight")
    assert straight.codes() == [0, 0]
    torchrun = machine("killed", "--standalone", "--nproc-per-node", 2, "--max-restarts", 3, "-m", "snrise", *settings,
                       "killed")
    folder = tmp_path / "killed" / "checkpoints"
    for rank in (0, 1):
        before = latest(folder)
        until(lambda before=before: latest(folder) != before, torchrun)
        os.kill(torchrun.workers()[rank], signal.SIGKILL)
        until(lambda rank=rank: torchrun.said(f"on 2 processes after {rank + 1} of 3 restarts"), torchrun)
    assert torchrun.process.wait(LONG) == 0
    lines = torchrun.file.read_text().splitlines()
    assert sum(line.startswith("tiny: ") for line in lines) == 1  # a restart is one line, not all of the first start's
    assert sum("restarts (" in line for line in lines) == 2
    assert same(tmp_path / "straight", tmp_path / "killed")
    assert comparable(tmp_path / "straight" / "log.jsonl") == comparable(tmp_path / "killed" / "log.jsonl")


def test_a_machine_may_leave_and_another_join(tmp_path, machine):
    trained(tmp_path, "alone", 1, PLAIN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def join(name):
        return machine(name, "--nnodes", "1:2", "--nproc-per-node", 1, "--max-restarts", 3, "--rdzv-backend", "c10d",
                       "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "test", "slowly.py", "train", "tiny.yaml",
                       *PLAIN, "log.checkpoint=8", "data.workers=1", "--out", "run",
                       TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")

    first = join("first")
    until(lambda: listening(port), first)
    second = join("second")
    until(lambda: latest(tmp_path / "run" / "checkpoints"), first, second)
    assert len(first.workers()) == len(second.workers()) == 1
    second.end()
    until(lambda: first.said("on 1 process after 1 of 3 restarts"), first)
    third = join("third")
    until(lambda: [*first.said("on 2 processes.*"), *third.said("on 2 processes.*")], first, third)
    assert [first.process.wait(LONG), third.process.wait(LONG)] == [0, 0]
    (alone,) = first.said("on 1 process after 1 of 3 restarts")
    (both,) = [*first.said("on 2 processes.*"), *third.said("on 2 processes.*")]
    assert 8 <= alone < both < 256
    assert distance(tmp_path / "alone", tmp_path / "run") < 1e-5


def listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
