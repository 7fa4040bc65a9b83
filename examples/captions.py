"""Captions to pictures: embeddings of one's own as context, and guidance, on a toy that trains in minutes.

    python examples/captions.py --images 40000 --out runs/captions

Pictures of 16 px show a shape in a colour at a place; a caption says so: "a red disc on the left". Each word has a
fixed random vector, and the vectors of a caption's words are the context that the network attends to; any text encoder
would do. Six of the 48 captions are never trained on. At the end, what is drawn is compared with all 48 pictures that
there are: how often is the nearest the one that the caption tells of?
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import snrise
from snrise.config import Log, Sampling
from snrise.networks import Kind, Level, UViTConfig, build
from snrise.plots import sample_grid

SIDE, WIDTH = 16, 32
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 70), "blue": (50, 80, 220), "yellow": (240, 200, 40)}
SHAPES = ("square", "disc", "cross")
PLACES = {"left": (8, 4), "right": (8, 11), "top": (4, 8), "bottom": (11, 8)}


class Scene(NamedTuple):
    """What a picture shows."""

    colour: str
    shape: str
    place: str

    @property
    def caption(self) -> str:
        return f"a {self.colour} {self.shape} on the {self.place}"


SCENES = [Scene(*words) for words in itertools.product(COLOURS, SHAPES, PLACES)]
#: Every colour, shape and place is trained on, but not in these combinations.
UNSEEN = SCENES[3:45:7]
SEEN = [scene for scene in SCENES if scene not in UNSEEN]


def drawn(scene: Scene, shade: int = 255) -> Tensor:
    """uint8 [3 16 16], on a grey ground."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    dy, dx = ((t - centre).abs() for t, centre in zip((y, x), PLACES[scene.place], strict=True))
    inside = {
        "square": (dx <= 3) & (dy <= 3), "disc": dx**2 + dy**2 <= 12,
        "cross": (dx <= 3) & (dy <= 3) & ((dx == 0) | (dy == 0)),
    }[scene.shape]
    colour = torch.tensor(COLOURS[scene.colour])[:, None, None]
    return torch.where(inside, colour, shade).to(torch.uint8)


def embedded(caption: str) -> Tensor:
    """A vector for each word: [7, 32]. Here a random one for each; of a text encoder, what it says of the caption."""
    seeds = [int.from_bytes(word.encode()[:6], "little") for word in caption.split()]
    return torch.stack([torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Captioned:
    """A map-style data set: (picture, no label, context), on grounds from grey to white."""

    shades = 16

    def __len__(self) -> int:
        return self.shades * len(SEEN)

    def __getitem__(self, index: int) -> tuple[Tensor, None, Tensor]:
        scene = SEEN[index % len(SEEN)]
        return drawn(scene, 255 - 4 * (index // len(SEEN))), None, embedded(scene.caption)


def network() -> torch.nn.Module:
    """A U-ViT that attends to context vectors where it has 4×4 cells."""
    levels = (Level(channels=48, blocks=1), Level(channels=96, blocks=2, kind=Kind.TRANSFORMER))
    return build(UViTConfig(levels=levels, stem=2, context=WIDTH, embedding=128))


def right(model: snrise.Trained, scenes: list[Scene], each: int, guidance: float) -> tuple[float, Tensor]:
    """The share of pictures whose nearest of all is that of the caption; and some of them."""
    told = [scene for scene in scenes for _ in range(each)]
    context = torch.stack([embedded(scene.caption) for scene in told])
    images = model.sample(len(told), context=context, guidance=guidance)
    everything = torch.stack([drawn(scene) for scene in SCENES]).double().flatten(1)
    nearest = torch.cdist(images.double().flatten(1), everything).argmin(dim=1)
    wanted = torch.tensor([SCENES.index(scene) for scene in told])
    return (nearest == wanted).double().mean().item(), images[::each]


def main() -> None:
    """Train, then judge with three strengths of guidance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--each", type=int, default=4, help="pictures of each caption that are judged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/captions"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    experiment = snrise.Experiment(
        data=Captioned(), network=network(), images=options.images, batch=32, learning_rate=2e-3, warmup=1000,
        ema_half_life=1000, class_dropout=0.1, optimizer="muon", sampling=Sampling(steps=24), seed=options.seed,
        log=Log(every=3200, samples=10**9, checkpoint=16_000, grid=16),
    )
    with snrise.Run(experiment, options.out) as run:
        for report in run:
            if report.step % 100 == 0:
                print(f"{report.images_seen:,} of {options.images:,} images, loss {report.loss:.4f}", flush=True)
        run.save()
    model = snrise.load(options.out)
    for guidance in (1.0, 2.0, 4.0):
        found = {
            name: right(model, scenes, options.each, guidance) for name, scenes in (("seen", SEEN), ("unseen", UNSEEN))
        }
        shares = {name: round(share, 3) for name, (share, _) in found.items()}
        print(json.dumps({"guidance": guidance} | shares), flush=True)
        sample_grid(found["unseen"][1]).save(options.out / f"unseen-{guidance:g}.png")
    print("unseen: " + "; ".join(scene.caption for scene in UNSEEN))


if __name__ == "__main__":
    main()
