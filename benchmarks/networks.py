"""The table of networks and their pictures: parameters and multiply-adds of every preset beside the published figures.

    python benchmarks/networks.py --out docs

Nothing is computed with numbers: networks are built on the device "meta". Prints the table that stands in
`networks.md` and writes `img/networks-*.png` under `--out`.
"""

import argparse
from pathlib import Path

from snrise import plots
from snrise.networks import PRESETS, build, cost

#: Millions of parameters and 10⁹ multiply-adds of one image, as the papers have them.
PUBLISHED = {
    "uvit-2b-128": ("2,000", ""), "uvit-2b-256": ("2,000", ""), "uvit-2b-512": ("2,000", ""),
    "sid2-small-256": ("", "137"), "jit-b-256": ("131", "25"), "jit-l-256": ("459", "88"), "jit-h-256": ("953", "182"),
}
PICTURES = {
    "unet": ("unet-128", "unet-256", "unet-512"), "uvit": ("uvit-2b-256", "sid2-small-256", "jit-b-256"),
    "own": ("s-64", "s-256", "m-256"),
}


def side_of(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out = parser.parse_args().out
    print("| preset | image | M parameters | published | GMACs | published |\n|---|---|---|---|---|---|")
    for name in PRESETS:
        side = side_of(name)
        found = cost(build(name, classes=1000, device="meta"), (side, side))
        parameters, gmacs = PUBLISHED.get(name, ("", ""))
        numbers = f"{found.parameters / 1e6:,.1f} | {parameters} | {found.macs / 1e9:,.1f} | {gmacs}"
        print(f"| `{name}` | {side}² | {numbers} |", flush=True)
    for what, names in PICTURES.items():
        shown = {name: (PRESETS[name], (side_of(name), side_of(name))) for name in names}
        plots.save(plots.hourglass(shown, title=""), out / "img" / f"networks-{what}.png")


if __name__ == "__main__":
    main()
