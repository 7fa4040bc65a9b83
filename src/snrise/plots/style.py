"""The common style of all pictures, and how they are written to files."""

from functools import lru_cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from snrise._errors import SnriseError, unknown
from snrise._typing import Size

#: Distinguishable with every common kind of colour vision; Okabe and Ito 2008.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Distinguishable in black and white, too.
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
INK, GREY, GRID = "#222222", "#6B6B6B", "#E4E4E4"
FONT = "DejaVu Sans"  # it comes with matplotlib, and has Greek letters and symbols
SUFFIXES = (".pdf", ".png", ".svg")


def panels(count: int, title: str, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with `count` charts under one title: side by side, or in rows of so many columns."""
    across = columns or count
    down = -(-count // across)
    figure = Figure(figsize=(5.2 * across, 4.4 * down), dpi=160, layout="constrained", facecolor="white")
    axes = [figure.add_subplot(down, across, i + 1) for i in range(count)]
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK, family=FONT)
    return figure, axes


def dress(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Titles, a thin grid behind the data, and no frame; call it after the data are drawn."""
    axes.set_facecolor("white")
    axes.set_title(title, loc="left", fontsize=11, color=INK, family=FONT)
    axes.set_xlabel(x, fontsize=10, color=INK, family=FONT)
    axes.set_ylabel(y, fontsize=10, color=INK, family=FONT)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=9, labelcolor=INK, color=GREY, length=3, labelfontfamily=FONT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
        spine.set_linewidth(0.8)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(facecolor="white", edgecolor="none", framealpha=0.85, labelcolor=INK, handlelength=2.6,
                    prop={"family": FONT, "size": 9.5})


def size_text(size: Size) -> str:
    """Height × width."""
    return f"{size[0]}×{size[1]}"


def logsnr_text(value: float) -> str:
    """A log-SNR with its sign and two decimals, infinite ones too."""
    return f"{value:+.2f}".replace("-", "−").replace("inf", "∞")


@lru_cache
def font(pixels: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The charts' font, for text on a Pillow image."""
    properties = font_manager.FontProperties(family=FONT, weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(properties), pixels)


def save(picture: Figure | Image.Image, path: str | Path) -> Path:
    """Write a chart (PNG, SVG or PDF) or an image (any format Pillow writes); missing folders are created.

    Raises:
        SnriseError: if the suffix names no format, or the file cannot be written.
    """
    path = Path(path)
    formats = SUFFIXES if isinstance(picture, Figure) else tuple(Image.registered_extensions())
    if path.suffix.lower() not in formats:
        raise unknown(str(path), path.suffix, SUFFIXES, "picture format")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, Figure):
            picture.savefig(path, facecolor="white")
        else:
            picture.save(path)
    except OSError as error:
        cause = error.strerror or str(error)
        raise SnriseError(f"{path}: cannot be written: {cause}; allowed: a file where you may write") from error
    return path
