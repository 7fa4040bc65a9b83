"""Small comparisons of networks on the emoji, each with several seeds, by the held-out ε-loss at five noise levels.

    python benchmarks/experiments.py blocks dropout stems families predictions --seeds 2 --images 12800

Every tenth emoji is held out. Each variant of a group is trained on as many images, with Muon as in the recipe
emoji-32, and judged with its averaged weights at λ = −6, −3, 0, 3, 6 on the same held-out images and noise; a lower
ε-loss is better. For stems the power of samples at the frequencies of the patch grid beside its neighbours is told too.
Writes one JSON file a group under `--out` and prints tables.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from snrise import documents, experiment
from snrise.config import RunConfig
from snrise.data import Batch, Dataset, to_float
from snrise.experiment import Experiment
from snrise.generation import Generation, draw_labels, generate
from snrise.metrics import grid_excess
from snrise.networks import Kind, Level, NetworkConfig, Skip, Stem, UNetConfig, UViTConfig, ViTConfig, cost
from snrise.process import Prediction, Target, diffuse
from snrise.training import TrainState, train
from snrise.weightings import VLoss

LOGSNRS = (-6.0, -3.0, 0.0, 3.0, 6.0)
HELD_OUT = 10  # every so many images


@dataclass(frozen=True)
class Variant:
    """A network and a prediction at a resolution."""

    network: NetworkConfig
    side: int = 32
    prediction: Prediction = Prediction.V


def trunk(low: int = 2, high: int = 1, dropout: tuple[float, float] = (0.0, 0.0), **other: object) -> UViTConfig:
    """16×16 cells 64 wide, 8×8 cells 128 wide; a block costs as much at either. Its upper blocks stand there twice."""
    levels = (Level(channels=64, blocks=high, dropout=dropout[0]), Level(channels=128, blocks=low, dropout=dropout[1]))
    return UViTConfig(**{"levels": levels, "stem": 2, "embedding": 128} | other)  # type: ignore[arg-type]


def vit(patch: int) -> ViTConfig:
    return ViTConfig(width=192, depth=6, patch=patch, head=32, bottleneck=96, class_tokens=0)


GROUPS: dict[str, dict[str, Variant]] = {
    "blocks": {
        "6 blocks at 8×8, 2 at 16×16": Variant(trunk(low=6, high=1)),
        "2 blocks at 8×8, 6 at 16×16": Variant(trunk(low=2, high=3)),
    },
    "dropout": {
        "none": Variant(trunk(low=3)), "0.1 at 8×8": Variant(trunk(low=3, dropout=(0.0, 0.1))),
        "0.1 everywhere": Variant(trunk(low=3, dropout=(0.1, 0.1))),
    },
    "stems": {f"{kind.value}, 4×": Variant(trunk(low=3, stem=4, stem_kind=kind), side=64) for kind in Stem},
    "families": {
        "U-Net": Variant(UNetConfig(
            levels=(Level(channels=64, blocks=1), Level(channels=128, blocks=1)), middle=1, stem=2, embedding=128)),
        "U-ViT, convolutions": Variant(trunk(low=7)),
        "U-ViT, transformer below": Variant(trunk(low=0, levels=(
            Level(channels=64, blocks=1), Level(channels=192, blocks=5, kind=Kind.TRANSFORMER)))),
        "residual U-ViT, convolutions": Variant(trunk(low=7, skip=Skip.RESIDUAL)),
        "ViT, 4×4 patches, v": Variant(vit(4)),
        "ViT, 4×4 patches, x": Variant(vit(4), prediction=Prediction.X),
    },
    "predictions": {
        f"{p.value}, {patch}×{patch} patches": Variant(vit(patch), prediction=p)
        for patch in (4, 16) for p in (Prediction.EPS, Prediction.V, Prediction.X, Prediction.U)
    },
}


def config(variant: Variant, seed: int, images: int) -> RunConfig:
    base = documents.load("emoji-32", [f"seed={seed}", f"training.images={images}", "training.ema_half_life=1000"])
    return replace(
        base, network=variant.network, data=replace(base.data, resolution=(variant.side, variant.side)),
        loss=replace(base.loss, prediction=variant.prediction, weighting=VLoss()),
    )


def batches(data: Dataset, kept: list[int], batch: int, seed: int) -> Iterator[Batch]:
    """Batches of the images that are not held out, in an order of their own for each seed."""
    assert data.labels is not None
    generator, position = torch.Generator().manual_seed(seed), 0
    epochs = (torch.randperm(len(kept), generator=generator).tolist() for _ in itertools.count())
    stream = itertools.chain.from_iterable(epochs)
    while True:
        indices = [kept[i] for i in itertools.islice(stream, batch)]
        yield Batch(to_float(data.images(indices)), data.labels[indices], indices, position)
        position += batch


@torch.no_grad()
def held_out_losses(state: TrainState, target: Target, x: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """The ε-loss at each λ, of the averaged weights."""
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    losses = []
    network = state.ema.averaged(state.network).eval()
    for value in LOGSNRS:
        logsnr = torch.full((len(x),), value)
        error = network(diffuse(x, eps, logsnr, target.process), logsnr, labels) - target(x, eps, logsnr)
        losses.append(float((target.gain(logsnr)[:, None, None, None] * error).square().mean()))
    return losses


def run(variant: Variant, seed: int, images: int, samples: int) -> dict[str, object]:
    settings = config(variant, seed, images)
    data = experiment.dataset(settings)
    assert data.labels is not None
    held = list(range(0, len(data), HELD_OUT))
    kept = [i for i in range(len(data)) if i % HELD_OUT]
    how = Experiment.of(settings, data=data)
    state = TrainState.of(how)
    stream = batches(data, kept, settings.training.batch, seed)
    for _ in train(state, stream, how, images=images):
        pass
    target = Target(variant.prediction)
    found: dict[str, object] = {"seed": seed, "eps_loss": held_out_losses(
        state, target, to_float(data.images(held)), data.labels[held])}
    if samples:
        factor = getattr(variant.network, "stem", None) or getattr(variant.network, "patch", 1)
        labels = draw_labels(data.frequencies or (), samples, seed)
        network = state.ema.averaged(state.network)
        way = replace(settings, sampling=replace(settings.sampling, steps=25, guidance=1.0))
        drawn = torch.cat(list(generate(Generation.of(way, network), labels, samples, seed=seed)))
        found["grid_power"], found["grid_power_of_data"] = (
            grid_excess(im, factor) for im in (drawn, data.images(kept[:500])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--samples", type=int, default=128, help="samples for the power at the patch grid; 0 for none")
    parser.add_argument("--only", default="", metavar="TEXT", help="variants with this in their names; others stay")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    for group in options.groups:
        file = options.out / f"experiments-{group}.json"
        results = json.loads(file.read_text(encoding="utf-8"))["variants"] if options.only and file.exists() else {}
        print(f"\n| {group}, n = {options.seeds} | MMACs | " + " | ".join(f"λ = {v:g}" for v in LOGSNRS) + " | mean |")
        print("|" + "---|" * (3 + len(LOGSNRS)))
        for name, variant in ((n, v) for n, v in GROUPS[group].items() if options.only in n):
            samples = options.samples if group == "stems" else 0
            runs = [run(variant, seed, options.images, samples) for seed in range(options.seeds)]
            network = experiment.network(config(variant, 0, 1), 97, "meta")
            macs = cost(network, (variant.side, variant.side)).macs
            results[name] = {"macs": macs, "runs": runs}
            columns = [[r["eps_loss"][i] for r in runs] for i in range(len(LOGSNRS))]  # type: ignore[index]
            columns.append([mean(r["eps_loss"]) for r in runs])  # type: ignore[arg-type]
            cells = [f"{mean(c):.4f} ± {(max(c) - min(c)) / 2:.4f}" for c in columns]
            grid = f"; grid {', '.join(format(r['grid_power'], '.2f') for r in runs)}" if samples else ""
            print(f"| {name}{grid} | {macs / 1e6:.0f} | " + " | ".join(cells) + " |", flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"images": options.images, "logsnrs": LOGSNRS, "variants": results}, indent=1)
        file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
