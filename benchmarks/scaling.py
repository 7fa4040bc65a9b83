"""What several processes gain and cost: throughput, and checkpoints of a large network in shards.

    python benchmarks/scaling.py throughput --rounds 3
    python benchmarks/scaling.py checkpoint --millions 1000
    python benchmarks/scaling.py throughput checkpoint --processes 8 --out docs/results/scaling-8.json

Each case is started by torchrun: on CPUs by Gloo, all cores shared out to the processes; on GPUs by NCCL, one GPU a
process. `throughput` trains `--recipe` in turns, each way in processes of its own: one process without torchrun, one by
torchrun, and so many in replicas and in shards, of the same global batch. `checkpoint` saves and loads the state of a
transformer of random weights, AdamW's moments and the average included, in shards: private memory is that of
RssAnon in /proc, above what a process held before the state was made.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from snrise.config import Training, parse
from snrise.cpu import keep_freed_memory
from snrise.documents import override, read_document, resolve
from snrise.experiment import Experiment
from snrise.networks import Level, UViTConfig, build
from snrise.networks.levels import Kind
from snrise.parallel import World
from snrise.runs import measure
from snrise.sharding import local, shard
from snrise.training import TrainState, load_latest
from snrise.training.saving import Snapshot

MIB = 2**20


def throughput(recipe, parallel, seconds):
    """Images a second of all processes."""
    world = World.from_environment()
    device = world.device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    keep_freed_memory()
    experiment = Experiment.of(settings(recipe, parallel), device=device)
    pace = measure(experiment, seconds=seconds, grids=False, world=world)
    if world.leads:
        print(json.dumps({"images_per_second": pace.images_per_second, "processes": world.size}))


def settings(recipe, parallel):
    """Those of a recipe, for a way to train it in parallel."""
    document = read_document(recipe)
    override(document, f"training.parallel={parallel}")
    resolve(document)
    return parse(document)


class Memory:
    """The most private memory that this process holds, beyond what it held at the beginning, in bytes."""

    def __init__(self):
        self.before = self.now()

    @staticmethod
    def now():
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        raise OSError("needs Linux")

    @contextmanager
    def peak(self, into, name):
        """Note the peak while the block runs."""
        done, most = threading.Event(), [self.now()]

        def look():
            while not done.wait(0.01):
                most[0] = max(most[0], self.now())

        thread = threading.Thread(target=look)
        thread.start()
        started = time.perf_counter()
        try:
            yield
        finally:
            into[f"{name}_seconds"] = time.perf_counter() - started
            done.set()
            thread.join()
            into[f"{name}_peak"] = max(most[0], self.now()) - self.before


def large_state(millions, device):
    """The state of a transformer of about so many million random weights, in shards; made in shards, too."""
    channels = 1024
    blocks = max(1, round(millions * 1e6 / (12 * channels**2)))
    level = Level(channels=channels, blocks=blocks, kind=Kind.TRANSFORMER)
    network = build(UViTConfig(levels=(level,), stem=2), device="meta")
    shard(network)
    network.to_empty(device=device)
    with torch.no_grad():
        for t in (*network.parameters(), *network.buffers()):
            local(t).normal_()
        state = TrainState.begun(Training(images=1), network)
        for p in network.parameters():
            moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            for t in moments.values():
                local(t).uniform_()
            state.optimizer.state[p] = {"step": torch.zeros(()), **moments}
    return state


def sums(state):
    """The sum of this process's rows of each tensor."""
    return {name: float(rows.own.sum(dtype=torch.float64)) for name, rows in Snapshot.of(state).tensors.items()}


def checkpoint(millions, folder, background):
    """Seconds and memory of saving and loading."""
    world = World.from_environment()
    device = world.device(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    memory, told = Memory(), {"processes": world.size}
    state = large_state(millions, device)
    tensors = Snapshot.of(state).tensors
    told["parameters"] = sum(p.numel() for p in state.network.parameters())
    told["share"] = sum(rows.own.nbytes for rows in tensors.values())
    told["held"] = memory.now() - memory.before
    apart = world.apart() if background else world
    with memory.peak(told, "save"):
        if background:
            started = time.perf_counter()
            snapshot = Snapshot.of(state).copied()
            thread = threading.Thread(target=snapshot.save, args=[folder, "config: none"], kwargs={"world": apart})
            thread.start()
            told["stopped_seconds"] = time.perf_counter() - started
            thread.join()
        else:
            Snapshot.of(state).save(folder, "config: none", world=world)
    told["bytes"] = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) if world.leads else 0
    before = sums(state)
    for rows in tensors.values():
        rows.own.zero_()
    with memory.peak(told, "load"):
        load_latest(state, Path(folder), world)
    told["same"] = sums(state) == before
    everywhere = world.gathered(told)
    if world.leads:
        print(json.dumps({
            **{name: max(one[name] for one in everywhere) for name in told}, "same": all(o["same"] for o in everywhere),
        }))


def started(processes, *arguments, torchrun=True):
    """What this script prints, started anew in so many processes."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if torchrun else []
    command = [sys.executable, *launch, __file__, "worker", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure_throughput(options):
    ways = {
        "one process": (1, "ddp", False), "one by torchrun": (1, "ddp", True),
        f"{options.processes} replicas": (options.processes, "ddp", True),
        f"{options.processes} shards": (options.processes, "fsdp", True),
    }
    rates = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (processes, parallel, torchrun) in ways.items():
            told = started(processes, "throughput", options.recipe, parallel, options.seconds, torchrun=torchrun)
            rates[name].append(told["images_per_second"])
    for name, found in rates.items():
        print(f"{name:<20}{median(found):>8.1f} images/s  {' '.join(f'{rate:.1f}' for rate in found)}")
    return {"recipe": options.recipe, "images_per_second": rates}


def measure_checkpoint(options):
    rows = []
    for background in (False, True) if options.background else (False,):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            row = started(options.processes, "checkpoint", options.millions, folder, int(background))
        rows.append(row | {"background": background})
        print(
            f"{row['parameters'] / 1e6:,.0f} M parameters, {row['bytes'] / 1e9:.1f} GB; a process's share "
            f"{row['share'] / MIB:,.0f} MiB; save {row['save_seconds']:.1f} s, peak {row['save_peak'] / MIB:,.0f} MiB; "
            f"load {row['load_seconds']:.1f} s, peak {row['load_peak'] / MIB:,.0f} MiB; same: {row['same']}"
            + (f"; training stops for {row['stopped_seconds']:.2f} s" if background else "")
        )
    return rows


def processor():
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    names = [line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return f"{len(names)} cores of {names[0]}, {torch.backends.cpu.get_cpu_capability()}"


def main():
    if sys.argv[1:2] == ["worker"]:
        _, _, kind, *rest = sys.argv
        if kind == "throughput":
            throughput(rest[0], rest[1], float(rest[2]))
        else:
            checkpoint(float(rest[0]), Path(rest[1]), rest[2] == "1")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["throughput", "checkpoint"])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--recipe", default="emoji-32")
    parser.add_argument("--millions", type=float, default=1000)
    parser.add_argument("--background", action="store_true", help="save in the background, too; takes a copy's memory")
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; by default a temporary folder")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    told = {"machine": processor(), "python": platform.python_version(), "torch": torch.__version__}
    print(told["machine"])
    for what in options.what:
        told[what] = (measure_throughput if what == "throughput" else measure_checkpoint)(options)
    if options.out is not None:
        options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
