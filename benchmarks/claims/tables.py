"""Tables of records, in Markdown."""

from collections.abc import Sequence
from math import sqrt

from benchmarks.claims.claim import Claim
from benchmarks.claims.records import Record, Summary, summary
from benchmarks.claims.verdict import BEYOND

__all__ = ["compared", "markdown", "within"]

#: Two results that are nearer than this share of their size agree, whatever their spread.
CLOSE = 1e-6


def markdown(claim: Claim, records: Sequence[Record]) -> str:
    """One table for all cases: a row for each arm, mean ± standard deviation over seeds."""
    columns = [name for name in claim.columns if any(name in record.metrics for record in records)]
    lines = ["| " + " | ".join(["case", "arm", *columns, "n"]) + " |", "|" + "---|" * (len(columns) + 3)]
    for case, arm in _rows(records):
        found = [summary(records, case, arm, name) for name in columns]
        seeds = sum((record.case, record.arm) == (case, arm) for record in records)
        lines.append("| " + " | ".join([case, arm, *("" if s is None else str(s) for s in found), str(seeds)]) + " |")
    return "\n".join(lines)


def compared(claim: Claim, mine: Sequence[Record], known: Sequence[Record]) -> str:
    """Each mean beside that of the documentation, and whether it is within twice the spread of the two."""
    metric = claim.columns[0]
    lines = [f"| case | arm | {metric} here | in the documentation | |", "|---|---|---|---|---|"]
    for case, arm in _rows(mine):
        ours, theirs = (summary(records, case, arm, metric) for records in (mine, known))
        if ours is not None and theirs is not None:
            said = "within its spread" if within(ours, theirs) else "beyond its spread"
            lines.append(f"| {case} | {arm} | {ours} | {theirs} | {said} |")
    return "\n".join(lines)


def within(ours: Summary, theirs: Summary) -> bool:
    """Whether two means differ by no more than twice the root of the mean variance."""
    spread = sqrt(((ours.spread or 0.0) ** 2 + (theirs.spread or 0.0) ** 2) / 2)
    return abs(ours.mean - theirs.mean) <= max(BEYOND * spread, CLOSE * abs(theirs.mean))


def _rows(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Case and arm of each row."""
    return list(dict.fromkeys((record.case, record.arm) for record in records))
