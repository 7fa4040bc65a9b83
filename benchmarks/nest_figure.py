"""What a nest sees and says, at three noise levels: the figure of docs/growing.md.

    python benchmarks/nest_figure.py emoji-64 --image 900 --out docs/img/nest.png
"""

import argparse
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import snrise
from snrise import plots
from snrise.data import to_float
from snrise.denoisers import from_network
from snrise.nest import Link
from snrise.networks.haar import haar
from snrise.pooling import pool
from snrise.process import diffuse, per_image
from snrise.trained import Trained

TITLES = (
    "z", "z′ = g·Dz, at λ + 2 log 2", "inner x̂′, unchanged", "bands of x̂", "how loud each is said", "x̂ = both together",
)


def seen_and_said(trained: Trained, x: Tensor, logsnr: float, label: Tensor) -> list[Tensor]:
    """The pictures of a row: [3 h w] in −1…1, bands and loudness as mosaics of three."""
    network, target, at = trained.network.eval(), trained.generation().target, torch.tensor([logsnr])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    z = diffuse(x, eps, at, target.process)
    said: list[Tensor] = []
    hook = network.leave.register_forward_hook(lambda module, inputs, out: said.append(out))
    with torch.no_grad():
        denoised = from_network(network, target, label)(z, at)
    hook.remove()
    coarse = Link(target).coarse(at)
    seen = per_image(coarse.gain, z) * pool(z, 2)
    details = haar(denoised)[1][0]
    loudness = said[0].reshape(1, 6, 3, *details.shape[2:])[0, 3:].tanh().mean(dim=1, keepdim=True)
    band = 6 * details
    return [z[0], seen[0], pool(denoised, 2)[0], _mosaic(band), _mosaic(loudness.expand_as(band)), denoised[0]]


def _mosaic(bands: Tensor) -> Tensor:
    """Three bands as a wavelet transform has them: across the width, the height, both; the coarse quarter is empty."""
    across, down, both = bands
    top = torch.cat([torch.ones_like(across), across], dim=2)
    return torch.cat([top, torch.cat([down, both], dim=2)], dim=1)


def _show(axes: Axes, picture: Tensor) -> None:
    axes.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--image", type=int, default=900)
    parser.add_argument("--logsnr", type=float, nargs="+", default=[-1.0, 2.0, 6.0])
    parser.add_argument("--out", type=Path, default=Path("docs/img/nest.png"))
    chosen = parser.parse_args()
    trained = snrise.load(chosen.run)
    data = trained.data()
    x = to_float(data.images([chosen.image]))
    label = torch.tensor([(data.labels if data.labels is not None else [0])[chosen.image]])
    rows = [seen_and_said(trained, x, logsnr, label) for logsnr in chosen.logsnr]
    figure = Figure(figsize=(2 * len(TITLES), 2.15 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(TITLES), squeeze=False)
    for row, pictures, logsnr in zip(grid, rows, chosen.logsnr, strict=True):
        row[0].set_ylabel(f"λ = {logsnr:g}".replace("-", "−"))
        for axes, picture in zip(row, pictures, strict=True):
            _show(axes, picture)
    for axes, title in zip(grid[0], TITLES, strict=True):
        axes.set_title(title, fontsize=9)
    print(plots.save(figure, chosen.out))


if __name__ == "__main__":
    main()
