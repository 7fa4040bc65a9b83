"""How fast each network trains on this machine: measured while nothing else runs, on all cores.

    python -m benchmarks.claims.peers.pace
    python -m benchmarks.claims.peers.pace --again --chosen --side 32

A budget of seconds becomes a number of images by it, so that a training may be interrupted or disturbed afterwards. A
pace is the batch over the median time of the steps in five seconds, behind a few that are left out; the highest of
three rounds, in each of which every network has its turn, as machines that are shared are slower at times.
"""

import argparse
from collections.abc import Sequence

from benchmarks.claims.claim import RUNS
from benchmarks.claims.peers.choices import chosen
from benchmarks.claims.peers.contender import Contender
from benchmarks.claims.peers.systems import SIDES, SYSTEMS
from benchmarks.claims.records import machine
from benchmarks.claims.texts import read_json, write_json

__all__ = ["PACES", "pace_of"]

#: Images a second by machine and network.
PACES = RUNS / "peers/paces.json"
SECONDS, ROUNDS = 5.0, 3


def pace_of(contender: Contender) -> float:
    """Images a second, from the file or measured now."""
    kept: float | None = read_json(PACES).get(machine(), {}).get(repr(contender))
    return measured([contender])[0] if kept is None else kept


def measured(contenders: Sequence[Contender]) -> list[float]:
    """The images a second of each, measured in turn and written to the file."""
    rounds = [[contender.pace(SECONDS) for contender in contenders] for _ in range(ROUNDS)]
    best = [round(max(of_one), 2) for of_one in zip(*rounds, strict=True)]
    paces = read_json(PACES)
    paces.setdefault(machine(), {}).update(zip(map(repr, contenders), best, strict=True))
    write_json(paces, PACES)
    return best


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, choices=SIDES, nargs="*", default=SIDES)
    parser.add_argument("--chosen", action="store_true", help="only what the search has chosen")
    parser.add_argument("--again", action="store_true", help="what has been measured too")
    options = parser.parse_args()
    known = read_json(PACES).get(machine(), {})
    for side in options.side:
        picked = {name: chosen(name, side) for name in SYSTEMS}
        names = {f"{name}, {side} px, {size}": contender for name, system in SYSTEMS.items()
                 for size, contender in system.sizes[side].items()
                 if not options.chosen or (picked[name] is not None and picked[name].size == size)}
        todo = {name: one for name, one in names.items() if options.again or repr(one) not in known}
        for (name, contender), pace in zip(todo.items(), measured([*todo.values()]), strict=True):
            print(f"{name}: {pace:.1f} images/s, {contender.parameters() / 1e6:.2f} M parameters", flush=True)


if __name__ == "__main__":
    main()
