"""Whether shifting the schedule by −2 log s pays."""

from benchmarks.claims.arms import LONG, QUICKLY, SHORT, trunk
from benchmarks.claims.claim import Claim, Study
from benchmarks.claims.trainings import Judged
from benchmarks.claims.verdict import Beats, Expectation
from snrise.config import RunConfig

#: The schedule's reference by arm: the resolution at which the cosine schedule holds unshifted.
REFERENCES = {"not shifted": "null", "from 64 px": "[64,64]", "from 32 px": "[32,32]"}
TEXTURES = ("data.source=folder", "data.path=runs/claims/data/textures", "data.classes=null", "data.flip=true",
            "data.hold_out=8")
PHOTOGRAPHS = ("data.source=folder", "data.path=runs/claims/data/photographs", "data.classes=null", "data.flip=true",
               "data.hold_out=8", "data.resolution=[64,128]")


def arm(side: int, images: int, reference: str, *more: str) -> RunConfig:
    """A run at a side whose schedule is shifted from a resolution."""
    names = {"null": "unshifted", "[64,64]": "shift64", "[32,32]": "shift32"}
    return trunk(side, images, f"name={names[reference]}", f"schedule.reference={reference}", *more)


def arms(side: int, images: int, *names: str, more: tuple[str, ...] = (), **how: int) -> dict[str, Judged]:
    """Arms by name."""
    return {name: Judged(config=arm(side, images, REFERENCES[name], *more), **how) for name in names}


ENDS = ("not shifted", "from 32 px")
FULL = {
    "64 px": arms(64, SHORT, *ENDS),
    "128 px": arms(128, SHORT, *REFERENCES),
    "256 px": arms(256, SHORT, *ENDS),
    "64 px, long": arms(64, LONG[64], *ENDS),
    "128 px, long": arms(128, LONG[128], *ENDS),
    "256 px, long": arms(256, LONG[256], *ENDS),
    "128 px, textures": arms(128, SHORT, *ENDS, more=TEXTURES),
    "64×128 px, photographs": arms(64, SHORT, *ENDS, more=PHOTOGRAPHS),
}


def expected(*cases: str) -> tuple[Expectation, ...]:
    """The shifted schedule is better by features of both kinds."""
    return tuple(
        Beats(case=case, arm="from 32 px", than="not shifted", metric=metric)
        for case in cases for metric in ("KID-EffNet", "KID-STLPIPS")
    )


QUICK = {"128 px": arms(128, 3200, *ENDS, more=("sampling.steps=16",), **QUICKLY)}

CLAIM = Claim(
    name="shift",
    title="Shifting the log-SNR by −2 log s helps at 64, 128 and 256 px, after short and long training.",
    about=(
        f"The same network is trained with the cosine schedule as it is and shifted from 32 px, on {SHORT:,} emoji "
        f"(short), and on {LONG[64]:,} at 64 and 128 px and {LONG[256]:,} at 256 px (long), with the learning rate "
        "falling to 0. A wavelet stem leaves 16×16 cells (at 256 px 32×32, with one more block there), x is "
        "predicted, samples are made in 32 ancestral steps without guidance. Textures and photographs are those of "
        "`python -m benchmarks.claims.data`, an eighth held out."
    ),
    refuted="A lower distance without the shift, beyond twice the spread, by either kind of features.",
    full=Study(cases=FULL, expected=expected(*FULL)),
    quick=Study(cases=QUICK, expected=expected(*QUICK)),
    columns=("KID-EffNet", "KID-STLPIPS", "FD-EffNet", "spectral distance"),
)
