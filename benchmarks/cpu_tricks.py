"""What each trick of `snrise.cpu` gains against plain PyTorch: forward and backward, at the shapes of `emoji-32`.

    python benchmarks/cpu_tricks.py --rounds 15
    python benchmarks/cpu_tricks.py --rounds 15 --isa avx2

The two ways take turns; the table shows medians in milliseconds, and the quartiles of their ratio. bfloat16 is measured
where the processor multiplies it natively. Shapes are those of the attention level of `emoji-32` at 8×8 cells (256
channels, heads of 32, batch 32), for products those of a transformer block there. AdamW steps all weights of the
recipe's network. For `keep_freed_memory`, training steps of that network run in two processes, which take turns too.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from isa import ISAS, held_back
from torch import Tensor, nn
from torch.nn import functional as F
from train_step import HERE, stepping

from snrise import cpu
from snrise.documents import load
from snrise.networks import build
from snrise.networks.attention import axial_angles, qk_norm_rotary_gelu

BATCH, SIDE, CHANNELS, HEAD, CLASSES = 32, 8, 256, 32, 97
TOKENS, HEADS = SIDE**2, CHANNELS // HEAD
#: Training steps of a round of each process, and those that it takes first.
STEPS, WARM = 3, 3

Way = Callable[[], object]


def both_ways(compute: Callable[[], Tensor], inputs: list[Tensor]) -> Way:
    """A forward and a backward pass."""
    toward = torch.randn_like(compute())
    return lambda: torch.autograd.grad(compute(), inputs, toward)


def token_linear(dtype: torch.dtype) -> tuple[Way, Way]:
    h = torch.randn(BATCH, TOKENS, CHANNELS, dtype=dtype, requires_grad=True)
    layer = cpu.TokenLinear(CHANNELS, 7 * CHANNELS).to(dtype)
    inputs = [h, *layer.parameters()]
    return (both_ways(lambda: nn.Linear.forward(layer, h), inputs), both_ways(lambda: layer(h), inputs))


def attend(dtype: torch.dtype) -> tuple[Way, Way]:
    q, k, v = (torch.randn(BATCH, HEADS, TOKENS, HEAD, dtype=dtype, requires_grad=True) for _ in range(3))
    plain = both_ways(lambda: F.scaled_dot_product_attention(q, k, v), [q, k, v])
    return plain, both_ways(lambda: cpu.attend(q, k, v), [q, k, v])


def split(dtype: torch.dtype) -> tuple[Way, Way]:
    p = torch.randn(BATCH, TOKENS, 7 * CHANNELS, dtype=dtype, requires_grad=True)
    scales = torch.ones(2, HEAD, requires_grad=True)
    cos, sin = axial_angles(SIDE, SIDE, HEAD, torch.device("cpu"))

    def joined(way: Callable[..., tuple[Tensor, ...]]) -> Callable[[], Tensor]:
        return lambda: torch.cat([part.flatten() for part in way(p, scales, cos, sin, HEADS)])

    return tuple(both_ways(joined(way), [p, scales]) for way in (qk_norm_rotary_gelu, cpu.QkNormRotaryGelu.apply))


def adamw(dtype: torch.dtype) -> tuple[Way, Way]:
    ways = []
    for kind in (torch.optim.AdamW, cpu.FusedAdamW):
        network = build(load("emoji-32").network, CLASSES)
        for p in network.parameters():
            p.grad = torch.randn_like(p) * 1e-3
        ways.append(kind(network.parameters(), lr=1e-3, fused=True).step)
    return tuple(ways)


#: Each trick, and the dtypes that it is for.
TRICKS: dict[str, tuple[Callable[[torch.dtype], tuple[Way, Way]], tuple[torch.dtype, ...]]] = {
    "TokenLinear": (token_linear, (torch.float32,)),
    "attend": (attend, (torch.float32, torch.bfloat16)),
    "QkNormRotaryGelu": (split, (torch.float32, torch.bfloat16)),
    "FusedAdamW": (adamw, (torch.float32,)),
}


def milliseconds(way: Way) -> float:
    started = time.perf_counter()
    way()
    return 1e3 * (time.perf_counter() - started)


def report(name: str, rounds: list[tuple[float, float]]) -> None:
    plain, ours = (median(times) for times in zip(*rounds, strict=True))
    low, _, high = quantiles([b / a for a, b in rounds])
    print(f"| {name} | {plain:.2f} | {ours:.2f} | {ours / plain:.2f} ({low:.2f} to {high:.2f}) |", flush=True)


class Steps:
    """A process that takes training steps when it is asked to, keeping freed memory or not."""

    def __init__(self, keep: bool) -> None:
        command = [sys.executable, __file__, "--serve", str(int(keep))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


def serve(keep: bool) -> None:
    if keep:
        cpu.keep_freed_memory()
    _, step = stepping(build(load("emoji-32").network), 32, BATCH, HERE)
    for _ in sys.stdin:
        for _ in range(STEPS):
            step()
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--isa", choices=list(ISAS))
    parser.add_argument("--serve", type=int, choices=[0, 1], help=argparse.SUPPRESS)
    options = parser.parse_args()
    held_back(options.isa)
    if options.serve is not None:
        serve(bool(options.serve))
        return
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}\n")
    print("| trick | plain, ms | here, ms | ratio |\n|---|---|---|---|")
    # Before this process keeps freed memory, as runs do: its children decide for themselves.
    servers = Steps(keep=False), Steps(keep=True)
    for server in servers:
        for _ in range(WARM):
            server()
    report(f"keep_freed_memory, {STEPS} steps", [tuple(map(milliseconds, servers)) for _ in range(options.rounds)])
    for server in servers:
        server.process.communicate()
    cpu.keep_freed_memory()
    for name, (make, dtypes) in TRICKS.items():
        for dtype in dtypes if HERE == "bf16" else [torch.float32]:
            ways = make(dtype)
            for way in (*ways, *ways):
                way()
            report(f"{name}, {str(dtype).removeprefix('torch.')}",
                   [tuple(map(milliseconds, ways)) for _ in range(options.rounds)])


if __name__ == "__main__":
    main()
