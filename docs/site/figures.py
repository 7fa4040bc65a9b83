"""Draw the figures of docs/derivation.md into docs/img: `python docs/site/figures.py [FOLDER]`. No words are in them.

One set serves every language, so that a label is a symbol or a number.
"""

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snrise.data import Cache, Dataset, Emoji, Preprocess, to_float, to_uint8
from snrise.denoisers import ideal
from snrise.plots import save
from snrise.plots.pictures import noise_cells
from snrise.plots.style import COLOURS, DASHES, FONT, GREY, INK, dress, panels
from snrise.pooling import SignalPower, signal_power
from snrise.samplers import Ancestral, Ddim, Sampler, start, uniform_time
from snrise.schedules import Cosine, Schedule, Shifted, density, interpolated_for_resolution
from snrise.weightings import Constant, MinSnr, Sigmoid, VLoss, Weighting, XLoss

IMG = Path(__file__).parents[1] / "img"
FACTORS = (1, 2, 4, 8)
#: Images that power is measured on; the emoji that noise is shown on; when.
MEASURED, SHOWN, TIME = 256, 900, 0.6
WEIGHTINGS: Mapping[str, Weighting] = {
    "$1$": Constant(), "$1/\\mathrm{SNR}$": XLoss(), "$1 + 1/\\mathrm{SNR}$": VLoss(),
    "$\\min(1, 5/\\mathrm{SNR})$": MinSnr(gamma=5.0), "$\\mathrm{sigmoid}(-1 - \\lambda)$": Sigmoid(bias=-1.0),
}


def emoji(size: int) -> Dataset:
    """The built-in images."""
    return Dataset(Emoji(), Preprocess((size, size)), cache=Cache.NONE)


