"""The claim about peers: at equal time, better pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from benchmarks.claims.claim import RUNS, Claim, Job, Study
from benchmarks.claims.peers.choices import chosen
from benchmarks.claims.peers.contender import Order, images_for, pictures_of
from benchmarks.claims.peers.pace import pace_of
from benchmarks.claims.peers.search import settle
from benchmarks.claims.peers.systems import PEERS, SNRISE, SYSTEMS
from benchmarks.claims.trainings import judged
from benchmarks.claims.verdict import Beats, Expectation
from snrise import plots

__all__ = ["CLAIM", "Timed"]

METRICS = ("KID-EffNet", "KID-STLPIPS")
SHORT = f"{SNRISE}, 42 s"


@final
@dataclass(frozen=True, kw_only=True)
class Timed:
    """Train a system as it was chosen for a side, for so many seconds by its pace, sample, and judge.

    steps: of sampling; those that were chosen unless given.
    """

    system: str
    side: int
    seconds: int
    pictures: int = 500
    steps: int | None = None

    @property
    def settings(self) -> str:
        picked = chosen(self.system, self.side)
        if picked is None:
            return f"{self!r} not chosen yet"
        contender = SYSTEMS[self.system].sizes[self.side][picked.size]
        return f"{self!r} {contender!r} {picked}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        picked = settle(self.system, self.side)
        contender = SYSTEMS[self.system].sizes[self.side][picked.size]
        pace = pace_of(contender)
        images = images_for(pace, self.seconds)
        way = picked.way if self.steps is None else picked.way._replace(steps=self.steps)
        made = contender.make(Order(rate=picked.rate, images=images, seed=seed, pictures=self.pictures, way=way))
        plots.sample_grid(made.pictures[:16], columns=8).save(self.picture(seed))
        return {
            **judged(made.pictures, pictures_of(self.side)), "training seconds": self.seconds, "images": images,
            "images per second": pace, "pictures per second": round(made.per_second, 2),
            "parameters": contender.parameters(),
        }

    def picture(self, seed: int) -> Path:
        """The file with its first samples."""
        folder = RUNS / "peers/pictures"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.system}-{self.side}px-{self.seconds}s-{self.pictures}-seed{seed}.png"
        return folder / name.replace(" ", "-")


def _case(side: int, minutes: int) -> str:
    return f"{side} px, {minutes} min"


def _arms(side: int, minutes: int) -> dict[str, Job]:
    return {name: Timed(system=name, side=side, seconds=60 * minutes) for name in SYSTEMS}


def _expected(case: str, arm: str, times: float = 1.0) -> tuple[Expectation, ...]:
    """That an arm beats every peer; by so many times by the first metric."""
    return tuple(
        Beats(case=case, arm=arm, than=peer, metric=metric, times=times if metric == METRICS[0] else 1.0)
        for metric in METRICS for peer in PEERS
    )


CASES = {_case(side, minutes): _arms(side, minutes) for minutes in (7, 30) for side in (32, 64, 128)}
CASES[_case(32, 7)] = {SHORT: Timed(system=SNRISE, side=32, seconds=42), **CASES[_case(32, 7)]}
RIVALS = ("simple diffusion", "UNet2DModel")
BRIEF = "32 px, 30 s"
QUICK = {BRIEF: {
    name: Timed(system=name, side=32, seconds=30, pictures=256, steps=16) for name in (SNRISE, *RIVALS)
}}
ABOUT = """
Each system trains for the same seconds on the built-in emoji, without class labels: snrise; simple diffusion of
`denoising-diffusion-pytorch` (`UViT`); `UNet2DModel` and, on patches of pixels, `DiTTransformer2DModel` of diffusers,
trained as in its unconditional example; `image_v1` of k-diffusion. All see the same batches of 32 in the same order,
clip the gradient to a norm of 1, let the learning rate rise over the first 5 % and fall to 0, and are sampled with an
average of their weights whose half-life is 4 % of the run; products are in bfloat16 where the processor multiplies it
natively. Losses, optimizers and samplers are each package's own, as
[`models.py`](../benchmarks/claims/peers/models.py) says.

Each system is sized and tuned by the same search at each side: two sizes and three learning rates (3e-4, 1e-3, 3e-3),
each trained for 70 seconds, then a second way of sampling with the best; what has the lowest KID-EffNet of 256 samples
is what the compared runs use ([all trials](../benchmarks/claims/peers/choices.json)). What the two sizes of snrise are
was found before that by thirteen trainings of 42 seconds at 32 px with one seed,
[which the log tells](log.md#what-42-seconds-are-good-for); nothing was tried of the others beforehand.

Seconds become images by each network's pace, measured alone on all cores, so that a disturbed run counts as an
undisturbed one. The time of sampling does not count; pictures per second are told.
"""
REFUTED = """
At 32 px any peer that is better after 7 minutes than snrise after 42 seconds, beyond twice the spread; at 64 px after 7
minutes any peer whose KID-EffNet is less than 3 times that of snrise; in any case a peer that is better than snrise at
equal time.
"""
REMARKS = """
This is about minutes on a few cores and 1,852 pictures of one kind. It does not say which system is best after days on
a GPU. The sizes are those that did best in 70 seconds; a longer search may find better ones for any of the systems.
Pictures per second depend on what else ran.
"""

CLAIM = Claim(
    name="peers",
    title="At equal time on the same machine, snrise makes better pictures than its peers at their best.",
    about=ABOUT.strip(), refuted=REFUTED.strip(), remarks=REMARKS.strip(),
    columns=(*METRICS, "FD-EffNet", "spectral distance", "images per second", "pictures per second"),
    full=Study(
        cases=CASES,
        expected=(
            *_expected(_case(32, 7), SHORT), *_expected(_case(32, 7), SNRISE),
            *_expected(_case(64, 7), SNRISE, times=3.0),
            *(e for side, minutes in ((128, 7), (32, 30), (64, 30), (128, 30))
              for e in _expected(_case(side, minutes), SNRISE)),
        ),
    ),
    quick=Study(
        cases=QUICK,
        expected=tuple(
            Beats(case=BRIEF, arm=SNRISE, than=peer, metric=metric) for metric in METRICS for peer in RIVALS
        ),
    ),
)
