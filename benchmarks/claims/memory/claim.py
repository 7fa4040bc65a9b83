"""Whether samples are new, or copies of images trained on."""

from benchmarks.claims.arms import QUICKLY, trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import NEAR, Judged
from benchmarks.claims.verdict import AtMost

SETS = {
    "emoji, 64 px": (64, 51_200, ()),
    "textures, 64 px": (64, 38_400, (
        "data.source=folder", "data.path=runs/claims/data/textures", "data.classes=null", "data.flip=true")),
    "photographs, 32×64 px": (32, 25_600, (
        "data.source=folder", "data.path=runs/claims/data/photographs", "data.classes=null", "data.flip=true",
        "data.resolution=[32,64]")),
}
#: Where samples are new, 0.05 is expected; so much is still put down to chance and to how few images are held out.
BOUND = 0.1


def job(name: str, images: int | None = None, *more: str, **how: int) -> Judged:
    """A training on three quarters of a data set."""
    side, length, data = SETS[name]
    return Judged(**how, config=trunk(
        side, images or length, "name=memory", "schedule.reference=[32,32]", "data.hold_out=4", *data, *more))


FULL = {name: {"trained": job(name)} for name in SETS}
QUICK = {"emoji, 64 px": {"trained": job("emoji, 64 px", 6400, "sampling.steps=16", **QUICKLY)}}

CLAIM = Claim(
    name="memory",
    title="Samples are new: they are no nearer to the images trained on than images held out are.",
    about=(
        "Every fourth image is held out, whole. `near copies` is the share of samples that are nearer to some "
        f"training image, by EfficientNet-Lite0, than {1 - NEAR:.0%} of the held-out images are to theirs: {NEAR:g} "
        "for new pictures, 1 for copies. Held-out images of a data set with near duplicates, such as two drawings of "
        "one clock, are near to training images themselves."
    ),
    refuted=f"A share of near copies above {BOUND:g}.",
    full=Study(cases=FULL, expected=tuple(
        AtMost(case=name, arm="trained", metric="near copies", bound=BOUND) for name in FULL)),
    quick=Study(cases=QUICK, expected=tuple(
        AtMost(case=name, arm="trained", metric="near copies", bound=BOUND) for name in QUICK)),
    columns=("near copies", "KID-EffNet", "KID-STLPIPS", "precision (EffNet)", "recall (EffNet)", "spectral distance"),
)
