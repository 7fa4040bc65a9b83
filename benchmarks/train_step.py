"""Speed of a whole training step beside the peers', and as a share of the machine's matrix-product peak.

    python benchmarks/train_step.py --sides 64 128 256 --precisions bf16 fp32 --rounds 5 --out docs/results
    python benchmarks/train_step.py --sides 64 --batch 32 --isa avx2
    python benchmarks/train_step.py --sides 64 128 256 512 1024 --batch 4 --cases 'snrise nest' 'snrise U-ViT'

A step is: images in memory, noise, forward, loss, backward, clip, AdamW, EMA. The networks have equal parameters,
within a tenth. Cases take turns, round after round, each between two measurements of the peak (the best of a few
square matrix products), because a shared machine's speed drifts; told are the medians over rounds of images/s and of
the share. FLOPs are counted by PyTorch's FlopCounterMode over the step itself. Needs the extra `bench`.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import torch
from isa import ISAS, held_back
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from snrise.cpu import keep_freed_memory
from snrise.data import Batch, Blank
from snrise.experiment import Experiment
from snrise.nest import Link
from snrise.networks import Kind, Level, Nested, NestedConfig, NetworkConfig, Skip, UNetConfig, UViTConfig, build
from snrise.precision import resolved
from snrise.process import Prediction, Target
from snrise.training import Precision, TrainState, train

CPU = torch.device("cpu")
#: What `auto` is on this processor.
HERE = resolved(CPU, Precision.AUTO).value


@dataclass
class Case:
    """A named step on images of a side: how fast it was, round by round."""

    name: str
    side: int
    precision: str
    mode: str
    batch: int
    parameters: int
    step: Callable[[], None]
    flops: int = 0
    rates: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def row(self) -> dict[str, object]:
        rate = median(self.rates)
        return {
            "case": self.name, "side": self.side, "precision": self.precision, "mode": self.mode, "batch": self.batch,
            "parameters": self.parameters, "gflop_per_image": self.flops / self.batch / 1e9,
            "images_per_second": rate, "gflops": rate * self.flops / self.batch / 1e9,
            "share_of_peak": median(self.shares), "shares": [min(self.shares), max(self.shares)],
            "rounds": len(self.rates),
        }


def uvit(side: int) -> NetworkConfig:
    """Transformer-heavy: 512 wide at 8×8, convolutions at 32×32 and 16×16; 32 M parameters."""
    return UViTConfig(
        levels=(Level(channels=64, blocks=1), Level(channels=256, blocks=1),
                Level(channels=512, blocks=8, kind=Kind.TRANSFORMER, head=64)),
        stem=side // 32, skip=Skip.RESIDUAL, embedding=256,
    )


def unet(side: int) -> NetworkConfig:
    """Convolutions only, 64 to 448 wide from 32×32 to 4×4; 32 M parameters."""
    levels = tuple(Level(channels=c, blocks=n) for c, n in ((64, 2), (128, 2), (256, 2), (448, 1)))
    return UNetConfig(levels=levels, middle=1, stem=side // 32, embedding=256)


def nest(side: int) -> NetworkConfig:
    """The U-ViT for 64 px, and a frozen nest around it for each octave above; the outermost trains on 64×64 px."""
    network = uvit(64)
    for octave in range((side // 64).bit_length() - 1):
        outermost = 128 << octave == side
        network = NestedConfig(
            inner=network, level=Level(channels=64, blocks=3, kind=Kind.LOCAL), variances=(0.01, 0.01, 0.002),
            crop=64 if outermost else None,
        )
    return network


OURS = {"snrise U-ViT": uvit, "snrise U-Net": unet}
#: Which are measured when asked for: most of one is frozen.
NESTS = {"snrise nest": nest}


def batches(side: int, batch: int, device: torch.device) -> Iterator[Batch]:
    """The same images again and again, in the device's memory."""
    images = torch.rand(batch, 3, side, side, device=device) * 2 - 1
    position = 0
    while True:
        yield Batch(images=images, labels=None, indices=list(range(batch)), position=position)
        position += batch


def ours(
    config: NetworkConfig, side: int, batch: int, precision: str, compiled: bool, device: torch.device = CPU
) -> tuple[Callable[[], None], int]:
    network = build(config).to(device)
    for module in network.modules():
        if isinstance(module, Nested):
            module.link = Link(Target(Prediction.V))
    if compiled:
        network.compile()
    _, step = stepping(network, side, batch, precision, device)
    return step, sum(p.numel() for p in network.parameters())


def stepping(
    network: nn.Module, side: int, batch: int, precision: str, device: torch.device = CPU,
    factors: tuple[int, ...] = (1,),
) -> tuple[TrainState, Callable[[], None]]:
    """A state that trains the network, and a step of it."""
    how = Experiment(
        data=Blank((side, side)), network=network, images=10**12, learning_rate=1e-4, warmup=0, decay=0.0,
        precision=Precision(precision), factors=factors,
    )
    state = TrainState.of(how)
    steps = train(state, batches(side, batch, device), how)
    return state, lambda: next(steps)


def peer(
    network: nn.Module, loss: Callable[[torch.Tensor], torch.Tensor], side: int, batch: int, precision: str,
    device: torch.device,
) -> tuple[Callable[[], None], int]:
    """A peer's network and loss in the plainest good loop: fused AdamW, clip, foreach EMA."""
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)
    ema = [p.detach().clone() for p in parameters]
    images = next(batches(side, batch, device)).images

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(images)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(ema, parameters, 1e-3)

    return step, sum(p.numel() for p in parameters)


