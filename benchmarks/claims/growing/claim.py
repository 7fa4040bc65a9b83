"""Growing by the exact nest against training anew, in equal seconds."""

from benchmarks.claims.claim import Claim, Job, Study
from benchmarks.claims.growing.timed import BASE, Grown, Timed, begun, going_on, grown
from benchmarks.claims.verdict import Beats, Costs

__all__ = ["CLAIM"]

#: The trunk of the built-in `emoji-32`, behind a stem that leaves it its 16×16 cells at 64 px.
ANEW = (
    "name=emoji-64-anew", "data.resolution=[64,64]", "schedule.reference=[32,32]", "network.stem=4",
    "network.stem_kind=wavelet", "loss.prediction=x", "loss.factors=[1,2]",
)
KID = "KID-EffNet"
GIVEN, COUNTED = "64 px", "64 px, all counted"
#: Trainings take equal time where none takes so much more than another.
UNEQUAL = 0.1


def _drawn(steps: int) -> tuple[str, ...]:
    """How all draw: without guidance."""
    return ("sampling.guidance=1", f"sampling.steps={steps}")


def _given(seconds: float, pictures: int, steps: int, *names: str) -> dict[str, Job]:
    """Arms of equal seconds, of which all but `anew` are given a trained network."""
    drawn = _drawn(steps)
    configs = {
        "grown": grown(BASE, *drawn), "anew": begun("emoji-32", *ANEW, *drawn),
        "gone on": going_on(BASE, "network.stem=4", *drawn, resolution="64"),
    }
    return {name: Timed(config=configs[name], seconds=seconds, pictures=pictures) for name in names}


def _counted(seconds: float, pictures: int, steps: int) -> dict[str, Job]:
    """Arms that all begin with nothing."""
    drawn = _drawn(steps)
    return {
        "grown": Grown(base=begun("emoji-32", *drawn), grown=drawn, seconds=seconds, pictures=pictures),
        "anew": Timed(config=begun("emoji-32", *ANEW, *drawn), seconds=seconds, pictures=pictures),
    }


def _expected(case: str) -> tuple[Beats, Costs]:
    """That the grown one is better, and took no more time."""
    return (
        Beats(case=case, arm="grown", than="anew", metric=KID),
        Costs(case=case, arm="grown", than="anew", metric="training seconds", share=UNEQUAL),
    )


CLAIM = Claim(
    name="growing",
    title="Growing by the exact nest beats training anew at the same size in equal seconds.",
    about="""\
Emoji at 64 px in 97 classes. `grown`: what `snrise train --from emoji-32 --grow 2` trains, an outer level around the
built-in `emoji-32`, which stays as it is. `anew`: the trunk of `emoji-32` behind a 4× wavelet stem, x predicted, a
loss at two scales, from nothing. `gone on`: what `snrise train --from emoji-32 --resolution 64 network.stem=4` trains,
all weights of the same network behind a larger stem.

**64 px** gives `grown` and `gone on` their beginning: the training of `emoji-32`, 420,000 images at 32 px, is not
counted. **64 px, all counted** gives nothing: `grown` spends half of its seconds on a base at 32 px with the recipe
`emoji-32`, and the other half on the outer level; `anew` has as many seconds as both. In full, 120 and 240 seconds of
training and 250 pictures an arm; in the quick study the first case alone, without `gone on`, with 30 seconds and 100
pictures.

The seconds become images by the speed of each arm's first steps, measured once on the machine (`lengths.json`). What a
run then took is in `training seconds`; a machine that does other things beside makes these unequal, and the claim says
so. Drawn without guidance, with the recipe's ancestral sampler, in 32 steps (quick: 16). Seeds are those of training;
pictures are of the sampling seed 0.""",
    refuted=(
        "`anew` is better than `grown` in KID-EffNet by more than two spreads, or `grown` took a tenth more time, "
        "beyond the spread."
    ),
    full=Study(
        cases={GIVEN: _given(120, 250, 32, "grown", "anew", "gone on"), COUNTED: _counted(240, 250, 32)},
        expected=(*_expected(GIVEN), Beats(case=GIVEN, arm="grown", than="gone on", metric=KID), *_expected(COUNTED)),
    ),
    quick=Study(cases={GIVEN: _given(30, 100, 16, "grown", "anew")}, expected=_expected(GIVEN)),
    columns=(KID, "KID-STLPIPS", "recall (EffNet)", "spectral distance", "training seconds", "images"),
    remarks="""\
The inner network of `grown` is frozen, so its faults stay: with time enough, a network that is trained as a whole may
pass it. These studies do not look for that time.""",
)
