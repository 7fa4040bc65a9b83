"""Whether dropout belongs to the low resolutions alone."""

from benchmarks.claims.arms import trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import Fitted
from benchmarks.claims.verdict import Beats, Expectation

#: Dropout at 16×16 cells, and at 8×8.
SHARES = {"none": (0.0, 0.0), "0.2, low only": (0.0, 0.2), "0.2 everywhere": (0.2, 0.2)}
#: Half of the images are held out, so that the other half is soon known by heart.
SETS = {
    "photographs, 32×64 px": (
        "data.source=folder", "data.path=runs/claims/data/photographs", "data.classes=null", "data.resolution=[32,64]"),
    "textures, 32 px": ("data.source=folder", "data.path=runs/claims/data/textures", "data.classes=null"),
    "emoji, 32 px": (),
}


def arms(images: int, *data: str) -> dict[str, Fitted]:
    """Networks that differ in dropout alone."""
    return {
        name: Fitted(config=trunk(
            32, images, f"name=dropout-{high:g}-{low:g}", "schedule.reference=null", "loss.prediction=v", *data,
            f"network.levels=[{{channels: 64, blocks: 2, dropout: {high}}}, "
            f"{{channels: 128, blocks: 2, attention: true, dropout: {low}}}]"))
        for name, (high, low) in SHARES.items()
    }


def expected(*cases: str) -> tuple[Expectation, ...]:
    """Low dropout helps on images that were not seen, and more than dropout everywhere."""
    return tuple(Beats(case=case, arm="0.2, low only", than=other, metric="v-loss, held out")
                 for case in cases for other in ("none", "0.2 everywhere"))


PHOTOGRAPHS, TEXTURES, EMOJI = SETS
FULL = {
    PHOTOGRAPHS: arms(19_200, *SETS[PHOTOGRAPHS], "data.hold_out=2"),
    TEXTURES: arms(25_600, *SETS[TEXTURES], "data.hold_out=2"),
}
QUICK = {EMOJI: arms(3200, *SETS[EMOJI], "data.hold_out=2")}

CLAIM = Claim(
    name="dropout",
    title="Where images are few, dropout helps, and at the low resolutions alone.",
    about=(
        "Every second photograph (157, 32×64 px, 19,200 images seen) or texture (706, 32 px, 25,600 seen) is held out; "
        "two blocks each way at 16×16 cells, two at 8×8. Judged by the v-loss of 128 held-out images or all, the "
        "geometric mean of λ = −6, −3, 0, 3, 6."
    ),
    refuted="A lower held-out loss without dropout, or with dropout at 16×16 cells too.",
    full=Study(cases=FULL, expected=expected(*FULL)),
    quick=Study(cases=QUICK, expected=expected(*QUICK)),
    columns=("v-loss, held out", "v-loss, trained on"),
    remarks="The quick form trains on half of the emoji, too short to know them by heart.",
)
