"""Pixels and codes of an autoencoder on one budget, the autoencoder's training included, with several seeds.

    python benchmarks/rivals.py --side 128 --budget 10m --codec 4m --given runs/codec-emoji-f8 --seeds 3

All arms have the same trunk: blocks at 16×16 and 8×8. `pixels` gets there by a wavelet stem; `codes` by an autoencoder
that is trained first, for as long as `--codec` says, out of the same budget; `given` by the autoencoder of `--given`,
whose seconds come on top of the budget. It prints each command before it runs it, and the same command goes on where it
stopped. Writes `OUT/rivals-SIDE.json` and `.png`, the samples of all arms, and prints a table in Markdown.
"""

import argparse
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

from snrise import plots
from snrise.codecs import Autoencoder
from snrise.quantities import parse_time
from snrise.runs.comparison import Point, table

#: What all arms share: that of docs/evidence.md.
TRUNK = (
    "'network.levels=[{channels: 128, blocks: 2}, {channels: 256, blocks: 1, attention: true}]' sampling.guidance=1 "
    "sampling.steps=32"
)
#: By side: the stem of the pixels, their prediction and the scales of their loss; the autoencoder's recipe.
PIXELS = {
    64: "network.stem=4 network.stem_kind=wavelet loss.prediction=x loss.factors=[1,2]",
    128: "network.stem=8 network.stem_kind=wavelet loss.prediction=x loss.factors=[1,2,4]",
}
CODECS = {64: "emoji-f4", 128: "emoji-f8"}
METRICS = ("KID-EffNet", "FD-EffNet", "precision", "recall", "spectral distance")


def run(*command: str) -> None:
    """Show a command, and run it."""
    print("$", shlex.join(command), flush=True)
    subprocess.run(command, check=True)


def arm(name: str, side: int, codec: Path | None) -> str:
    """The settings of an arm."""
    common = f"emoji-32 {TRUNK} name={name} data.resolution=[{side},{side}]"
    if codec is None:
        return f"{common} {PIXELS[side]} schedule.reference=[32,32]"
    return f"{common} codec={codec} network.stem=1 schedule.reference=null"


def compared(folder: Path, budget: float, arms: list[str], options: argparse.Namespace) -> Iterator[Point]:
    """The judged moments of arms that are trained for so many seconds."""
    numbers = {"--seeds": options.seeds, "--points": options.points, "-n": options.number, "--out": folder}
    given = (str(text) for pair in numbers.items() for text in pair)
    run("snrise", "compare", "--budget", f"{budget:.0f}s", *given, *arms)
    yield from (Point(**told) for told in json.loads((folder / "comparison.json").read_text()))


def row(name: str, points: list[Point], codec: float) -> dict[str, Any]:
    """An arm at the end: each metric as mean and standard deviation over seeds."""
    mine = [point for point in points if point.arm == name]
    ends = {metric: table(mine, metric)[0] for metric in METRICS}
    last = [point for point in mine if point.images_seen == max(p.images_seen for p in mine)]
    return {
        "arm": name, "seeds": len(last), "images": last[0].images_seen, "codec_seconds": round(codec),
        "seconds": round(mean(point.seconds for point in last)),
        "pictures_per_second": round(median(point.pictures_per_second or 0.0 for point in last), 1),
        **{metric: [end.mean, end.spread] for metric, end in ends.items()},
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    head = ["arm", *METRICS, "images", "seconds", "of its codec", "pictures/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for told in rows:
        numbers = (f"{m:.3g}" + ("" if s is None else f" ± {s:.2g}") for m, s in (told[metric] for metric in METRICS))
        rest = (told["images"], told["seconds"], told["codec_seconds"], told["pictures_per_second"])
        lines.append(f"| {told['arm']} | " + " | ".join([*numbers, *(f"{value:,}" for value in rest)]) + " |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, choices=sorted(PIXELS), default=128)
    parser.add_argument("--budget", default="10m", help="of an arm, its codec included")
    parser.add_argument("--codec", default="4m", help="of it, for the training of the codec")
    parser.add_argument("--given", type=Path, help="a codec whose seconds come on top of the budget")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--points", type=int, default=2)
    parser.add_argument("--number", type=int, default=256, help="pictures that a run is judged by")
    parser.add_argument("--out", type=Path, default=Path("runs/rivals"))
    options = parser.parse_args()
    side, out, budget = options.side, options.out, parse_time(options.budget, "--budget")
    codec = out / f"codec-{side}"
    run("snrise", "train-codec", CODECS[side], "--budget", options.codec, "--out", str(codec))
    seconds = {"pixels": 0.0, "codes": Autoencoder(path=str(codec)).training_seconds or 0.0}
    folders = dict.fromkeys(seconds, out / f"at{side}")
    points = list(compared(out / f"at{side}", budget, [arm("pixels", side, None), arm("codes", side, codec)], options))
    if options.given is not None:
        seconds["given"] = Autoencoder(path=str(options.given)).training_seconds or 0.0
        folders["given"] = out / f"at{side}-given"
        whole = budget + seconds["given"]
        points += compared(folders["given"], whole, [arm("given", side, options.given)], options)
    rows = [row(name, points, spent) for name, spent in seconds.items()]
    written = out / f"rivals-{side}.json"
    written.write_text(json.dumps({"rows": rows, "points": [point._asdict() for point in points]}, indent=1) + "\n")
    grids = {f"{name}, seed {seed}": sorted((folders[name] / f"{name}-seed{seed}" / "samples").glob("*.png"))[-1]
             for name in seconds for seed in range(options.seeds)}
    plots.save(plots.captioned(grids, columns=options.seeds), out / f"rivals-{side}.png")
    print(f"{markdown(rows)}\nwritten: {written}, {out}/rivals-{side}.png")


if __name__ == "__main__":
    main()
