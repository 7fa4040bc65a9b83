"""What training does on a GPU: throughput, share of the peak, memory beside the plan, peers, and a run of a recipe.

    python benchmarks/gpu.py --out docs/results/h100
    python benchmarks/gpu.py --out runs/gpu --only training --train emoji-64 emoji-128 --minutes 5 10
    python benchmarks/gpu.py --out /tmp/gpu --reduced

A case is a preset, eager, compiled block by block (`blocks`) or as a whole (`compiled`): whole training steps of a run
without classes, bf16 autocast, AdamW, images in the device's memory; the batch is the largest power of two up to
`--most` that the planner lets have `--share` of the memory. Timed between synchronizations, each round between two
measurements of the bf16 matrix-product peak. Predicted memory is the planner's, beside what PyTorch allocated and
reserved; a copy of the weights is held, as in a step that a run logs. Parts run in processes of their own: `gpu.json`
is written after every case, a case that fails is a row that says why, and each part stops when its time is over.
Peers need the extra `bench`, and the training
needs snrise to be installed.
"""

import argparse
import gc
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gpu_cases
import gpu_training
import torch
from train_step import OURS, PEERS

from snrise.cpu import keep_freed_memory
from snrise.files import write_atomically

FIRST = ["m-256", "s-256", "l-256", "m-1024", "s-64", "s-1024", "m-64"]
OWN = [f"{size}-{side}" for size in "sm" for side in (64, 128, 256, 512, 1024)] + ["l-64", "l-256", "l-1024"]
#: A status with which a part ends whose GPU answers no more: the rest goes on in a new process.
LOST = 3


Measure = Callable[[int], dict[str, Any]]


def cases(part: str, options: argparse.Namespace) -> Iterator[tuple[str, Measure]]:
    """Names of a part's cases, the most wanted first, and what measures each with its batch halved so many times."""
    if part == "throughput":
        plans = gpu_cases.Plans(options.presets, options)
        for name, mode in wanted(options):
            yield f"throughput/{name}/{mode}", partial(preset, plans, name, mode, options)
        plans.close()
    if part == "peers":
        for mode, side in itertools.product((m for m in options.modes if m != "blocks"), options.sides):
            for name in options.peers:
                yield f"peers/{name}/{side}/{mode}", partial(peer, name, side, mode, options)
    if part == "training":
        for name, before in zip(options.train, [None, *options.train], strict=False):
            yield f"training/{name}", partial(training, name, before, options)


