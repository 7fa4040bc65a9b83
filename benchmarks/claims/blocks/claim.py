"""Whether blocks are worth more at 16×16 cells than above."""

from benchmarks.claims.arms import SHORT, trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import Fitted
from benchmarks.claims.verdict import Beats

#: Blocks each way at 32×32 cells, 32 wide, and at 16×16, 64 wide: any of them costs as many multiplications.
PLACES = {"5 above, 1 at 16×16": (5, 1), "3 above, 3 at 16×16": (3, 3), "1 above, 5 at 16×16": (1, 5)}


def arms(images: int) -> dict[str, Fitted]:
    """As many blocks at different places."""
    return {
        name: Fitted(config=trunk(
            64, images, f"name=blocks{high}-{low}", "schedule.reference=[32,32]", "network.stem=2", "data.hold_out=10",
            f"network.levels=[{{channels: 32, blocks: {high}}}, {{channels: 64, blocks: {low}}}, "
            "{channels: 128, blocks: 1, attention: true}]"))
        for name, (high, low) in PLACES.items()
    }


FIRST, MIDDLE, LAST = PLACES
EXPECTED = tuple(Beats(case="64 px", arm=LAST, than=other, metric="v-loss, held out") for other in (FIRST, MIDDLE))

CLAIM = Claim(
    name="blocks",
    title="Blocks are worth more at 16×16 cells than above.",
    about=(
        f"64 px behind a 2× wavelet stem, {SHORT:,} emoji, every tenth held out: six blocks each way are shared out "
        "between 32×32 cells, 32 wide, and 16×16, 64 wide, where a block costs as many multiplications. Judged by the "
        "v-loss of 128 held-out images, the geometric mean of λ = −6, −3, 0, 3, 6."
    ),
    refuted="A lower held-out loss with more of the blocks above.",
    full=Study(cases={"64 px": arms(SHORT)}, expected=EXPECTED),
    quick=Study(cases={"64 px": arms(1600)}, expected=EXPECTED),
    columns=("v-loss, held out", "v-loss, trained on"),
)
