"""What a peer reaches on the built-in emoji in the same time: lucidrains' simple-diffusion UViT.

    python benchmarks/peer_uvit.py --minutes 7 --out runs/peer-uvit
    python benchmarks/peer_uvit.py --minutes 1 -n 0 --isa avx2

Settings: dim 32, mults 1, 2, 4, vit_depth 2, v-prediction; Adam at 1e-3 falling to 0 as a cosine over the time, bf16
autocast where the processor has it, batches of 32, its own EMA left out in favour of the same average that snrise uses.
Prints images a second and KID-EffNet of `-n` samples against all images, as `kid.py` does, and writes a grid; with
`-n 0` neither. Needs the extra `bench`.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from denoising_diffusion_pytorch.simple_diffusion import GaussianDiffusion, UViT
from isa import ISAS, held_back
from kid import reference

from snrise import documents, experiment
from snrise.metrics import efficientnet_lite0, kernel_distance
from snrise.plots import sample_grid
from snrise.precision import resolved
from snrise.training import Ema, Precision, autocast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs/peer-uvit"))
    parser.add_argument("--cache", type=Path, default=Path("runs/features"))
    parser.add_argument("--isa", choices=list(ISAS))
    options = parser.parse_args()
    held_back(options.isa)
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    config = documents.load("emoji-32")
    data = experiment.dataset(config)
    network = UViT(32, dim_mults=(1, 2, 4), vit_depth=2, downsample_factor=2)
    model = GaussianDiffusion(network, image_size=32, num_sample_steps=options.steps)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.rate, betas=(0.9, 0.99))
    ema = Ema(network, half_life=5000)
    seen, started, end = 0, time.perf_counter(), options.minutes * 60
    data.images(range(len(data)))
    for batch in data.batches(32, seed=0):
        elapsed = time.perf_counter() - started
        if elapsed >= end:
            break
        for group in optimizer.param_groups:
            group["lr"] = options.rate * (0.5 + 0.5 * math.cos(math.pi * elapsed / end))
        with autocast(cpu, Precision.AUTO):
            loss = model(batch.images / 255)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += 32
        ema.update(network, seen, 32)
    told = {
        "peer": "denoising_diffusion_pytorch.simple_diffusion.UViT", "minutes": options.minutes, "images_seen": seen,
        "images_per_second": seen / (time.perf_counter() - started), "precision": resolved(cpu, Precision.AUTO).value,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    if not options.n:
        print(json.dumps(told))
        return
    for name, p in network.named_parameters():
        p.data.copy_(ema.parameters[name])
    with torch.no_grad(), autocast(cpu, Precision.AUTO):
        network.eval()
        sampled = torch.cat([model.sample(batch_size=100).float() for _ in range(options.n // 100)])
    images = (sampled.clamp(0, 1) * 255).round().to(torch.uint8)
    options.out.mkdir(parents=True, exist_ok=True)
    sample_grid(images[:64]).save(options.out / "samples.png")
    distance = kernel_distance(efficientnet_lite0(images), reference(config, options.cache))
    print(json.dumps(told | {"n": len(images), "kid_effnet": distance.value, "error": distance.standard_error}))


if __name__ == "__main__":
    main()
