"""Quality against network evaluations, by sampler."""

from collections.abc import Mapping

from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.samplers.drawn import SAMPLERS, Across, Drawn
from benchmarks.claims.verdict import Beats, Costs, Expectation

__all__ = ["CLAIM"]

KID = "KID-EffNet"
#: After 16 evaluations the solver is worse than with all of 64 by no more than this share.
ARRIVED = 0.1


def _case(evaluations: int) -> str:
    return f"{evaluations} evaluations"


def _cases(pictures: int, **arms: tuple[str, ...]) -> Mapping[str, Mapping[str, Drawn]]:
    """Samplers by case; `on_8` are those with 8 evaluations."""
    return {
        _case(number): {name: Drawn(sampler=name, evaluations=number, pictures=pictures) for name in names}
        for number, names in ((int(case.removeprefix("on_")), names) for case, names in arms.items())
    }


def _solver_wins(*numbers: int) -> tuple[Expectation, ...]:
    """DPM-Solver++ against DDIM, which is its first order."""
    return tuple(Beats(case=_case(number), arm="DPM-Solver++", than="DDIM", metric=KID) for number in numbers)


ALL = tuple(SAMPLERS)

CLAIM = Claim(
    name="samplers",
    title="With 16 network evaluations DPM-Solver++ has arrived, ahead of DDIM; from 32 on, noise is better.",
    about="""\
Pictures of the built-in `emoji-32` at 32 px, in the data's proportions of classes, without guidance, on a grid of λ
uniform in time, by ancestral sampling (η = 1, γ = 0), DDIM, Heun's method, DPM-Solver++(2M) and its SDE form (η = 1),
on 8, 16 and 32 network evaluations a picture. Heun's method takes an odd number, so it has one less; what was counted
at the network is in `evaluations`. Ancestral sampling and DPM-Solver++ are tried on 64, too. In full 250 pictures, in
the quick study 100, on 8 and 16. Seeds are those of sampling: they set noise and classes. There is one network, so
spreads say nothing of another training.

Expected: DPM-Solver++ beats DDIM, its first order, on 8 and on 16 evaluations; on 16 it is at most 10 % worse than on
64; on 32, ancestral sampling, whose noise corrects errors of the network, beats it. Of Heun's method and the SDE form
nothing is expected.""",
    refuted=(
        "Any of these is the other way round by more than two spreads, or the solver on 16 evaluations is over 10 % "
        "worse, beyond the spread."
    ),
    full=Study(
        cases=_cases(250, on_8=ALL, on_16=ALL, on_32=ALL, on_64=("ancestral", "DPM-Solver++")),
        expected=(
            *_solver_wins(8, 16),
            Beats(case=_case(32), arm="ancestral", than="DPM-Solver++", metric=KID),
            Across(arm="DPM-Solver++", expected=Costs(
                case="DPM-Solver++", arm=_case(16), than=_case(64), metric=KID, share=ARRIVED,
            )),
        ),
    ),
    quick=Study(cases=_cases(100, on_8=ALL, on_16=ALL), expected=_solver_wins(8, 16)),
    columns=(KID, "KID-STLPIPS", "recall (EffNet)", "spectral distance", "evaluations"),
    remarks="""\
Kernel distances of so few pictures have an error of their own, which the spread over seeds holds. Guidance, which
doubles the evaluations, and other grids are in [evaluation.md](evaluation.md).""",
)
