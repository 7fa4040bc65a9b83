"""Whether down-sampling at once costs quality."""

from benchmarks.claims.arms import LEVELS, QUICKLY, SHORT, trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import Judged
from benchmarks.claims.verdict import Costs, Expectation

#: The level above 16×16 cells: half as wide, so that a block costs as much.
WIDE = "{channels: 32, blocks: 2}"
#: Arms by side: stem, kind, and the levels above 16×16 cells.
STEMS = {
    64: {"2×": (2, "wavelet", f"{WIDE}, "), "4×, wavelet": (4, "wavelet", ""), "4×, convolution": (4, "conv", "")},
    128: {"4×": (4, "wavelet", f"{WIDE}, "), "8×, wavelet": (8, "wavelet", ""), "8×, convolution": (8, "conv", "")},
}


def arms(side: int, images: int, *more: str, **how: int) -> dict[str, Judged]:
    """The same blocks at 16×16 and 8×8 cells behind several stems."""
    return {
        name: Judged(**how, config=trunk(
            side, images, f"name=stem{stem}-{kind}", "schedule.reference=[32,32]", f"network.stem={stem}",
            f"network.stem_kind={kind}", f"network.levels=[{above}{LEVELS}]", *more))
        for name, (stem, kind, above) in STEMS[side].items()
    }


def expected(*sides: int) -> tuple[Expectation, ...]:
    """The larger stem costs a tenth of the quality at most, and saves a fifth of the multiplications or more."""
    return tuple(
        Costs(case=f"{side} px", arm=arm, than=first, metric=metric, share=share)
        for side in sides for first, *others in [list(STEMS[side])] for arm in others
        for metric, share in (("KID-EffNet", 0.1), ("GMAC an image", -0.2))
    )


CLAIM = Claim(
    name="stems",
    title="Down-sampling at once costs little quality, and saves computing.",
    about=(
        f"The network of the claim `shift`, on {SHORT:,} emoji with the schedule shifted from 32 px. The smaller stem "
        "has two blocks each way at twice the resolution in addition; the larger one goes down to 16×16 cells at "
        "once, by Haar wavelets or by a strided convolution. All see as many images; `GMAC an image` is what the "
        "network multiplies for one, forward. A nested network is in the claim `growing`."
    ),
    refuted="A distance that is larger by more than a tenth, or less than a fifth of the multiplications saved.",
    full=Study(cases={f"{side} px": arms(side, SHORT) for side in STEMS}, expected=expected(*STEMS)),
    quick=Study(cases={"64 px": arms(64, 3200, "sampling.steps=16", **QUICKLY)}, expected=expected(64)),
    columns=("KID-EffNet", "GMAC an image", "KID-STLPIPS", "FD-EffNet", "spectral distance"),
)
