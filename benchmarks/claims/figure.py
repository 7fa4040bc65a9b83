"""A figure for each claim: every seed a dot, a panel a case; and the first samples of the arms."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.claims.claim import Claim, Form
from benchmarks.claims.records import Record
from snrise import plots
from snrise.plots.style import COLOURS, INK, dress, panels

__all__ = ["FIGURES", "drawn", "pictures"]

FIGURES = Path("docs/img/claims")
#: Panels in a row.
ACROSS = 3


def drawn(claim: Claim, form: Form, records: Sequence[Record]) -> Path:
    """Draw of each case the first column of the claim's table that it has."""
    cases = list(dict.fromkeys(record.case for record in records))
    title = f"{claim.name}, {form} form"
    figure, axes = panels(len(cases), title, columns=min(ACROSS, len(cases)))
    for ax, case in zip(axes, cases, strict=True):
        found = [record for record in records if record.case == case]
        metric = next(name for name in claim.columns if any(name in record.metrics for record in found))
        mine = [record for record in found if metric in record.metrics]
        arms = list(dict.fromkeys(record.arm for record in mine))
        for i, arm in enumerate(arms):
            values = [record.metrics[metric] for record in mine if record.arm == arm]
            ax.plot([i] * len(values), values, "o", color=COLOURS[i % len(COLOURS)], markersize=5, alpha=0.7)
            ax.plot([i - 0.25, i + 0.25], [mean(values)] * 2, color=INK, linewidth=1.4)
        ax.set_xticks(range(len(arms)), arms, rotation=20, ha="right")
        ax.set_xlim(-0.6, len(arms) - 0.4)
        low, high = ax.get_ylim()
        ax.set_ylim(min(0.0, low), high + 0.05 * (high - min(0.0, low)))
        dress(ax, title=case, x="", y=metric)
    file = FIGURES / f"{claim.name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, file)
    return file


def pictures(claim: Claim, form: Form) -> Path | None:
    """The first samples of seed 0 of each arm, a row a case; None for a claim that draws none."""
    rows = {f"{case}: {arm}": job.picture(0)  # type: ignore[attr-defined]  # of some jobs
            for case, arms in claim.study(form).cases.items() for arm, job in arms.items() if hasattr(job, "picture")}
    found = {name: file for name, file in rows.items() if file.exists()}
    if not found:
        return None
    columns = max(len(arms) for arms in claim.study(form).cases.values())
    file = FIGURES / f"{claim.name}-samples.jpg"
    plots.captioned(found, columns=min(columns, ACROSS)).save(file, quality=85)
    return file
