"""How fast each network trains on this machine, measured once: while nothing else runs, on all cores.

    python -m benchmarks.claims.peers.pace
    python -m benchmarks.claims.peers.pace --again --side 32

A budget of seconds becomes a number of images by it, so that a training may be interrupted or disturbed afterwards. A
pace is the batch over the median time of the steps in five seconds, behind a few that are left out.
"""

import argparse

from benchmarks.claims.claim import RUNS
from benchmarks.claims.peers.contender import Contender
from benchmarks.claims.peers.systems import SIDES, SYSTEMS
from benchmarks.claims.records import machine
from benchmarks.claims.texts import read_json, write_json

__all__ = ["PACES", "pace_of"]

#: Images a second by machine and network.
PACES = RUNS / "peers/paces.json"
SECONDS = 5.0


def pace_of(contender: Contender, again: bool = False) -> float:
    """Images a second, from the file or measured now."""
    paces = read_json(PACES)
    here, name = machine(), repr(contender)
    if again or name not in paces.get(here, {}):
        paces.setdefault(here, {})[name] = round(contender.pace(SECONDS), 2)
        write_json(paces, PACES)
    pace: float = paces[here][name]
    return pace


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, choices=SIDES, nargs="*", default=SIDES)
    parser.add_argument("--again", action="store_true", help="what has been measured too")
    options = parser.parse_args()
    for side in options.side:
        for name, system in SYSTEMS.items():
            for size, contender in system.sizes[side].items():
                pace, millions = pace_of(contender, again=options.again), contender.parameters() / 1e6
                print(f"{name}, {side} px, {size}: {pace:.1f} images/s, {millions:.2f} M parameters", flush=True)


if __name__ == "__main__":
    main()
