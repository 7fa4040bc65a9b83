"""Whether plans and budgets come true."""

from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.foresight.foretold import Memory, Pace, Time
from benchmarks.claims.verdict import AtMost

__all__ = ["CLAIM"]

TIME, PACE, MEMORY = "time, s", "pace, images/s", "memory, GiB"
#: Largest errors, as shares of what happened.
BOUNDS = {TIME: 0.1, PACE: 0.15, MEMORY: 0.1}
#: The recipe with grids that are drawn in a second or so, for budgets shorter than one of its own takes.
SMALL_GRIDS = ("emoji-32", "log.grid=16", "sampling.steps=10", "log.tensorboard=false")

MINUTE = Time(arguments=("emoji-32",), budget="60s")
GROWN = Time(arguments=("--from", "emoji-32", "--grow", "2", "log.grid=16"), budget="2m")
SHORT = Time(arguments=SMALL_GRIDS, budget="20s")


def _study(cases: dict[str, dict[str, Time | Pace | Memory]]) -> Study:
    """With the bound of its case for every arm."""
    return Study(cases=cases, expected=tuple(
        AtMost(case=case, arm=arm, metric="error", bound=BOUNDS[case]) for case, arms in cases.items() for arm in arms
    ))


CLAIM = Claim(
    name="foresight",
    title="What `snrise plan` and `--budget` say beforehand is what happens.",
    about="""\
The error is what was said over what happened, less 1, in absolute value, in each of three repetitions; `said` and
`happened` are in the units of the case.

**Time**: `snrise train --budget T` measures the speed for a few seconds and chooses a length; what happened is the
time from the line with which it says so to its last line, the last checkpoint and the last grid of samples included.
In full T is 60 s for the recipe `emoji-32` as it is, and 2 minutes for `grown`, `--from emoji-32 --grow 2` with a grid
of 16 pictures; in the quick study 20 s with a smaller grid. A grid of the recipe, 64 pictures in 50 steps, may take
half a minute on two cores, and a budget shorter than its grid is not kept: a step and the grid are made all the same.
**Pace**: `snrise plan --device this` times steps on noise for 20 seconds; what happened is in the log of the run of
`emoji-32`, which decodes its images while it trains, all seconds of it together. **Memory**: the peak that the plan
predicts for the CPU; what happened is resident memory, three steps of a run in a process of its own, less what it had
after imports and a step of a tiny network, as `benchmarks/memory.py` measures it (Linux with glibc).

Times need a quiet machine: what else it does between the forecast and the run is counted as an error.""",
    refuted="One error above 10 % for time or memory, or above 15 % for the pace.",
    full=_study({
        TIME: {"emoji-32": MINUTE, "grown": GROWN},
        PACE: {"emoji-32": Pace(run=MINUTE)},
        MEMORY: {
            "emoji-32": Memory(recipe="emoji-32"), "s-64": Memory(recipe="s-64", batch=8),
            "s-256": Memory(recipe="s-256", batch=4),
        },
    }),
    quick=_study({
        TIME: {"emoji-32": SHORT},
        PACE: {"emoji-32": Pace(run=SHORT)},
        MEMORY: {"emoji-32": Memory(recipe="emoji-32"), "s-64": Memory(recipe="s-64", batch=8)},
    }),
    columns=("error", "said", "happened"),
)
