"""What a model at a resolution has to be better than: the data, pooled and enlarged again, judged as samples.

    python benchmarks/enlarged.py --sides 64 128 256 -n 500 --out docs/results/enlarged.json

No network is involved: a model whose distances are below these has an octave worth having.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from snrise.data import Dataset, Emoji, Preprocess, to_float, to_uint8
from snrise.evaluation import Reference, judge
from snrise.metrics import FEATURES
from snrise.pooling import pool

#: How pooled images are enlarged. A factor of 1 is the data as they are.
WAYS = {"as they are": 1, "bicubic": 2, "nearest": 2}


def enlarged(data: Dataset, count: int, way: str) -> Iterator[Tensor]:
    """`count` images of a data set, evenly chosen, pooled by 2 and enlarged."""
    chosen = [i * len(data) // count for i in range(count)]
    for first in range(0, count, 50):
        images = data.images(chosen[first : first + 50])
        if WAYS[way] > 1:
            small = pool(to_float(images), WAYS[way])
            smooth = {"antialias": False, "align_corners": False} if way == "bicubic" else {}
            images = to_uint8(interpolate(small, scale_factor=float(WAYS[way]), mode=way, **smooth).clamp(-1, 1))
        yield images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = []
    for side in chosen.sides:
        data = Dataset(Emoji(), Preprocess((side, side)))
        reference = Reference.of(data, FEATURES["efficientnet-lite0"])
        for way in WAYS:
            found = judge(enlarged(data, chosen.n, way), reference)
            rows.append({"side": side, "way": way} | found.as_json())
            print(f"\n{side} px, {way}: {found}", flush=True)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
