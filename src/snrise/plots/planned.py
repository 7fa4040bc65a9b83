"""A plan as a chart: a network's parameters, operations and memory by level, and whether a step fits."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snrise.planning import Plan, Rehearsal
from snrise.plots.style import COLOURS, FONT, GREY, INK, dress, panels, size_text

__all__ = ["plan_chart"]

GIB = 2**30
#: Memory that stays from step to step, then memory that comes and goes.
PIECES = ("parameters", "average", "optimizer", "before the step", "kept for the way back", "all else")


def plan_chart(plan: Plan) -> Figure:
    """Left: the share of each level, from the image down and up again. Right: the memory of a step by purpose."""
    config, batch = plan.config, plan.config.training.batch
    title = f"{config.name} at {size_text(config.data.resolution)}, batch {batch}, on {plan.device.title}"
    figure, (levels, memory) = panels(2, title)
    _levels(levels, plan)
    _memory(memory, plan)
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
    for i, piece in enumerate(PIECES):
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
    """The peak by purpose: at it, nearly all activations kept for the backward pass are still there."""
    rest = step.peak - sum(step.static.values())
    kept = min(rest, sum(step.kept.values()))
    return {**step.static, "kept for the way back": kept, "all else": rest - kept}