def lucidrains(
    side: int, batch: int, precision: str, compiled: bool, device: torch.device = CPU
) -> tuple[Callable[[], None], int]:
    from denoising_diffusion_pytorch.simple_diffusion import GaussianDiffusion, UViT

    network = UViT(64, dim_mults=(1, 2, 4, 8), vit_depth=6, patch_size=side // 64)
    model = GaussianDiffusion(network, image_size=side).to(device)
    if compiled:
        network.compile()
    return peer(network, lambda images: model(images / 2 + 0.5), side, batch, precision, device)


def diffusers(
    side: int, batch: int, precision: str, compiled: bool, device: torch.device = CPU
) -> tuple[Callable[[], None], int]:
    from diffusers import DDPMScheduler, UNet2DModel

    down = ("DownBlock2D",) * 4 + ("AttnDownBlock2D",)
    up = ("AttnUpBlock2D",) + ("UpBlock2D",) * 4
    network = UNet2DModel(
        sample_size=side, layers_per_block=1, block_out_channels=(64, 64, 128, 256, 416), down_block_types=down,
        up_block_types=up,
    ).to(device)
    scheduler = DDPMScheduler()
    if compiled:
        network.compile()

    def loss(images: torch.Tensor) -> torch.Tensor:
        eps, t = torch.randn_like(images), torch.randint(0, 1000, (len(images),), device=device)
        return nn.functional.mse_loss(network(scheduler.add_noise(images, eps, t), t).sample.float(), eps)

    return peer(network, loss, side, batch, precision, device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate_of(step: Callable[[], object], seconds: float, device: torch.device, least: int = 1) -> float:
    """Steps a second, over about so many seconds; the device is idle before and after."""
    synchronize(device)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or count < least:
        step()
        count += 1
    synchronize(device)
    return count / (time.perf_counter() - started)


def peak(
    precision: str, seconds: float = 0.4, device: torch.device = CPU, sizes: tuple[int, ...] | None = None
) -> float:
    """FLOP/s of a matrix product, the best of some sizes.

    On a CPU also as a 1×1 convolution: in fp32 PyTorch leaves `@` to another library than convolutions, and on an AMD
    processor that is the slower one.
    """
    best = 0.0
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for n in sizes or ((1024, 2048, 4096) if device.type == "cpu" else (4096, 8192)):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        many = 1 if device.type == "cpu" else 10
        for product in (torch.matmul, convolved) if device.type == "cpu" else (torch.matmul,):
            again = partial(products, product, a, b, many)
            again()
            best = max(best, 2 * n**3 * many * rate_of(again, seconds, device))
    return best


def convolved(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a bᵀ as a convolution of one image whose pixels are the rows of a."""
    image = a.t().reshape(1, a.shape[1], -1, 32).contiguous(memory_format=torch.channels_last)
    return nn.functional.conv2d(image, b[:, :, None, None])


def products(product: Callable[..., torch.Tensor], a: torch.Tensor, b: torch.Tensor, count: int) -> None:
    for _ in range(count):
        product(a, b)
    synchronize(a.device)


def cases(options: argparse.Namespace, side: int, precision: str) -> list[Case]:
    made = []
    for mode in options.modes:
        compiled = mode == "compiled"
        for name in options.cases:
            torch.manual_seed(0)
            if name in OURS | NESTS:
                step, parameters = ours((OURS | NESTS)[name](side), side, options.batch, precision, compiled)
            else:
                step, parameters = PEERS[name](side, options.batch, precision, compiled)
            made.append(Case(name, side, precision, mode, options.batch, parameters, step))
    return made


PEERS = {"lucidrains UViT": lucidrains, "diffusers UNet2DModel": diffusers}


def measure(
    case: Case, seconds: float, device: torch.device = CPU, peak_seconds: float = 0.4,
    sizes: tuple[int, ...] | None = None,
) -> None:
    """One round: the peak, steps for some seconds, the peak."""
    before = peak(case.precision, peak_seconds, device, sizes)
    rate = case.batch * rate_of(case.step, seconds, device, least=2)
    case.rates.append(rate)
    after = peak(case.precision, peak_seconds, device, sizes)
    case.shares.append(rate * case.flops / case.batch / (0.5 * (before + after)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--precisions", nargs="+", choices=["bf16", "fp32"], help="what `auto` is here")
    parser.add_argument("--modes", nargs="+", default=["eager"], choices=["eager", "compiled"])
    parser.add_argument("--cases", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS, *NESTS])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--isa", choices=list(ISAS), help="as on a processor that has no more than these instructions")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    held_back(options.isa)
    if options.precisions is None:
        options.precisions = [HERE]
    keep_freed_memory()
    rows = []
    print("| side | precision | mode | network | M parameters | GFLOP/image | images/s | GFLOP/s | share of peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    for precision in options.precisions:
        for side in options.sides:
            made = cases(options, side, precision)
            for case in made:
                case.step()  # compiles, fills caches
                with FlopCounterMode(display=False) as counter:
                    case.step()
                case.flops = counter.get_total_flops()
            eager = {case.name: case.flops for case in made if case.mode == "eager"}
            for case in made:
                case.flops = eager.get(case.name, case.flops)
            for _ in range(options.rounds):
                for case in made:
                    measure(case, options.seconds)
            for case in made:
                row = case.row()
                rows.append(row)
                print(
                    f"| {side} | {precision} | {case.mode} | {case.name} | {case.parameters / 1e6:.1f} | "
                    f"{row['gflop_per_image']:.1f} | {row['images_per_second']:.2f} | {row['gflops']:.0f} | "
                    f"{row['share_of_peak']:.0%} ({row['shares'][0]:.0%}-{row['shares'][1]:.0%}) |", flush=True,
                )
            made.clear()
            gc.collect()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        document = {
            "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability(), "isa": options.isa,
            "rows": rows,
        }
        (options.out / "train_step.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