def wanted(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Presets and modes: those of FIRST before others, eager before compiled, the whole network at last."""
    first = [name for name in FIRST if name in options.presets]
    rest = [name for name in options.presets if name not in FIRST]
    order = [(first, "eager"), (first[:3], "blocks"), (rest, "eager"), (first[:2], "compiled"), (first[3:], "blocks"),
             (rest, "blocks"), (first[2:], "compiled"), (rest, "compiled")]
    return [(name, mode) for names, mode in order if mode in options.modes for name in names]


def preset(plans: gpu_cases.Plans, name: str, mode: str, options: argparse.Namespace, halved: int) -> dict[str, Any]:
    plan = plans(name, options.most)
    if halved:  # more was taken than the plan said
        plan = plans(name, max(1, plan["batch"] >> halved))
    return gpu_cases.of_preset(name, mode, plan, options)


def peer(name: str, side: int, mode: str, options: argparse.Namespace, halved: int) -> dict[str, Any]:
    batch = max(1, (options.peer_batch if side < 256 else options.peer_batch // 4) >> halved)
    # What is compiled cannot be counted; a step that is not, can.
    eager = {} if mode == "eager" else row_of(options.out, f"peers/{name}/{side}/eager")
    flops = eager.get("gflop_per_image")
    if mode != "eager" and flops is None:
        raise LookupError("no eager step to take the FLOPs from")
    return gpu_cases.of_peer(name, side, mode, batch, None if flops is None else flops * 1e9, options)


def training(name: str, before: str | None, options: argparse.Namespace, halved: int) -> dict[str, Any]:
    """A recipe's run, that begins with the weights of the one before it."""
    return gpu_training.trained(name, before, shared(options.minutes, options.train)[name], options)


def shared(minutes: list[float], recipes: list[str]) -> dict[str, float]:
    """The minutes of each recipe: as told, or one number in equal parts."""
    each = minutes if len(minutes) > 1 else [minutes[0] / len(recipes)] * len(recipes)
    return dict(zip(recipes, each, strict=True))


def child(part: str, options: argparse.Namespace) -> int:
    """Measure what is not yet in the document, until the time is over."""
    keep_freed_memory()
    for name in ("recompile_limit", "cache_size_limit"):
        if hasattr(torch._dynamo.config, name):  # each resolution of a block counts
            setattr(torch._dynamo.config, name, 64)
    note(options.out, about=about(options))
    for name, case in cases(part, options):
        if row_of(options.out, name):
            continue
        left = options.until - time.time()
        if left < 5:
            break
        note(options.out, running=name)
        row = attempt(case, min(left, options.limit) if part != "training" else left + 60)
        add(options.out, {"id": name, "part": part} | row)
        if "lost" in row:
            return LOST
    return 0


def attempt(case: Callable[[int], dict[str, Any]], limit: float) -> dict[str, Any]:
    """A case's row; out of memory, with half and a quarter of the batch; an error's first line else."""
    errors: list[str] = []
    started = time.perf_counter()
    for halved in range(3):
        try:
            with within(limit - (time.perf_counter() - started)):
                row = case(halved)
            return row | ({"errors": errors} if errors else {}) | {"seconds": time.perf_counter() - started}
        except ImportError as error:
            return {"error": f"not installed: {error.name or error}"}
        except Exception as error:
            errors.append(f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0][:300]}")
            again = isinstance(error, torch.cuda.OutOfMemoryError)
            lost = not again and ("CUDA error" in str(error) or type(error).__name__ == "AcceleratorError")
        finally:
            free()
        if not again:
            break
    return {"error": "; ".join(errors)} | ({"lost": True} if lost else {})


def free() -> None:
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        try:
            torch.cuda.empty_cache()
        except RuntimeError:  # a GPU that is lost says so at every call
            return


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the time is over, and again every few seconds if somebody caught it."""

    def over(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds), 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def about(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, and how PyTorch multiplies there."""
    found: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": options.where}
    found["float32_matmul_precision"] = torch.get_float32_matmul_precision()
    if options.where == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "memory_gib": properties.total_memory / 2**30, "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version(), "cudnn_tf32": torch.backends.cudnn.allow_tf32,
                  "matmul_tf32": torch.backends.cuda.matmul.allow_tf32}
    return found


def read(out: Path) -> dict[str, Any]:
    path = out / "gpu.json"
    return json.loads(path.read_text()) if path.exists() else {"rows": []}


def row_of(out: Path, name: str) -> dict[str, Any]:
    """What is known of a case; empty before it is measured."""
    return next((row for row in read(out)["rows"] if row["id"] == name), {})


def write(out: Path, document: dict[str, Any]) -> None:
    write_atomically(out / "gpu.json", (json.dumps(document, indent=1) + "\n").encode())


def note(out: Path, **values: Any) -> None:
    write(out, read(out) | values)


def add(out: Path, row: dict[str, Any]) -> None:
    document = read(out)
    document["rows"] = [*(r for r in document["rows"] if r["id"] != row["id"]), row]
    document.pop("running", None)
    write(out, document)
    print(told(row), flush=True)


def told(row: dict[str, Any]) -> str:
    """A row of the table."""
    name = f"| {row['part']} | {row['id'].split('/', 1)[1]} | "
    if "error" in row:
        return f"{name}{row['error']} |"
    if row["part"] == "training":
        return (f"{name}{row['images']:,} images in {row['training_seconds']:.0f} s, {row['images_per_second']:.0f} "
                f"images/s, loss {row['loss']:.4f}; weights {row['weights_mb']:.1f} MB |")
    memory = "".join(
        f" {row[f'{kind}_predicted_gib']:.2f} / {row[f'{kind}_gib']:.2f} ({row[f'{kind}_error']:+.1%}) |"
        if f"{kind}_gib" in row else " |" for kind in ("allocated", "reserved")
    )
    return (f"{name}{row['parameters'] / 1e6:.1f} M | {row['batch']} | {row['gflop_per_image']:.1f} | "
            f"{row['images_per_second']:.1f} | {row['gflops'] / 1e3:.2f} | {row['peak_tflops']:.2f} | "
            f"{row['share_of_peak']:.0%} |{memory}")


