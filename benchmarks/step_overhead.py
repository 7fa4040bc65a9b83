"""What a training step costs beside its network and optimizer: noise, schedule, weight, multi-scale loss, clip, EMA.

    python benchmarks/step_overhead.py --side 128 --batch 32

Each part is timed by itself, many times in turn with whole steps of the networks of `train_step.py`: the loss and its
gradient with a network that multiplies by one number in place of the network, the clip on the gradients of a real step
and the EMA on all its weights. Told are medians, and their sum as a share of the median step.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from train_step import HERE, OURS, stepping

from snrise.cpu import keep_freed_memory
from snrise.networks import build
from snrise.training import TrainState


class Number(nn.Module):
    """A network that costs nothing: the image times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None) -> Tensor:
        return z * self.number


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    keep_freed_memory()
    print(f"| network, {options.side} px, batch {options.batch} | step | noise and loss | clip | EMA | together |")
    print("|---|---|---|---|---|---|")
    factors = tuple(options.factors)
    for name, config in OURS.items():
        network = build(config(options.side))
        state, step = stepping(network, options.side, options.batch, HERE, factors=factors)
        _, small = stepping(Number(), options.side, options.batch, HERE, factors=factors)
        parameters = list(network.parameters())
        gradients = [torch.randn_like(p) * 1e-3 for p in parameters]

        def clip(parameters: list[nn.Parameter] = parameters, gradients: list[Tensor] = gradients) -> None:
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))
            for p in parameters:
                p.grad = None

        def average(state: TrainState = state) -> None:
            state.ema.update(state.network, 10**6, options.batch)

        parts = {"step": step, "loss": small, "clip": clip, "ema": average}
        found: dict[str, list[float]] = {part: [] for part in parts}
        for i, (part, function) in itertools.product(range(options.rounds + 1), parts.items()):
            spent = seconds(function)
            if i:
                found[part].append(spent)
        step_s, *others = (median(times) for times in found.values())
        cells = " | ".join(f"{1e3 * t:.1f} ms" for t in others)
        print(f"| {name} | {1e3 * step_s:.0f} ms | {cells} | {sum(others) / step_s:.1%} |", flush=True)


if __name__ == "__main__":
    main()
