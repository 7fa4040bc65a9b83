"""The search that sizes and tunes each system, the same for all, and its trials.

    python -m benchmarks.claims.peers.search
    python -m benchmarks.claims.peers.search --system DiT --side 64

At each side two sizes and three learning rates, each trained for 70 seconds with one seed; then the other way of
sampling with the best of the six. The lowest KID-EffNet of 256 samples is chosen. All trials are kept in
`choices.json`, each as soon as it is there.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.claims.peers.choices import JUDGE, Choice, Trial, choice, choose, chosen, keep, tried
from benchmarks.claims.peers.contender import Contender, Made, Order, System, images_for, pictures_of
from benchmarks.claims.peers.pace import pace_of
from benchmarks.claims.peers.systems import SIDES, SYSTEMS
from benchmarks.claims.records import machine
from benchmarks.claims.trainings import judged

__all__ = ["search", "settle"]

SECONDS, PICTURES, SEED = 70, 256, 0
TELL = partial(print, flush=True)
#: The score of a choice, with whatever else is told of it.
Try = Callable[[Choice], Trial]


def search(system: System, side: int, trial: Try) -> list[Trial]:
    """The trials of a system at a side: all sizes and rates with its first way, then its other ways with the best."""
    first, *others = system.ways
    choices = [Choice(size=size, rate=rate, way=first) for size in system.sizes[side] for rate in system.rates]
    trials = [trial(one) for one in choices]
    best = choice(trials)
    return trials + [trial(replace(best, way=way)) for way in others]


def settle(name: str, side: int, again: bool = False, tell: Callable[[str], None] = TELL) -> Choice:
    """What is kept of a search, or what it finds now; trials of one that was interrupted are not repeated."""
    before = None if again else chosen(name, side)
    if before is not None:
        return before
    system = SYSTEMS[name]

    def trial(one: Choice) -> Trial:
        network = system.sizes[side][one.size]
        known = {**one.as_json(), "network": repr(network)}
        told = next((t for t in tried(name, side) if known.items() <= t.items()), None)
        if told is None:
            told = {**known, **_trial(network, one)}
            keep(name, side, told)
        tell(f"{side} px: {one}: {JUDGE} {told[JUDGE]:.4f}")
        return told

    best = choice(search(system, side, trial))
    choose(name, side, best)
    return best


def _trial(contender: Contender, one: Choice) -> Trial:
    pace = pace_of(contender)
    images = images_for(pace, SECONDS)
    made: Made = contender.make(Order(rate=one.rate, images=images, seed=SEED, pictures=PICTURES, way=one.way))
    scores = judged(made.pictures, pictures_of(contender.side))
    shown = {name: round(value, 4) for name, value in scores.items() if name.startswith("KID")}
    told = {"seconds": SECONDS, "images": images, "images per second": pace, "parameters": contender.parameters()}
    return {**told, "pictures": PICTURES, **shown, "machine": machine()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, nargs="*", default=list(SYSTEMS))
    parser.add_argument("--side", type=int, choices=SIDES, nargs="*", default=SIDES)
    parser.add_argument("--again", action="store_true", help="look at all trials again")
    options = parser.parse_args()
    for side in options.side:
        for name in options.system:
            print(f"{name} at {side} px: {settle(name, side, again=options.again)}", flush=True)


if __name__ == "__main__":
    main()