HEAD = """| part | case | parameters | batch | GFLOP/image | images/s | TFLOP/s | peak | share | \
allocated GiB: predicted / measured | reserved GiB |
|---|---|---|---|---|---|---|---|---|---|---|"""


def supervise(part: str, budget: float, options: argparse.Namespace) -> None:
    """Have a part measured in a process of its own, and in another one if that was lost."""
    until = time.time() + budget
    command = [sys.executable, __file__, *sys.argv[1:], "--child", part, "--until", str(until)]
    while time.time() < until - 10:
        try:
            status = subprocess.run(command, timeout=until - time.time() + 90, check=False).returncode
        except subprocess.TimeoutExpired:
            status = "no end"
        name = read(options.out).get("running")
        if name is not None:
            add(options.out, {"id": name, "part": part, "error": f"its process ended with {status}"})
        elif status != LOST:
            break


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["throughput", "peers", "training"],
                        choices=["throughput", "peers", "training"])
    parser.add_argument("--reduced", action="store_true", help="tiny networks and few steps, on the CPU")
    parser.add_argument("--modes", nargs="+", choices=["eager", "blocks", "compiled"])
    parser.add_argument("--presets", nargs="+", choices=list(gpu_cases.NETWORKS))
    parser.add_argument("--share", type=float, default=0.6, help="of the memory that a case may take")
    parser.add_argument("--most", type=int, help="images in a batch")
    parser.add_argument("--sides", type=int, nargs="+", help="of the images that peers get")
    parser.add_argument("--peers", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--peer-batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of steps in a round")
    parser.add_argument("--limit", type=float, default=100, help="seconds for a case, compiling included")
    parser.add_argument("--throughput-seconds", type=float, default=155)
    parser.add_argument("--peers-seconds", type=float, default=45)
    parser.add_argument("--train", nargs="+", metavar="RECIPE", help="each begins with the weights of the one before")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="of the training")
    parser.add_argument("--minutes", type=float, nargs="+", help="of training: of each recipe, or of all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    whole = {"modes": ["eager", "blocks", "compiled"], "presets": OWN, "most": 512, "sides": [64, 256],
             "peer_batch": 256, "rounds": 2, "seconds": 1.2, "minutes": [6.0],
             "train": ["emoji-64", "emoji-128", "emoji-256"]}
    small = {"modes": ["eager"], "presets": ["tiny-32"], "most": 4, "sides": [64], "peer_batch": 1, "rounds": 1,
             "seconds": 0.05, "train": ["emoji-32"], "minutes": [0.05]}
    for name, value in (small if options.reduced else whole).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if len(options.minutes) not in (1, len(options.train)):
        parser.error(f"--minutes: {len(options.minutes)} numbers for {len(options.train)} recipes")
    options.where = "cpu" if options.reduced else "cuda"
    return options


def main() -> None:
    options = parsed()
    if options.child:
        sys.exit(child(options.child, options))
    if options.where == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; --reduced tries everything on the CPU")
    if "training" in options.only:
        try:
            version("snrise")
        except PackageNotFoundError:
            sys.exit("a run notes the version of snrise: install it, or leave --only training out")
    budgets = {"throughput": options.throughput_seconds, "peers": options.peers_seconds,
               "training": 60 * sum(options.minutes) + 30 * len(options.train)}
    for part in options.only:
        supervise(part, budgets[part], options)
    print(f"\n{HEAD}")
    for row in read(options.out)["rows"]:
        print(told(row))
    print(json.dumps(read(options.out).get("about")))


if __name__ == "__main__":
    main()
