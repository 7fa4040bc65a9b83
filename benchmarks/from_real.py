"""Which part of a model is weak: real images, noised to some λ and sampled down from there, judged as samples.

    python benchmarks/from_real.py emoji-64 --logsnr 5 2 -1 -n 100

What is above that λ is the data's own; the distance that is left is what the steps below add. With halves exchanged,
the coarse half (pooled by 2) of the one with the details of the other, it says which of the two adds it.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import snrise
from snrise.cpu import keep_freed_memory
from snrise.data import Dataset, to_float, to_uint8
from snrise.denoisers import clipped, from_network
from snrise.evaluation import Reference, judge
from snrise.metrics import FEATURES
from snrise.networks.base import evaluating
from snrise.networks.haar import haar, unhaar
from snrise.process import diffuse
from snrise.samplers import generators, last
from snrise.trained import Trained

BATCH = 50
#: Where the last step begins.
CLEAN = 10.0


def sampled_down(
    trained: Trained, data: Dataset, chosen: list[int], logsnr: float, steps: int
) -> Iterator[Tensor]:
    """Images of the data noised to λ and denoised by the run's sampler in equal steps of λ, without guidance."""
    config, target = trained.config, trained.generation().target
    clean = torch.full((1,), CLEAN + 4, dtype=torch.float64)
    grid = torch.cat([torch.linspace(logsnr, CLEAN, steps, dtype=torch.float64), clean])
    for first in range(0, len(chosen), BATCH):
        part = chosen[first : first + BATCH]
        x, own = to_float(data.images(part)), generators(0, first, len(part))
        eps = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in own])
        z = diffuse(x, eps, torch.full((len(part),), logsnr), target.process)
        labels = None if data.labels is None else data.labels[part]
        denoise = clipped(from_network(trained.network, target, labels))
        yield last(config.sampling.sampler(denoise, z, grid, own))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--logsnr", type=float, nargs="+", default=[5.0, 2.0])
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_freed_memory()
    trained = snrise.load(options.run)
    data = trained.with_sampling(["sampling.upsample=1"]).data()
    reference = Reference.of(data, FEATURES["efficientnet-lite0"])
    chosen = [i * len(data) // options.n for i in range(options.n)]
    real, rows = haar(to_float(data.images(chosen))), []
    for logsnr in options.logsnr:
        with evaluating(trained.network):
            made = haar(torch.cat(list(sampled_down(trained, data, chosen, logsnr, options.steps))))
        halves = {"both": made, "its coarse half": (made[0], real[1]), "its details": (real[0], made[1])}
        for name, pair in halves.items():
            found = judge([to_uint8(unhaar(*pair))], reference)
            rows.append({"logsnr": logsnr, "sampled": name} | found.as_json())
            kernel = f"{found[reference.extractor.kernel_name]:.4f}"
            power = " ".join(f"{d:+.2f}" for d in found.spectrum.decibels.tolist())
            print(f"from λ = {logsnr:g}, {name}: {reference.extractor.kernel_name} {kernel}, dB {power}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
