"""Pictures of a judgement: spectra, metrics against cost, samples beside the images nearest to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from snrise._errors import require
from snrise.plots.pictures import sample_grid
from snrise.plots.style import COLOURS, DASHES, GREY, INK, dress, font, panels

__all__ = ["captioned", "metric_against", "octaves", "twins"]

#: Small pictures are enlarged to about this side.
SIDE = 96
MARGIN, HEAD = 16, 30


def octaves(decibels: Mapping[str, Sequence[float]], names: Sequence[str], *, title: str) -> Figure:
    """Power of samples relative to the data by octave of spatial frequency: 0 dB is the data. One line a set."""
    figure, (axes,) = panels(1, title)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for i, (name, values) in enumerate(decibels.items()):
        axes.plot(range(len(values)), values, marker="o", markersize=4, label=name, **_style(i))
    axes.set_xticks(range(len(names)), names)
    dress(axes, title="power, samples / data", x="spatial frequency, cycles per pixel", y="decibels")
    return figure


def metric_against(
    lines: Mapping[str, Sequence[tuple[float, float, float]]], *, title: str, x: str, metric: str, log: bool = True,
    better: str = "lower is better",
) -> Figure:
    """A metric against its cost: a line with error bars for each name, through points (cost, value, error)."""
    require(len(lines) >= 1, "metric_against.lines", len(lines), "one line or more")
    figure, (axes,) = panels(1, title)
    for i, (name, points) in enumerate(lines.items()):
        cost, value, error = zip(*sorted(points), strict=True)
        axes.errorbar(cost, value, error, marker="o", markersize=4, capsize=2, elinewidth=0.8, label=name, **_style(i))
    if log:
        axes.set_xscale("log", base=2)
        costs = sorted({point[0] for points in lines.values() for point in points})
        axes.set_xticks(costs, [f"{c:g}" for c in costs])
        axes.minorticks_off()
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    dress(axes, title=f"{metric}; {better}", x=x, y=metric)
    return figure


def _style(i: int) -> dict[str, Any]:
    """The colour and dash of line number i."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}


def twins(
    samples: UInt8[Tensor, "k 3 h w"], nearest: UInt8[Tensor, "k m 3 h w"], distances: Sequence[Sequence[float]]
) -> Image.Image:
    """A row a sample: the sample, then its nearest images in the data, each above its distance in feature space."""
    scale = max(1, SIDE // max(samples.shape[-2:]))
    rows = [sample_grid(torch.cat([s[None], n]), columns=1 + len(n), scale=scale) for s, n in zip(samples, nearest,
                                                                                                 strict=True)]
    width, height = rows[0].size
    step = (width - 2) // (1 + nearest.shape[1])
    picture = Image.new("RGB", (width + 2 * MARGIN + MARGIN, HEAD + len(rows) * (height + 18) + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, 8), "sample", INK, font(14, bold=True))
    draw.text((2 * MARGIN + step, 8), "nearest images, distance in features", INK, font(14, bold=True))
    for i, (row, gaps) in enumerate(zip(rows, distances, strict=True)):
        y = HEAD + i * (height + 18)
        picture.paste(row.crop((0, 0, step + 2, height)), (MARGIN, y))
        picture.paste(row.crop((step, 0, width, height)), (2 * MARGIN + step, y))
        for j, distance in enumerate(gaps):
            draw.text((2 * MARGIN + (j + 1) * step + 2, y + height), f"{distance:.2f}", GREY, font(11))
    return picture


def captioned(pictures: Mapping[str, Path], columns: int) -> Image.Image:
    """Picture files in rows, each with its name above it."""
    require(len(pictures) >= 1, "captioned.pictures", len(pictures), "one picture or more")
    images = []
    for path in pictures.values():
        with Image.open(path) as file:
            images.append(file.convert("RGB"))
    across = max(image.width for image in images) + MARGIN
    down = max(image.height for image in images) + HEAD
    size = (min(columns, len(images)) * across + MARGIN, -(-len(images) // columns) * down + MARGIN)
    whole = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(whole)
    for i, (name, image) in enumerate(zip(pictures, images, strict=True)):
        row, column = divmod(i, columns)
        draw.text((MARGIN + column * across, 8 + row * down), name, INK, font(14, bold=True))
        whole.paste(image, (MARGIN + column * across, HEAD + row * down))
    return whole
