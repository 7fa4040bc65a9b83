"""Images a second from a folder of JPEGs, against torchvision's ImageFolder and DataLoader with the same result.

    python benchmarks/data.py --out docs/results/data.json

Makes 2,000 JPEGs with sides of 512 to 2,000 px (smooth shapes with noise, quality 90), then reads them all, cropped to
a square and resized to `--resolution`, in batches of 32: cold (the first time, nothing kept; the files are in the
system's cache for both) and warm (the second time). Needs the extra `bench`.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from snrise.data import Cache, Dataset, ImageFolder, Preprocess

BATCH = 32


def make(folder: Path, count: int) -> None:
    """Write JPEGs of mixed sizes into two classes."""
    draw = np.random.default_rng(0)
    for i in range(count):
        size = tuple(int(n) for n in draw.integers(512, 2001, 2))
        coarse = Image.fromarray(draw.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
        noise = draw.integers(-12, 13, picture.shape, dtype=np.int16)
        path = folder / f"class-{i % 2}" / f"{i:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((picture + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def rate(batches: Iterator[Any], count: int) -> float:
    """Images a second over `count` images."""
    started = time.perf_counter()
    for _ in range(count // BATCH):
        next(batches)
    return count // BATCH * BATCH / (time.perf_counter() - started)


def peer(folder: Path, side: int, workers: int) -> Iterator[Any]:
    """The same crop and size, antialiased, as floats from -1 to 1, by torchvision."""
    transform = v2.Compose([
        v2.Lambda(lambda image: v2.functional.center_crop(image, min(image.size))),
        v2.Resize((side, side), interpolation=v2.InterpolationMode.LANCZOS),
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3),
    ])
    data = torchvision.datasets.ImageFolder(folder, transform)
    while True:
        yield from torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=workers, drop_last=True)


def ours(folder: Path, side: int, cache: Cache, kept: Path, workers: int) -> Callable[[], Iterator[Any]]:
    """A new data set each time, as a new run would have."""
    def stream() -> Iterator[Any]:
        source = ImageFolder(folder, "folders")
        data = Dataset(source, Preprocess((side, side)), cache=cache, cache_folder=kept, workers=workers)
        return data.batches(BATCH, seed=0)

    return stream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    count, side, workers = options.images, options.resolution, options.workers
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, kept = Path(name) / "images", Path(name) / "kept"
        folder.mkdir()
        make(folder, count)
        for path in folder.rglob("*.jpg"):
            path.read_bytes()
        theirs = peer(folder, side, workers)
        found["torchvision, first epoch"] = rate(theirs, count)
        found["torchvision, second epoch"] = rate(theirs, count)
        stream = ours(folder, side, Cache.NONE, kept, workers)()
        found["snrise, nothing kept (processes), first epoch"] = rate(stream, count)
        found["snrise, nothing kept (processes), second epoch"] = rate(stream, count)
        stream.close()
        stream = ours(folder, side, Cache.MEMORY, kept, workers)()
        found["snrise, in memory, first epoch"] = rate(stream, count)
        found["snrise, in memory, second epoch"] = rate(stream, count)
        stream.close()
        again = ours(folder, side, Cache.DISK, kept, workers)
        stream = again()
        found["snrise, on disk, first epoch"] = rate(stream, count)
        stream.close()
        stream = again()
        found["snrise, on disk, first epoch of a later run"] = rate(stream, count)
        stream.close()
    result = {
        "images": count, "resolution": side, "batch": BATCH, "workers": workers, "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(), "torch": torch.__version__,
        "torchvision": torchvision.__version__, "images_per_second": {k: round(v, 1) for k, v in found.items()},
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
