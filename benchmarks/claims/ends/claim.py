"""Whether interpolated ends and a loss at several scales improve on the plain shift."""

from benchmarks.claims.arms import QUICKLY, SHORT, trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import Judged
from benchmarks.claims.verdict import Beats, Costs, Expectation

FACTORS = {64: "[1,2]", 128: "[1,2,4]", 256: "[1,2,4,8]"}


def arms(side: int, images: int, *more: str, **how: int) -> dict[str, Judged]:
    """The plain shift from 32 px, which the claim `shift` trains too, and what is said to be better."""
    settings = {
        "plain shift": ("name=shift32", "schedule.reference=[32,32]"),
        "interpolated": (
            "name=interpolated", f"schedule.reference=[{side},{side}]", "schedule.noisy_reference=[32,32]"),
        "several scales": ("name=scales", "schedule.reference=[32,32]", f"loss.factors={FACTORS[side]}"),
    }
    return {name: Judged(config=trunk(side, images, *of, *more), **how) for name, of in settings.items()}


FULL = {f"{side} px": arms(side, SHORT) for side in FACTORS}


def expected(*cases: str) -> tuple[Expectation, ...]:
    """Interpolation lowers the distance; several scales lower the spectral distance, and cost no quality."""
    return tuple(expectation for case in cases for expectation in (
        Beats(case=case, arm="interpolated", than="plain shift", metric="KID-EffNet"),
        Beats(case=case, arm="several scales", than="plain shift", metric="spectral distance"),
        Costs(case=case, arm="several scales", than="plain shift", metric="KID-EffNet", share=0.05),
    ))


CLAIM = Claim(
    name="ends",
    title="Interpolated ends, and a loss at several scales, improve on the plain shift.",
    about=(
        f"As in the claim `shift`, on {SHORT:,} images. `interpolated` is shifted to 32 px at the noisy end and not at "
        "the clean one. `several scales` adds the loss of images pooled by 2, by 4 and at 256 px by 8."
    ),
    refuted=(
        "A lower distance of the plain shift; a larger spectral distance of the loss at several scales, or a distance "
        "by features that is larger by more than a twentieth."
    ),
    full=Study(cases=FULL, expected=expected(*FULL)),
    quick=Study(
        cases={"128 px": arms(128, 3200, "sampling.steps=16", **QUICKLY)}, expected=expected("128 px"),
    ),
    columns=("KID-EffNet", "spectral distance", "KID-STLPIPS", "FD-EffNet"),
)
