"""The shape of a network: channels, blocks and image size at each of its stages."""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from snrise._errors import require
from snrise._typing import Size
from snrise.networks import NetworkConfig
from snrise.plots.style import COLOURS, FONT, GREY, INK, panels, size_text

__all__ = ["hourglass"]

FILL = {"conv": COLOURS[1], "attention": COLOURS[2], "transformer": COLOURS[0]}
NAMES = {"conv": "convolution", "attention": "convolution and attention", "transformer": "transformer"}


def hourglass(networks: Mapping[str, tuple[NetworkConfig, Size]], *, title: str = "Networks") -> Figure:
    """One chart a network: each stage is a box whose height is the image's side there, its width the number of blocks.

    Sides are on a logarithmic scale. Written in or over each box: its channels; under it: its blocks.
    """
    require(len(networks) >= 1, "hourglass.networks", len(networks), "one network or more")
    figure, charts = panels(len(networks), title)
    used = set()
    for axes, (name, (config, image)) in zip(charts, networks.items(), strict=True):
        left, gap = 0.0, 0.35
        for stage in config.stages():
            if not stage.blocks:
                continue
            side = math.sqrt(image[0] * image[1]) / stage.factor
            height, width = math.log2(side) + 1, 0.55 + 0.32 * stage.blocks
            used.add(stage.kind)
            box = Rectangle((left, -height / 2), width, height, color=FILL[stage.kind], alpha=0.8, linewidth=0)
            axes.add_patch(box)
            middle = left + width / 2
            axes.text(middle, height / 2 + 0.15, f"{stage.channels}", ha="center", va="bottom", fontsize=7.5, color=INK,
                      family=FONT, rotation=90 if width < 1.2 else 0)
            axes.text(middle, 0, f"{side:g}²", ha="center", va="center", fontsize=7, color="white", family=FONT,
                      rotation=90)
            axes.text(middle, -height / 2 - 0.15, f"×{stage.blocks}", ha="center", va="top", fontsize=7.5, color=GREY,
                      family=FONT)
            left += width + gap
        axes.set_xlim(-gap, left)
        axes.set_ylim(-6.8, 6.8)
        axes.set_title(f"{name}, {size_text(image)}", loc="left", fontsize=10, color=INK, family=FONT)
        axes.axis("off")
    handles = [Rectangle((0, 0), 1, 1, color=FILL[kind], alpha=0.8, label=NAMES[kind]) for kind in FILL if kind in used]
    charts[0].legend(handles=handles, loc="lower left", frameon=False, fontsize=8, labelcolor=INK)
    return figure
