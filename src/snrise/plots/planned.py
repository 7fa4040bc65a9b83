"""A plan as a chart: a network's parameters, operations and memory by level, whether a step fits; and scaling."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snrise.planning import Distributed, Plan, Rehearsal
from snrise.planning.devices import GIB
from snrise.plots.style import COLOURS, FONT, GREY, INK, dress, panels, size_text

__all__ = ["plan_chart", "scaling_chart"]


def plan_chart(plan: Plan) -> Figure:
    """Left: the share of each level, from the image down and up again. Right: the memory of a step by purpose."""
    config, batch = plan.config, plan.config.training.batch
    count = "" if plan.distributed is None else f"{plan.distributed.cluster.ranks} × "
    title = f"{config.name} at {size_text(config.data.resolution)}, batch {batch}, on {count}{plan.device.title}"
    figure, (levels, memory) = panels(2, title)
    _levels(levels, plan)
    _memory(memory, plan)
    return figure


def scaling_chart(rows: Sequence[Distributed], title: str, utilisation: float) -> Figure:
    """By number of devices: throughput beside the ideal, the share of communication, and memory of a rank."""
    figure, (rate, share, memory) = panels(3, f"{title}, on {rows[0].device.title}: computed")
    counts = [row.cluster.ranks for row in rows]
    rates = [row.images_per_second(utilisation) or 0.0 for row in rows]
    ideal = [rates[0] / counts[0] * count for count in counts]
    rate.plot(counts, ideal, color=GREY, linestyle="--", label=f"{counts[0]} device times n")
    rate.plot(counts, rates, "o-", color=COLOURS[1], label="computed")
    rate.set_yscale("log")
    share.plot(counts, [100 * (row.communicating(utilisation) or 0.0) for row in rows], "o-", color=COLOURS[0],
               label="if nothing overlapped")
    share.plot(counts, [100 * (1 - (row.efficiency(utilisation) or 1.0)) for row in rows], "s--", color=COLOURS[2],
               label="with overlap")
    memory.plot(counts, [row.step.peak / GIB for row in rows], "o-", color=COLOURS[3], label="most at a time")
    usable = rows[0].device.usable / GIB
    memory.axhline(usable, color=GREY, linestyle="--", label=f"may be taken: {usable:,.1f} GiB")
    memory.set_ylim(0, None)
    for axes, name, unit in ((rate, "Throughput", "images/s"), (share, "Communication", "% of a step"),
                             (memory, "Memory of a device", "GiB")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        dress(axes, title=name, x="devices", y=unit)
    return figure


def _levels(axes: Axes, plan: Plan) -> None:
    whole = plan.whole
    shown = {
        "parameters": (whole.parameters, f"{whole.parameters / 1e6:,.1f} M parameters"),
        "flops": (whole.flops, f"{whole.flops / 1e9:,.1f} GFLOP forward"),
        "kept": (whole.kept, f"{whole.kept / GIB:,.2f} GiB kept for the way back"),
        "checkpointed": (whole.kept, f"{whole.checkpointed / GIB:,.2f} GiB, checkpointed"),
    }
    height = 0.8 / len(shown)
    for i, ((name, (total, label)), colour) in enumerate(zip(shown.items(), COLOURS, strict=False)):
        places = [row + (i - 1.5) * height for row in range(len(plan.rows))]
        axes.barh(places, [100 * getattr(row, name) / total for row in plan.rows], height, label=label, color=colour)
    axes.set_yticks(range(len(plan.rows)), [row.name for row in plan.rows])
    axes.invert_yaxis()
    dress(axes, title="Where it is", x="% of all", y="")
    axes.grid(False, axis="y")


def _memory(axes: Axes, plan: Plan) -> None:
    steps = {"as set": plan.step, "all levels\ncheckpointed": plan.checkpointed}
    bottoms = [0.0] * len(steps)
    for i, piece in enumerate(_pieces(plan.step)):
        sizes = [_pieces(step)[piece] / GIB for step in steps.values()]
        colour = COLOURS[i % len(COLOURS)]
        axes.bar(list(steps), sizes, 0.55, bottom=bottoms, label=f"{piece}: {sizes[0]:,.2f} GiB", color=colour)
        bottoms = [a + b for a, b in zip(bottoms, sizes, strict=True)]
    for i, top in enumerate(bottoms):
        axes.text(i, top, f"{top:,.1f} GiB", ha="center", va="bottom", fontsize=9, color=INK, family=FONT)
    usable = plan.device.usable / GIB
    # The line of a device with far more memory would make the bars too small to read.
    near = usable < 3 * max(bottoms)
    axes.plot([-0.6, 1.6] if near else [], [usable, usable] if near else [], color=GREY, linestyle="--",
              label=f"may be taken: {usable:,.1f} GiB")
    axes.set_xlim(-0.6, len(steps) + 2.4)  # and room for the legend
    dress(axes, title="Memory at the most", x="", y="GiB")
    axes.grid(False, axis="x")


def _pieces(step: Rehearsal) -> dict[str, int]:
    """The peak by purpose: what stays from step to step, then what comes and goes.

    At it, nearly all activations kept for the backward pass are still there.
    """
    rest = step.peak - sum(step.static.values())
    kept = min(rest, sum(step.kept.values()))
    return {**step.static, "kept for the way back": kept, "all else": rest - kept}
