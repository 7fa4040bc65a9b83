"""Predicted and measured peak memory of training steps on this machine's CPU, for every preset that fits.

    python benchmarks/memory.py --most 14 --out docs/results/memory.json

A case is a preset with a batch of at most 8 that is predicted to take about `--aim` GiB if it can be. Each runs in a
process of its own: imports and a step of a tiny network, then the baseline; then three steps of a run, and the peak of
the resident memory (VmHWM) less the baseline; the median of `--repeats`, as the heap is not always cut up alike.
Beside, the same without what the heap loses: glibc is told to map every block apart, so that only what is alive is
resident, and the prediction leaves its overhead out. Linux with glibc only.
"""

import argparse
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from snrise import planning
from snrise.config import RunConfig
from snrise.construct import plain
from snrise.cpu import keep_freed_memory
from snrise.documents import load, override, parse
from snrise.experiment import Experiment
from snrise.networks import PRESETS
from snrise.planning.advice import largest_batch
from snrise.runs import Run

GIB = 2**30
#: Cases beside the presets as they are: a preset and settings.
MORE = [
    ("s-64", ["training.precision=fp32"]), ("s-64", ["training.optimizer=muon"]), ("s-256", ["training.accumulate=2"]),
    ("m-256", ["checkpoint"]), ("m-1024", ["checkpoint"]), ("jit-b-256", ["checkpoint"]),
    ("sid2-small-256", ["checkpoint"]),
]


def config(preset: str, batch: int, settings: list[str]) -> RunConfig:
    """A run of the preset on a few emoji, each step of it logged."""
    document = plain(load("emoji-32"))
    side = int(preset.rsplit("-", 1)[1])
    document["network"] = plain(PRESETS[preset])
    document["data"] |= {"resolution": [side, side], "classes": None, "only": ["flags"], "cache": "none", "workers": 0}
    document["training"] |= {"batch": batch, "optimizer": "adamw"}
    document["log"] |= {"every": 1, "tensorboard": False}
    for setting in settings:
        if setting == "checkpoint":
            for stage in PRESETS[preset].stages():
                override(document, f"network.{stage.checkpoint}=true")
        else:
            override(document, setting)
    return parse(document)


def status(name: str) -> int:
    """A number of /proc/self/status, in bytes."""
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def steps(how: RunConfig, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Run(Experiment.of(how), folder, tell=lambda _: None) as run:
        for _ in itertools.islice(run, count):
            pass


def measure(how: RunConfig, apart: bool) -> int:
    """The peak of three steps, in this process."""
    if not apart:
        keep_freed_memory()
    tiny = {"kind": "uvit", "stem": 8, "levels": [{"channels": 16, "blocks": 1}]}
    small = plain(how) | {"network": tiny, "training": plain(how)["training"] | {"batch": 1, "accumulate": 1}}
    steps(parse(small), 2)
    baseline = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    steps(how, 3)
    return status("VmHWM") - baseline


def measured(preset: str, batch: int, settings: list[str], apart: bool) -> int:
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"} if apart else {})
    command = [sys.executable, __file__, "--child", json.dumps([preset, batch, settings, apart])]
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def case(preset: str, settings: list[str], aim: float, most: float, repeats: int) -> dict[str, object] | None:
    """Predict, choose the batch, measure."""
    cpu = planning.device("cpu")

    def peak(batch: int) -> int:
        return planning.rehearse(Experiment.imagined(config(preset, batch, settings)), cpu).peak

    least = 2 if "training.accumulate=2" in settings else 1
    batch = max(least, min(8, largest_batch(peak, int(aim * GIB))))
    how = Experiment.imagined(config(preset, batch, settings))
    predicted, alive = (planning.rehearse(how, device).peak for device in (cpu, replace(cpu, overhead=0.0)))
    if predicted > most * GIB:
        return None
    row = {"preset": preset, "settings": settings, "batch": batch}
    for name, size, apart, times in (("", predicted, False, repeats), ("alive_", alive, True, 1)):
        found = [measured(preset, batch, settings, apart) for _ in range(times)]
        row |= {f"{name}predicted_gib": size / GIB, f"{name}measured_gib": median(found) / GIB}
        row |= {f"{name}error": size / median(found) - 1, f"{name}measured_all_gib": [n / GIB for n in found]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--aim", type=float, default=3)
    parser.add_argument("--most", type=float, default=14)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.child:
        preset, batch, settings, apart = json.loads(options.child)
        print(measure(config(preset, batch, settings), apart))
        return
    rows = []
    print("| preset | batch | predicted GiB | measured | error | alive: predicted | measured | error |")
    print("|---|---|---|---|---|---|---|---|")
    cases = [*((name, []) for name in options.presets), *(c for c in MORE if c[0] in options.presets)]
    for preset, settings in cases:
        row = case(preset, settings, options.aim, options.most, options.repeats)
        if row is None:
            continue
        rows.append(row)
        told = f" {', '.join(settings)}" if settings else ""
        numbers = " | ".join(
            f"{row[f'{name}predicted_gib']:.2f} | {row[f'{name}measured_gib']:.2f} | {row[f'{name}error']:+.1%}"
            for name in ("", "alive_")
        )
        print(f"| `{preset}`{told} | {row['batch']} | {numbers} |", flush=True)
    if options.out is not None:
        made = {"torch": torch.__version__, "glibc": platform.libc_ver()[1], "threads": torch.get_num_threads()}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(made | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
