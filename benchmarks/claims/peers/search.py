"""The search that sizes and tunes each system, the same for all, and its trials.

    python -m benchmarks.claims.peers.search
    python -m benchmarks.claims.peers.search --system DiT --side 64

At each side two sizes and two learning rates, each trained for 70 seconds with one seed; then the other way of sampling
with the best of the four. The lowest KID-EffNet of 256 samples is chosen. All trials are kept in `choices.json`.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final

from benchmarks.claims.peers.contender import Contender, Made, Order, System, Way, images_for, pictures_of
from benchmarks.claims.peers.pace import pace_of
from benchmarks.claims.peers.systems import SIDES, SYSTEMS
from benchmarks.claims.records import machine
from benchmarks.claims.texts import read_json, write_json
from benchmarks.claims.trainings import judged

__all__ = ["CHOICES", "JUDGE", "Choice", "choice", "chosen", "search", "settle"]

#: All trials, and what was chosen; it is kept with the claim.
CHOICES = Path(__file__).parent / "choices.json"
#: What decides.
JUDGE = "KID-EffNet"
SECONDS, PICTURES, SEED = 70, 256, 0


@final
@dataclass(frozen=True, kw_only=True)
class Choice:
    """A size, a learning rate and a way of sampling."""

    size: str
    rate: float
    way: Way

    def __str__(self) -> str:
        return f"{self.size}, learning rate {self.rate:g}, {self.way}"


TELL = partial(print, flush=True)
Trial = dict[str, Any]
#: The score of a choice, with whatever else is told of it.
Try = Callable[[Choice], Trial]


def search(system: System, side: int, trial: Try, tell: Callable[[str], None] = TELL) -> list[Trial]:
    """The trials of a system at a side: all sizes and rates with its first way, then its other ways with the best."""
    trials = []

    def tried(one: Choice) -> Trial:
        told = {"size": one.size, "rate": one.rate, "way": list(one.way), **trial(one)}
        tell(f"{side} px: {one}: {JUDGE} {told[JUDGE]:.4f}")
        return told

    for size in system.sizes[side]:
        trials += [tried(Choice(size=size, rate=rate, way=system.ways[0])) for rate in system.rates]
    best = choice(trials)
    return trials + [tried(replace(best, way=way)) for way in system.ways[1:]]


def choice(trials: list[Trial]) -> Choice:
    """The trial with the lowest score."""
    best = min(trials, key=lambda told: told[JUDGE])
    return Choice(size=best["size"], rate=best["rate"], way=Way(*best["way"]))


def chosen(name: str, side: int) -> Choice | None:
    """What is kept of a search; None where there was none."""
    kept = read_json(CHOICES).get(name, {}).get(str(side))
    return None if kept is None else choice(kept["trials"])


def settle(name: str, side: int, again: bool = False) -> Choice:
    """What is kept of a search, or what it finds now."""
    before = chosen(name, side)
    if before is not None and not again:
        return before
    system = SYSTEMS[name]
    trials = search(system, side, lambda one: _trial(system.sizes[side][one.size], one))
    kept = read_json(CHOICES)
    kept.setdefault(name, {})[str(side)] = {
        "seconds": SECONDS, "pictures": PICTURES, "machine": machine(), "trials": trials,
    }
    write_json(kept, CHOICES)
    return choice(trials)


def _trial(contender: Contender, one: Choice) -> Trial:
    pace = pace_of(contender)
    images = images_for(pace, SECONDS)
    made: Made = contender.make(Order(rate=one.rate, images=images, seed=SEED, pictures=PICTURES, way=one.way))
    scores = judged(made.pictures, pictures_of(contender.side))
    shown = {name: round(value, 4) for name, value in scores.items() if name.startswith("KID")}
    return {"images": images, "images per second": pace, "parameters": contender.parameters(), **shown}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, nargs="*", default=list(SYSTEMS))
    parser.add_argument("--side", type=int, choices=SIDES, nargs="*", default=SIDES)
    parser.add_argument("--again", action="store_true", help="what has been settled too")
    options = parser.parse_args()
    for side in options.side:
        for name in options.system:
            print(f"{name} at {side} px: {settle(name, side, again=options.again)}", flush=True)


if __name__ == "__main__":
    main()