def shift() -> Figure:
    """λ over t, and p(λ), for several factors and one interpolated schedule."""
    mixed = interpolated_for_resolution(Cosine(), (512, 512), clean=(256, 256), noisy=(32, 32))
    schedules: dict[str, Schedule] = {f"$s = {s}$": Shifted(base=Cosine(), factor=s) for s in FACTORS}
    schedules["$s = 2 \\ldots 16$"] = mixed
    figure, (left, right) = panels(2, "")
    t = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    logsnr = torch.linspace(-16, 10, 521, dtype=torch.float64)
    for i, (name, schedule) in enumerate(schedules.items()):
        style = {"color": COLOURS[i], "linestyle": DASHES[i % len(DASHES)], "linewidth": 2.0, "label": name}
        left.plot(t.numpy(), schedule(t).numpy(), **style)
        right.plot(logsnr.numpy(), density(schedule, logsnr).numpy(), **style)
    left.axhline(0, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    left.set(xlim=(0, 1), ylim=(-17, 13))
    right.set(xlim=(-16, 10), ylim=(0, None))
    dress(left, title="", x="$t$", y="$\\lambda(t)$")
    dress(right, title="", x="$\\lambda$", y="$p(\\lambda) = -\\mathrm{d}t/\\mathrm{d}\\lambda$")
    return figure


def power() -> Figure:
    """What pooling leaves of the power of images, and the log-SNR that it adds."""
    data = emoji(256)
    chosen = [i * len(data) // MEASURED for i in range(MEASURED)]
    batches = (to_float(data.images(chosen[i : i + 16])) for i in range(0, MEASURED, 16))
    found = signal_power(batches, factors=(2, 4, 8, 16))
    figure, (left, right) = panels(2, "")
    ratios = {
        "$\\mathrm{E}\\,(D_s x)^2\\,/\\;\\mathrm{E}\\,x^2$": found.power_ratio,
        "$\\mathrm{Var}\\,D_s x\\,/\\;\\mathrm{Var}\\,x$": found.variance_ratio,
    }
    for (name, values), colour, marker in zip(ratios.items(), COLOURS[1:], "os", strict=False):
        left.plot(found.factors, values, color=colour, marker=marker, linewidth=2, label=name)
        gained = [2 * math.log(s) + math.log(v) for s, v in zip(found.factors, values, strict=True)]
        right.plot(found.factors, gained, color=colour, marker=marker, linewidth=2, label=name)
    right.plot(found.factors, [2 * math.log(s) for s in found.factors], color=GREY, linestyle="--", label="$2 \\log s$")
    _by_factor(left, found)
    _by_factor(right, found)
    left.set_ylim(0, 1.05)
    dress(left, title="", x="$s$", y="")
    dress(right, title="", x="$s$", y="$\\lambda' - \\lambda$")
    return figure


def _by_factor(axes: Axes, found: SignalPower) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(found.factors, [str(s) for s in found.factors])


def noise() -> Figure:
    """One emoji at several sizes under one λ, and under shifted ones, all pooled to the smallest."""
    x = to_float(emoji(256).images([SHOWN]))[0].double()
    base, pools = Cosine()(torch.tensor([TIME], dtype=torch.float64)), (4, 2, 1)
    sizes = [256 // factor for factor in pools]
    same = base.expand(len(pools), 1)
    shifted = torch.stack([base - 2 * math.log(size / 64) for size in sizes])
    figure = Figure(figsize=(7.2, 5.2), dpi=160, layout="constrained", facecolor="white")
    for row, logsnrs in enumerate((same, shifted)):
        cells = noise_cells(x, logsnrs, pools, torch.Generator().manual_seed(0))[:, 0]
        for column, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
            axes = figure.add_subplot(2, len(pools), row * len(pools) + column + 1)
            axes.imshow(to_uint8(cell).permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_axis_off()
            here, gained = float(logsnrs[column]), 2 * math.log(size / 64)
            text = f"{size}×{size}:  λ = {here:+.2f}\nλ + 2 log s = {here + gained:+.2f}".replace("-", "−")
            axes.set_title(text, fontsize=9.5, color=INK, family=FONT)
    return figure


def weights() -> Figure:
    """w(λ), and what training hears of each with a cosine and with one that is shifted."""
    logsnr = torch.linspace(-14, 10, 481, dtype=torch.float64)
    figure, (left, right) = panels(2, "")
    cosine, shifted = Cosine(), Shifted(base=Cosine(), factor=8)
    for i, (name, weighting) in enumerate(WEIGHTINGS.items()):
        colour, dash = COLOURS[i], DASHES[i % len(DASHES)]
        left.plot(logsnr.numpy(), weighting(logsnr).numpy(), color=colour, linestyle=dash, linewidth=2, label=name)
        if isinstance(weighting, XLoss | VLoss):  # it grows without end: nothing to scale to a peak
            continue
        for schedule, width in ((cosine, 1.0), (shifted, 2.4)):
            heard = weighting(logsnr) * density(schedule, logsnr)
            right.plot(logsnr.numpy(), (heard / heard.max()).numpy(), color=colour, linestyle=dash, linewidth=width)
    left.set_yscale("log")
    left.set(xlim=(-14, 10), ylim=(1e-4, 1e4))
    right.set(xlim=(-14, 10), ylim=(0, 1.05))
    dress(left, title="", x="$\\lambda$", y="$w(\\lambda)$")
    dress(right, title="", x="$\\lambda$", y="$w(\\lambda)\\,p(\\lambda)$")
    return figure


def sampling() -> Figure:
    """Paths from noise to data that are −1 or 1, by DDIM and by DDPM."""
    points = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    denoise, grid = ideal(points), uniform_time(Cosine(logsnr_min=-9.0, logsnr_max=9.0), 160)
    figure, axes = panels(2, "")
    samplers: tuple[Sampler, ...] = (Ddim(), Ancestral())
    for each, sampler, number in zip(axes, samplers, ("(20)", "(19)"), strict=True):
        own = torch.Generator().manual_seed(3)
        begun = start(denoise, (24, 1, 1, 1), grid[0], own)
        paths = torch.stack([z.flatten() for z in sampler(denoise, begun, grid, own)])
        for path in paths.T:
            each.plot(grid.numpy(), path.numpy(), color=COLOURS[0 if path[-1] > 0 else 1], linewidth=0.9, alpha=0.8)
        each.set(xlim=(-9, 9), ylim=(-3.2, 3.2))
        dress(each, title=number, x="$\\lambda$", y="$z$")
    return figure


FIGURES: Mapping[str, Callable[[], Figure]] = {
    "derivation-power": power, "derivation-noise": noise, "derivation-shift": shift, "derivation-weights": weights,
    "derivation-sampling": sampling,
}


def main(folder: Path) -> None:
    """Draw all of them."""
    for name, draw in FIGURES.items():
        print(save(draw(), folder / f"{name}.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMG)
