"""Where the time of a training step goes: by part of the network, and by operation.

    python benchmarks/step_profile.py --side 64 --batch 32

By part: clocks at the beginning and end of each part's forward and backward pass, over some steps. Beside it, its share
of the multiplications, so that what is less efficient than the whole is seen. By operation: PyTorch's profiler, each
operation's own time; those of the optimizer apart. The networks are those of `train_step.py`, eager, in the precision
that `auto` is here.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from train_step import HERE, OURS, stepping

from snrise.cpu import keep_freed_memory
from snrise.networks import build, cost
from snrise.networks.cost import outermost

#: Kinds of operations by parts of their names; the first that fits counts.
KINDS = {
    "products and convolutions": ("mm", "convolution", "linear", "matmul", "einsum"),
    "clip and EMA": ("_foreach", "linalg_vector_norm"),
    "copies: precision and layout": ("copy_", "clone", "contiguous", "_to_copy"),
    "concatenation, splitting": ("cat", "split", "chunk"),
    "GELU, SiLU": ("gelu", "silu"),
    "group norm": ("group_norm",),
    "softmax": ("softmax",),
    "noise": ("normal_", "randn", "uniform_"),
    "sums and means": ("sum", "mean", "norm"),
    "elementwise": ("mul", "add", "sub", "div", "neg", "rsqrt", "pow", "where", "lerp", "sqrt", "exp", "sigmoid"),
}


def called(network: nn.Module, parts: list[str], step: Callable[[], object]) -> dict[str, list[nn.Module]]:
    """Of each part, the outermost modules that a step calls: itself, or some within."""
    seen: set[str] = set()
    handles = [module.register_forward_pre_hook(lambda *_, name=name: seen.add(name))
               for name, module in network.named_modules()]
    step()
    for handle in handles:
        handle.remove()
    return {part: [network.get_submodule(name) for name in outermost(seen, part)] for part in parts}


def by_part(
    network: nn.Module, parts: list[str], step: Callable[[], object], steps: int
) -> tuple[dict[str, float], float]:
    """Seconds of a step within each part, forward and backward, and in all.

    The derivative of the first layer's weights is in no part: its input has none, so nothing says when it is done.
    """
    began: dict[nn.Module, float] = {}
    spent: dict[str, float] = defaultdict(float)

    def begin(module: nn.Module, *_: object) -> None:
        began[module] = time.perf_counter()

    def end(part: str, module: nn.Module, *_: object) -> None:
        spent[part] += time.perf_counter() - began[module]

    warnings.filterwarnings("ignore", "Full backward hook is firing when gradients are computed with respect to module")
    handles = []
    for part, modules in called(network, parts, step).items():
        for module in modules:
            handles += [
                module.register_forward_pre_hook(begin), module.register_forward_hook(partial(end, part)),
                module.register_full_backward_pre_hook(begin), module.register_full_backward_hook(partial(end, part)),
            ]
    step()
    spent.clear()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    whole = (time.perf_counter() - started) / steps
    for handle in handles:
        handle.remove()
    return {part: spent[part] / steps for part in parts}, whole


def by_operation(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Shares of a step's own times of operations."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step()
    spent: dict[str, float] = defaultdict(float)
    for event in found.events() or []:
        if not event.name.startswith(("ProfilerStep", "Optimizer")):
            spent[kind_of(event)] += event.self_cpu_time_total
    return {kind: value / sum(spent.values()) for kind, value in sorted(spent.items(), key=lambda one: -one[1])}


def kind_of(event: Any) -> str:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith("Optimizer.step"):
            return "AdamW"
        parent = parent.cpu_parent
    name = event.name.removeprefix("aten::")
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "the rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    shares: dict[str, dict[str, float]] = {}
    for name, config in OURS.items():
        torch.manual_seed(0)
        network = build(config(options.side))
        counted = cost(network, (options.side, options.side))
        _, step = stepping(network, options.side, options.batch, HERE)
        step()
        times, whole = by_part(network, [part.name for part in counted.parts], step, options.steps)
        print(f"\n| {name}, {options.side} px, batch {options.batch} | multiplications | time | efficiency |")
        print("|---|---|---|---|")
        for part in counted.parts:
            macs, spent = part.macs / counted.macs, times[part.name] / whole
            if spent > 0.005:
                print(f"| {part.name} | {macs:.1%} | {spent:.1%} | {macs / spent:.2f} |")
        print(f"| outside of the network | 0 % | {1 - sum(times.values()) / whole:.1%} | |", flush=True)
        shares[name] = by_operation(step, options.steps)
    print("\n| operation | " + " | ".join(shares) + " |\n|---|" + "---|" * len(shares))
    kinds = dict.fromkeys(kind for found in shares.values() for kind in found)
    for kind in kinds:
        print(f"| {kind} | " + " | ".join(f"{found.get(kind, 0):.1%}" for found in shares.values()) + " |")


if __name__ == "__main__":
    main()
