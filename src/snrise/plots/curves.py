"""Charts: a schedule and where its training time goes, the power of pooled images, the loss by noise level."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator, PercentFormatter
from torch import Tensor

from snrise._errors import require
from snrise._typing import Size
from snrise.diagnostics import Octave, diagnose
from snrise.plots.style import COLOURS, DASHES, FONT, GREY, INK, dress, logsnr_text, panels, size_text
from snrise.pooling import SignalPower, pooled_logsnr
from snrise.schedules import Schedule, Shifted, shift_factor

#: λ beyond this are not shown: at σ/α = e^±12 any image is noiseless, or noise.
SHOWN = 24.0
#: Octaves at either end with less than this share of the time, in every schedule, are not shown.
LEAST_SHARE = 0.002


def schedule_curves(
    schedules: Mapping[str, Schedule], image: Size, reference: Size = (64, 64), *, title: str | None = None
) -> Figure:
    """Left: λ(t) of each schedule. Right: its share of training time per octave of SNR at the reference resolution.

    An arrow shows the shift of each `Shifted`; a dashed line, the λ with SNR 1 at the reference resolution.
    """
    require(len(schedules) >= 1, "schedule_curves.schedules", len(schedules), "one schedule or more")
    named = f"Noise schedule for {size_text(image)} images, seen at {size_text(reference)}"
    figure, (left, right) = panels(2, named if title is None else title)
    _draw_curves(left, schedules, shift_factor(image, reference), reference)
    _draw_octaves(right, schedules, image, reference)
    return figure


def _draw_curves(axes: Axes, schedules: Mapping[str, Schedule], factor: float, reference: Size) -> None:
    t = torch.linspace(0, 1, 513, dtype=torch.float64)
    ends: list[Tensor] = []
    for (name, schedule), colour, dash in zip(schedules.items(), cycle(COLOURS), cycle(DASHES)):
        logsnr = schedule(t)
        kept = logsnr.isfinite()
        axes.plot(t[kept].numpy(), logsnr[kept].numpy(), color=colour, linestyle=dash, linewidth=2.2, label=name)
        ends += logsnr[kept].clamp(-SHOWN, SHOWN).aminmax()
    axes.set(xlim=(0, 1), ylim=(float(min(ends)) - 1.5, float(max(ends)) + 1.5))
    one = -float(pooled_logsnr(torch.zeros(()), factor))
    axes.axhline(one, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    axes.annotate(f"SNR 1\nat {size_text(reference)}", (1, one), xytext=(4, 0), textcoords="offset points", va="center",
                  annotation_clip=False, fontsize=8.5, color=GREY, family=FONT)
    for schedule in schedules.values():
        if isinstance(schedule, Shifted) and schedule.factor != 1:
            _draw_shift(axes, schedule)
    dress(axes, title="Log-SNR over time", x="t   (0 = clean, 1 = noise)", y="λ = log SNR")


def _draw_shift(axes: Axes, schedule: Shifted) -> None:
    middle = torch.tensor(0.5, dtype=torch.float64)
    start, end = float(schedule.base(middle)), float(schedule(middle))
    axes.annotate("", (0.5, end), xytext=(0.5, start), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.1,
                                                                   "shrinkA": 0, "shrinkB": 0})
    # To the right of the lower end, clear of both curves.
    label = f"−2 log {schedule.factor:.4g} = {logsnr_text(-schedule.shift)}"
    axes.annotate(label, (0.5, min(start, end)), xytext=(6, 4), textcoords="offset points", fontsize=8.5, color=INK,
                  family=FONT)


def _draw_octaves(axes: Axes, schedules: Mapping[str, Schedule], image: Size, reference: Size) -> None:
    shown: list[int] = []
    for (name, schedule), colour, dash in zip(schedules.items(), cycle(COLOURS), cycle(DASHES)):
        report = diagnose(schedule, image, reference)
        shares, edges = _stairs(report.octaves)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.13)
        axes.stairs(shares, edges, color=colour, linestyle=dash, linewidth=1.8,
                    label=f"{name}: {report.time_below:.0%} below SNR 1")
        shown += [octave.exponent for octave in report.octaves if octave.share >= LEAST_SHARE]
    axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (2, 3)))
    axes.set_xlim(min(shown, default=-1) - 0.5, max(shown, default=0) + 1.5)
    axes.set_ylim(0, axes.get_ylim()[1] * (1.02 + 0.07 * len(schedules)))  # room for the legend
    axes.xaxis.set_major_locator(MultipleLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda power, _: "1" if power == 0 else f"$2^{{{power:.0f}}}$"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    dress(axes, title="Training time per octave", x=f"SNR at {size_text(reference)}", y="share of training time")


def _stairs(octaves: tuple[Octave, ...]) -> tuple[list[float], list[int]]:
    """Shares of all octaves from the first to the last, and their edges."""
    shares = {octave.exponent: octave.share for octave in octaves}
    first, last = octaves[0].exponent, octaves[-1].exponent
    return [shares.get(exponent, 0.0) for exponent in range(first, last + 1)], list(range(first, last + 2))


def signal_power(power: SignalPower, *, title: str | None = None) -> Figure:
    """Left: the share of the images' power and variance left after pooling. Right: the log-SNR gained, less 2 log s.

    Images that lost no power (dashed) would gain 2 log s by pooling by s, as a schedule's shift assumes.
    """
    figure, (left, right) = panels(2, f"Power of {power.images} images after pooling" if title is None else title)
    measured = {"power": power.power_ratio, "variation (about the mean colour)": power.variance_ratio}
    for axes, ideal in ((left, 1), (right, 0)):
        axes.axhline(ideal, color=GREY, linewidth=1.2, linestyle=(0, (2, 3)), label="nothing lost")
    for (name, ratios), colour, dash in zip(measured.items(), COLOURS[1:], DASHES, strict=False):
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2.0, "marker": "o", "markersize": 5}
        left.plot(power.factors, ratios, label=name, **style)
        # No power left has no log-SNR.
        kept = [s for s, ratio in zip(power.factors, ratios, strict=True) if ratio > 0]
        lost = [_gain(s, ratio) - _gain(s) for s, ratio in zip(power.factors, ratios, strict=True) if ratio > 0]
        right.plot(kept, lost, label=name, **style)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(power.factors[0] / 1.15, power.factors[-1] * 1.15)
    left.set_xticks(power.factors, [f"{s}" for s in power.factors])
    right.set_xticks(power.factors, [f"{s}\n{logsnr_text(_gain(s))}" for s in power.factors])
    left.set_ylim(0, max(1.08, 1.05 * max(power.power_ratio + power.variance_ratio)))
    right.set_ylim(min(-0.5, right.get_ylim()[0]), max(0.05, right.get_ylim()[1]))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    dress(left, title="Left after pooling", x="pooled by s", y="share left")
    dress(right, title="Log-SNR gained by pooling, less 2 log s", x="pooled by s; 2 log s", y="pooled λ − λ − 2 log s")
    return figure


def _gain(factor: float, ratio: float = 1.0) -> float:
    return float(pooled_logsnr(torch.zeros((), dtype=torch.float64), factor, ratio))


def loss_by_logsnr(
    logsnrs: Float[Tensor, " n"], losses: Float[Tensor, " n"], bins: int = 24, *, title: str = "Loss by noise level"
) -> Figure:
    """The mean loss in each of `bins` equal intervals of λ, and the range of the middle 80% of the losses there.

    Infinite λ count in the outermost intervals; empty intervals are left out.
    """
    require(bins >= 1, "loss_by_logsnr.bins", bins, "a whole number above 0")
    require(bool(losses.isfinite().all()), "loss_by_logsnr.losses", "NaN or an infinite loss", "finite numbers",
            "did the network diverge?")
    require(bool(logsnrs.isfinite().any()), "loss_by_logsnr.logsnrs", f"{len(logsnrs)} values, none finite", "finite λ")
    centres, groups = _binned(logsnrs.detach().double().cpu(), losses.detach().double().cpu(), bins)
    means = [float(group.mean()) for group in groups]
    tenths = [torch.quantile(group, torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist() for group in groups]
    figure, (axes,) = panels(1, title)
    axes.fill_between(centres, [low for low, _ in tenths], [high for _, high in tenths], color=COLOURS[1], alpha=0.18,
                      linewidth=0, label="middle 80%")
    axes.plot(centres, means, color=COLOURS[1], linewidth=2, marker="o", markersize=4, label="mean")
    if min(low for low, _ in tenths) > 0:
        axes.set_yscale("log")
    dress(axes, title=f"{len(losses)} images", x="λ = log SNR   (noise on the left)", y="loss")
    return figure


def _binned(logsnrs: Tensor, losses: Tensor, bins: int) -> tuple[list[float], list[Tensor]]:
    """The centre of each non-empty interval of λ, and the losses in it."""
    finite = logsnrs[logsnrs.isfinite()]
    edges = torch.linspace(float(finite.min()), float(finite.max()), bins + 1, dtype=torch.float64)
    index = (torch.searchsorted(edges, logsnrs, right=True) - 1).clamp(0, bins - 1)
    occupied = index.bincount().nonzero().flatten().tolist()
    centres = 0.5 * (edges[:-1] + edges[1:])
    return [float(centres[i]) for i in occupied], [losses[index == i] for i in occupied]


def training_curves(
    lines: Sequence[Mapping[str, Any]], centres: Sequence[float], *, title: str = "Training",
    columns: int | None = None,
) -> Figure:
    """Loss, loss by λ, gradient norm and update ratio, and speed against images seen, from the lines of a run's log.

    `centres` are the λ of the values of `loss_by_logsnr`, noisiest first. The charts stand side by side, or in rows of
    so many `columns`.
    """
    require(len(lines) >= 1, "training_curves.lines", len(lines), "one line of the log or more")
    figure, (loss, by_logsnr, sizes, speed) = panels(4, title, columns)
    seen = [line["images_seen"] for line in lines]
    for name, colour, dash in zip(("loss", "eps_loss"), COLOURS, DASHES, strict=False):
        loss.plot(seen, [line[name] for line in lines], color=colour, linestyle=dash, label=name)
    colours = matplotlib.colormaps["viridis"]
    for i, centre in enumerate(centres):
        losses = [line["loss_by_logsnr"][i] for line in lines]
        shade = colours(i / max(1, len(centres) - 1))
        by_logsnr.plot(seen, [math.nan if v is None else v for v in losses], color=shade, label=logsnr_text(centre))
    for name, label, colour, dash in (("grad_norm", "gradient norm", COLOURS[0], DASHES[0]),
                                      ("update_ratio", "update / weights", COLOURS[1], DASHES[1]),
                                      ("learning_rate", "learning rate", COLOURS[2], DASHES[2])):
        values = [math.nan if line[name] is None else line[name] for line in lines]
        sizes.plot(seen, values, color=colour, linestyle=dash, label=label)
    speed.plot(seen, [line["images_per_second"] for line in lines], color=COLOURS[0])
    for axes in (loss, by_logsnr, sizes):
        axes.set_yscale("log")
    speed.set_ylim(bottom=0)
    dress(loss, title="Loss", x="images seen", y="mean over the interval")
    dress(by_logsnr, title="ε-loss by λ", x="images seen", y="smoothed")
    by_logsnr.legend(title="λ", ncols=2, fontsize=7, title_fontsize=8, frameon=False)
    dress(sizes, title="Sizes", x="images seen", y="")
    dress(speed, title="Speed", x="images seen", y="images/s")
    return figure
