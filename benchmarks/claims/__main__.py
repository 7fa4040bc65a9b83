"""Measure the claims of snrise, each by one command.

    python -m benchmarks.claims                      all of them in full: days on two cores
    python -m benchmarks.claims shift --quick        one of them in ten minutes
    python -m benchmarks.claims shift --case "64 px" only the cases with this in their names
    python -m benchmarks.claims shift --seed 0       one seed of it; another process may take another at the same time
    python -m benchmarks.claims --list               what there is, and how much of it is measured

Every measurement is written to `runs/claims` as soon as it is there, and the same command goes on after an
interruption. What the documentation shows is in `benchmarks/claims/NAME/{full,quick}.json`; what was measured is
compared with it. Needs the extras `bench` and `codec`.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.claims import CLAIMS, page
from benchmarks.claims.claim import RUNS, Claim, Form
from benchmarks.claims.figure import pictures
from benchmarks.claims.records import Record, Results, machine, write
from benchmarks.claims.tables import compared, markdown
from snrise._errors import SnriseError, unknown
from snrise.cpu import keep_freed_memory


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CLAIMS))
    parser.add_argument("--quick", action="store_true", help="in ten minutes each, with less training")
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--seed", type=int, nargs="*", default=[], metavar="N", help="only these seeds")
    parser.add_argument("--list", action="store_true", help="list the claims")
    parser.add_argument("--out", type=Path, default=RUNS, help="where results are kept")
    parser.add_argument("--record", action="store_true", help="make the results here those of the documentation")
    parser.add_argument("--write", action="store_true", help="write the documentation from the recorded results")
    parser.add_argument("--from-recorded", action="store_true", help="begin with the results of the documentation")
    options = parser.parse_args()
    form = Form.QUICK if options.quick else Form.FULL
    keep_freed_memory()
    try:
        claims = [_named(name) for name in options.names or CLAIMS]
        if options.list:
            listed(claims)
        elif not options.write:
            for claim in claims:
                one(claim, form, options)
        if options.record or options.write:
            page.write()
    except SnriseError as error:
        sys.exit(f"error: {error}")


def _named(name: str) -> Claim:
    if name not in CLAIMS:
        raise unknown("claims", name, CLAIMS, "claim")
    return CLAIMS[name]


def listed(claims: list[Claim]) -> None:
    """Print each claim, and how many of its measurements are recorded."""
    for claim in claims:
        counts = (f"{form}: {len(claim.present(form, claim.recorded(form)))} of {len([*claim.study(form).plan()])}"
                  for form in Form)
        print(f"{claim.name}: {claim.title}\n    recorded, {'; '.join(counts)}")


def one(claim: Claim, form: Form, options: argparse.Namespace) -> None:
    """Measure a claim, and print what came of it beside what the documentation says."""
    print(f"\n{claim.title}\nrefuted by: {claim.refuted}\non {machine()}\n", flush=True)
    results = claim.results(form, options.out)
    if options.from_recorded:
        for record in claim.recorded(form):
            if results.find(record.case, record.arm, record.seed, record.settings) is None:
                results.add(record)
    claim.measure(form, results, lambda line: print(line, flush=True), options.case, options.seed)
    records = claim.present(form, results)
    shown(claim, form, records)
    if options.record:
        recorded(claim, form, results, records)


def shown(claim: Claim, form: Form, records: list[Record]) -> None:
    """Print tables, findings, and how far they agree with those of the documentation."""
    print(f"\n{markdown(claim, records)}\n")
    for finding in claim.study(form).findings(records):
        print(f"{finding.outcome.value}: {finding.text}")
    known = claim.present(form, claim.recorded(form))
    if known and known != records:
        print(f"\nbeside the documentation:\n{compared(claim, records, known)}")


def recorded(claim: Claim, form: Form, results: Results, records: list[Record]) -> None:
    """Keep results and pictures in the repository."""
    file = claim.recorded(form).file
    write(records, file)
    if form is Form.FULL or not len(claim.recorded(Form.FULL)):
        pictures(claim, form)
    print(f"recorded: {len(records)} of {len(results)} results in {file}")


if __name__ == "__main__":
    main()
