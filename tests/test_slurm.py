"""examples/slurm.sh, with stand-ins for Slurm's commands that run on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import together
from snrise.training import latest, read_header
from tiny import DOCUMENT

SCRIPT = Path(__file__).parents[1] / "examples" / "slurm.sh"
#: Each writes down what it is asked; `srun` also does it, as the first of the machines.
COMMANDS = {
    "scontrol": 'echo "scontrol $*" >> asked; if [ "$1" = show ]; then echo localhost; echo other; fi',
    "srun": 'echo "srun $1" >> asked; shift; SLURM_NODEID=0 exec "$@"',
    "python": f'printf "%s " "$@" >> command; exec {sys.executable} "$@"',
}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Starts the script on two processes of one machine."""
    (tmp_path / "bin").mkdir()
    for name, does in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path / "tmp"),
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost,other", "SLURM_JOB_NUM_NODES": "1",
        "PROCESSES": "2", "OMP_NUM_THREADS": "1",
    }

    def start(*arguments):
        return subprocess.Popen(["bash", SCRIPT, "tiny.yaml", "data.workers=1", "--out", "a run", *arguments],
                                cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.PIPE)

    return start


def test_the_shell_understands_it():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_slurm_reads_its_options_where_they_stand():
    """Slurm reads no option after the first command."""
    lines = SCRIPT.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert len(options) > 8
    assert max(options) < first


@pytest.mark.slow
def test_it_trains_on_the_processes_of_a_machine(tmp_path, job):
    with job("log.every=16") as process:
        output, error = process.communicate(timeout=3 * together.LONG)
    assert process.returncode == 0, error
    number = os.getpid()
    assert (tmp_path / "command").read_text().split() == [
        "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", "2", "--max-restarts", "3",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{20000 + number % 20000}", "--rdzv-id", f"{number}-0",
        "--rdzv-conf", "is_host=true", "-m", "snrise", "train", "tiny.yaml", "data.workers=1", "--out", "a", "run",
        "log.every=16",
    ]
    assert (tmp_path / "asked").read_text().splitlines() == [
        "scontrol show hostnames localhost,other", "srun --kill-on-bad-exit=1",
    ]
    assert output.count("done: ") == 1
    assert read_header(latest(tmp_path / "a run" / "checkpoints")).images_seen == 64
    assert not [*(tmp_path / "tmp").glob("tmp.*")]


@pytest.mark.slow
def test_stopped_by_slurm_it_saves_and_is_queued_again(tmp_path, job):
    with job("training.images=80000") as process:
        journal = tmp_path / "a run" / "log.jsonl"
        until = time.monotonic() + 3 * together.LONG
        while process.poll() is None and not (journal.exists() and journal.stat().st_size) and time.monotonic() < until:
            time.sleep(0.01)
        process.terminate()
        output, error = process.communicate(timeout=together.LONG)
    assert output.count("and saved; the same command goes on") == 1, error
    assert "error:" not in error
    assert process.returncode
    assert (tmp_path / "asked").read_text().splitlines()[-1] == f"scontrol requeue {os.getpid()}"
    assert 0 < read_header(latest(tmp_path / "a run" / "checkpoints")).images_seen < 80000
