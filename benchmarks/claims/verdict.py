"""What a claim expects of the numbers, and what they say to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import sqrt
from typing import NamedTuple, Protocol, final

from benchmarks.claims.records import Record, Summary, summary

__all__ = ["AtMost", "Beats", "Costs", "Expectation", "Finding", "Outcome", "Same", "together"]

#: A difference counts beyond so many standard deviations.
BEYOND = 2.0
#: Fewer seeds say nothing about a spread.
FEWEST = 3


class Outcome(Enum):
    """What the numbers say."""

    SHOWN = "shown"
    OPEN = "not shown"
    REFUTED = "refuted"
    MISSING = "not measured"


class Finding(NamedTuple):
    """An outcome, and the sentence with its numbers."""

    outcome: Outcome
    text: str


class Expectation(Protocol):
    """Something that a claim says of its records."""

    def __call__(self, records: Sequence[Record]) -> Finding: ...


@final
@dataclass(frozen=True, kw_only=True)
class Beats:
    """In a case, an arm is better than another by more than twice the spread, and by `times` if that is above 1.

    The spread is the root of the mean variance of the two arms.
    """

    case: str
    arm: str
    than: str
    metric: str
    higher: bool = False
    times: float = 1.0

    def __call__(self, records: Sequence[Record]) -> Finding:
        ours, theirs = (summary(records, self.case, arm, self.metric) for arm in (self.arm, self.than))
        if ours is None or theirs is None:
            return _missing(self.case, self.arm, self.than)
        gain = (ours.mean - theirs.mean) * (1 if self.higher else -1)
        told = f"{self.case}: {self.metric} {ours} with {self.arm}, {theirs} with {self.than}"
        spread = _spread(ours, theirs)
        if spread is None or min(ours.n, theirs.n) < FEWEST:
            return Finding(Outcome.OPEN, f"{told}; fewer than {FEWEST} seeds, no proof")
        n = ours.n if ours.n == theirs.n else f"{ours.n} and {theirs.n}"
        told = f"{told} (n = {n}; a difference of {_ratio(abs(gain), spread)} spreads)"
        if gain < -BEYOND * spread:
            return Finding(Outcome.REFUTED, told)
        if self.times > 1:
            ratio = (ours.mean / theirs.mean) if self.higher else (theirs.mean / ours.mean)
            told += f", {ratio:.1f} times; claimed {self.times:g}"
            return Finding(Outcome.SHOWN if ratio >= self.times and gain > BEYOND * spread else Outcome.REFUTED, told)
        return Finding(Outcome.SHOWN if gain > BEYOND * spread else Outcome.OPEN, told)


@final
@dataclass(frozen=True, kw_only=True)
class Costs:
    """In a case, an arm's metric is worse than another's by no more than a share of it, beyond the spread or not."""

    case: str
    arm: str
    than: str
    metric: str
    share: float

    def __call__(self, records: Sequence[Record]) -> Finding:
        ours, theirs = (summary(records, self.case, arm, self.metric) for arm in (self.arm, self.than))
        if ours is None or theirs is None:
            return _missing(self.case, self.arm, self.than)
        loss = ours.mean / theirs.mean - 1
        told = f"{self.case}: {self.metric} {ours} with {self.arm}, {theirs} with {self.than} (n = {ours.n}): "
        told += f"{loss:+.0%}, where {self.share:+.0%} is allowed"
        spread = _spread(ours, theirs)
        if spread is None or min(ours.n, theirs.n) < FEWEST:
            return Finding(Outcome.OPEN, f"{told}; fewer than {FEWEST} seeds, no proof")
        over = ours.mean - (1 + self.share) * theirs.mean
        if abs(over) <= spread:  # the limit itself is within the spread of the two
            return Finding(Outcome.OPEN, told)
        return Finding(Outcome.SHOWN if over < 0 else Outcome.REFUTED, told)


@final
@dataclass(frozen=True, kw_only=True)
class AtMost:
    """In a case, the metric of an arm has an absolute value up to a bound with every seed."""

    case: str
    arm: str
    metric: str
    bound: float

    def __call__(self, records: Sequence[Record]) -> Finding:
        mine = [r.metrics[self.metric] for r in records if (r.case, r.arm) == (self.case, self.arm)]
        if not mine:
            return _missing(self.case, self.arm)
        worst = max(mine, key=abs)
        told = f"{self.case}: {self.metric} of {self.arm} is {worst:.3g} at most (n = {len(mine)})"
        told += f"; allowed {self.bound:g}"
        return Finding(Outcome.SHOWN if abs(worst) <= self.bound else Outcome.REFUTED, told)


@final
@dataclass(frozen=True, kw_only=True)
class Same:
    """In a case, the metric of an arm is that of another to the last bit, seed by seed."""

    case: str
    arm: str
    than: str
    metric: str

    def __call__(self, records: Sequence[Record]) -> Finding:
        ours, theirs = (
            {r.seed: r.metrics[self.metric] for r in records if (r.case, r.arm) == (self.case, arm)}
            for arm in (self.arm, self.than)
        )
        if not ours or ours.keys() != theirs.keys():
            return _missing(self.case, self.arm, self.than)
        differing = sum(ours[seed] != theirs[seed] for seed in ours)
        same = len(ours) - differing
        told = f"{self.case}: {self.metric} of {self.arm} is that of {self.than} in {same} of {len(ours)}"
        return Finding(Outcome.REFUTED if differing else Outcome.SHOWN, told)


def together(findings: Sequence[Finding]) -> str:
    """The verdict on a claim, in a few words."""
    kinds = [finding.outcome for finding in findings]
    counts = {outcome: kinds.count(outcome) for outcome in Outcome if outcome in kinds}
    if len(counts) == 1:
        return next(iter(counts)).value
    return ", ".join(f"{outcome.value} in {count} of {len(kinds)}" for outcome, count in counts.items())


def _spread(ours: Summary, theirs: Summary) -> float | None:
    """The root of the mean variance."""
    if ours.spread is None or theirs.spread is None:
        return None
    return sqrt((ours.spread**2 + theirs.spread**2) / 2)


def _ratio(gain: float, spread: float) -> str:
    return f"{gain / spread:.1f}" if spread else "∞"


def _missing(case: str, *arms: str) -> Finding:
    return Finding(Outcome.MISSING, f"{case}: {' and '.join(arms)}")
