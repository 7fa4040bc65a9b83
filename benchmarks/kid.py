"""KID-EffNet of a run's samples against all the images it was trained on, at its resolution.

    python benchmarks/kid.py runs/emoji-32 -n 500 --seeds 3

Prints one JSON object: a value and its standard error for each sampling seed. Needs the extra `eval`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import snrise
from snrise import experiment
from snrise.config import RunConfig
from snrise.metrics import efficientnet_lite0, kernel_distance


def reference(config: RunConfig, cache: Path) -> torch.Tensor:
    """Features of every image of the data set, computed once for a resolution and fingerprint."""
    data = experiment.dataset(config)
    name = f"{data.source.fingerprint()[:16]}-{config.data.resolution[0]}x{config.data.resolution[1]}.safetensors"
    file = cache / name
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        save_file({"features": efficientnet_lite0(data.images(range(len(data))))}, file)
    return load_file(file)["features"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=1, help="how many sampling seeds")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--eta", type=float)
    parser.add_argument("--gamma", type=float, default=0.0)
    parser.add_argument("--cache", type=Path, default=Path("runs/features"))
    options = parser.parse_args()

    trained = snrise.load(options.run)
    if options.eta is not None:
        settings = f"sampling.sampler={{kind: ancestral, eta: {options.eta}, gamma: {options.gamma}}}"
        trained = trained.with_sampling([settings])
    real = reference(trained.config, options.cache)
    found = []
    for seed in range(options.seeds):
        started = time.perf_counter()
        images = trained.sample(options.n, seed=seed, guidance=options.guidance, steps=options.steps, batch=100)
        distance = kernel_distance(efficientnet_lite0(images), real)
        seconds = time.perf_counter() - started
        found.append({"seed": seed, "kid_effnet": distance.value, "error": distance.standard_error, "seconds": seconds})
    print(json.dumps({"run": str(options.run), "images_seen": trained.images_seen, "n": options.n, "found": found}))


if __name__ == "__main__":
    main()
