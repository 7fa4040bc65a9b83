"""A claim: what is said, what would refute it, and the measurements that decide."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

from benchmarks.claims.records import Record, Results, machine
from benchmarks.claims.verdict import Expectation, Finding
from snrise._typing import StrEnum

__all__ = ["Claim", "Form", "Job", "Study"]

HERE = Path(__file__).parent
#: Where trainings, samples and new results are kept.
RUNS = Path("runs/claims")


class Job(Protocol):
    """A measurement of one arm: `settings` identify it; called with a seed, it takes up what it had begun before."""

    @property
    def settings(self) -> str:
        """All that its numbers depend on, as text."""

    def __call__(self, seed: int) -> Mapping[str, float]:
        """Metrics by name."""


@final
@dataclass(frozen=True, kw_only=True)
class Study:
    """Arms by case, each with so many seeds, and what is expected of them."""

    cases: Mapping[str, Mapping[str, Job]]
    expected: tuple[Expectation, ...]
    seeds: int = 3

    def findings(self, records: Sequence[Record]) -> list[Finding]:
        """What the records say."""
        return [expectation(records) for expectation in self.expected]

    def plan(self) -> Iterator[tuple[int, str, str, Job]]:
        """Seed, case, arm and job of each measurement, seed by seed, so that an early look shows every arm."""
        for seed in range(self.seeds):
            for case, arms in self.cases.items():
                for arm, job in arms.items():
                    yield seed, case, arm, job


class Form(StrEnum):
    """A study that the documentation shows, or the one that anybody can repeat in minutes."""

    FULL = "full"
    QUICK = "quick"


@final
@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of snrise: a title that says it, what would refute it, and the studies that decide it.

    Attributes:
        name: the name on the command line, and of its folder.
        title: the claim, a sentence.
        about: how it is measured, in Markdown.
        refuted: what would refute it.
        full: the study in full, whose figures the documentation shows.
        quick: one of ten minutes at most on two cores, which anybody can repeat.
        columns: the metrics that tables show; a figure shows the first that its case has.
        remarks: what else the results say and do not say, in Markdown.
    """

    name: str
    title: str
    about: str
    refuted: str
    full: Study
    quick: Study
    columns: tuple[str, ...]
    remarks: str = ""

    def study(self, form: Form) -> Study:
        """The study of a form."""
        return self.quick if form is Form.QUICK else self.full

    def recorded(self, form: Form) -> Results:
        """The results that the documentation shows."""
        return Results(HERE / self.name / f"{form}.json")

    def results(self, form: Form, runs: Path = RUNS) -> Results:
        """The results of this machine."""
        return Results(runs / self.name / f"{form}.json")

    def measure(
        self, form: Form, results: Results, tell: Callable[[str], None], part: str = "", seeds: Sequence[int] = ()
    ) -> None:
        """Measure what `results` do not hold yet: cases with `part` in their names, only `seeds` if any."""
        study = self.study(form)
        plan = [one for one in study.plan() if part in one[1] and (not seeds or one[0] in seeds)]
        if not plan:
            tell(f"{self.name}: nothing is meant: it has the seeds 0 to {study.seeds - 1} of {', '.join(study.cases)}")
        for number, (seed, case, arm, job) in enumerate(plan, start=1):
            if results.find(case, arm, seed, job.settings) is not None:
                continue
            tell(f"{self.name}: {number} of {len(plan)}: {case}, {arm}, seed {seed}")
            started = time.perf_counter()
            metrics = dict(job(seed))
            results.add(Record(
                case=case, arm=arm, seed=seed, settings=job.settings, metrics=metrics,
                seconds=round(time.perf_counter() - started, 1), machine=machine(),
            ))
            shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in self.columns if name in metrics)
            tell(f"{self.name}: {case}, {arm}, seed {seed}: {shown}; {time.perf_counter() - started:.0f} s")

    def present(self, form: Form, results: Results) -> list[Record]:
        """The records of the study's arms as they are now; those of other settings are left out."""
        found = (results.find(case, arm, seed, job.settings) for seed, case, arm, job in self.study(form).plan())
        return [record for record in found if record is not None]
