"""The benchmark of several processes, in a reduced form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import DOCUMENT

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.py"


@pytest.mark.slow
def test_throughput_and_checkpoints_in_shards(tmp_path):
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    options = ("--rounds", "1", "--seconds", "0.1", "--recipe", "tiny.yaml", "--millions", "1", "--background")
    command = [sys.executable, SCRIPT, "throughput", "checkpoint", *options, "--out", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    rates = told["throughput"]["images_per_second"]
    assert [*rates] == ["one process", "one by torchrun", "2 replicas", "2 shards"]
    assert all(rate > 0 for (rate,) in rates.values())
    foreground, background = told["checkpoint"]
    for row in (foreground, background):
        assert row["same"]
        assert row["processes"] == 2
        assert row["share"] < 0.6 * row["bytes"]
    assert background["stopped_seconds"] < background["save_seconds"]
