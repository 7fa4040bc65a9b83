"""`snrise evaluate-codec`: how well an autoencoder reconstructs images."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from snrise import plots
from snrise._errors import invalid
from snrise.autoencoding import Reconstruction, judge_reconstruction, of_run, pooled
from snrise.cli.devices import DeviceOption, device_of
from snrise.cli.options import FeaturesOption
from snrise.cli.progress import on_stderr, watched
from snrise.codecs import Autoencoder
from snrise.data import Dataset, Emoji, ImageFolder, Preprocess
from snrise.files import write_atomically
from snrise.metrics import extractor_named, perceptual
from snrise.quantities import parse_size

__all__ = ["evaluate_codec"]

BUILT_IN = "built-in"


def evaluate_codec(
    codec: Annotated[str, typer.Argument(metavar="RUN|DIR|NAME", help="A run of train-codec, a folder in diffusers' "
                                         "format, or a name at the Hub.")],
    data: Annotated[
        str | None, typer.Option(metavar="DIR|built-in", help="Images to reconstruct; built-in are the emoji.",
                                 show_default="those that the run holds out")
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="Of the images: side in pixels, or HEIGHTxWIDTH.", show_default="the run's")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="How many images, at most.", min=2)] = 1000,
    features: FeaturesOption = "efficientnet-lite0",
    distance: Annotated[
        str, typer.Option("--perceptual", help="The perceptual distance: stlpips-alex, stlpips-vgg or lpips-vgg.")
    ] = "stlpips-alex",
    pool: Annotated[
        list[int] | None, typer.Option(help="Also judge images averaged over so many pixels a side and enlarged.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the report.", show_default="CODEC-evaluation")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Judge reconstructions: PSNR, SSIM, perceptual, Fréchet and kernel distance, and the power kept by octave.

    Beside them stand images that are pooled and enlarged, as a codec that nothing was trained for. Writes metrics.json,
    spectrum.png and reconstructions.png.
    """
    extractor, where = extractor_named(features, "--features"), device_of(device)
    network, autoencoder = perceptual(distance, "--perceptual"), Autoencoder(path=codec)
    images = _images(codec, data, resolution)
    indices = images.spread(number)
    arms = {codec: lambda pictures: autoencoder.reconstruct(pictures.to(where))}
    arms |= {f"pooled by {factor}": pooled(factor) for factor in pool or [2, 4]}
    found: dict[str, Reconstruction] = {}
    for name, reconstruct in arms.items():
        with watched(on_stderr(), len(indices), name=name) as watch:
            found[name] = judge_reconstruction(reconstruct, images, indices, extractor, network, watch)
    for line in _table(found):
        typer.echo(line)
    folder = out or Path(f"{Path(codec).name}-evaluation")
    _write(folder, found)
    typer.echo(f"written: {folder}/metrics.json, spectrum.png, reconstructions.png")


def _images(codec: str, data: str | None, resolution: str | None) -> Dataset:
    """Those that a run holds out, or those that are named."""
    config = of_run(codec)
    size = None if resolution is None else parse_size(resolution, "--resolution")
    if data is None:
        if config is None or config.data.hold_out is None:
            raise invalid("--data", None, "images to reconstruct", "give --data DIR or --data emoji")
        return config.held_out(size)
    size = size or (None if config is None else config.data.resolution)
    if size is None:
        raise invalid("--resolution", None, "a side in pixels, or HEIGHTxWIDTH")
    return Dataset(Emoji() if data in (BUILT_IN, "emoji") else ImageFolder(data), Preprocess(size))


def _table(found: dict[str, Reconstruction]) -> list[str]:
    """A line for each score, a column for each arm."""
    first = next(iter(found.values()))
    width = max(14, *(len(name) + 2 for name in found))
    rows = [f"{first.images:,} images".ljust(24) + "".join(name.rjust(width) for name in found)]
    for name in first.scores:
        rows.append(name.ljust(24) + "".join(f"{arm.scores[name]:.4f}".rjust(width) for arm in found.values()))
    for i, octave in enumerate(first.kept.names):
        kept = (f"{float(arm.kept.decibels[i]):+.1f}".rjust(width) for arm in found.values())
        rows.append(f"power {octave}, dB".ljust(24) + "".join(kept))
    return [*rows, *([f"caution: {first.caution}"] if first.caution else [])]


def _write(folder: Path, found: dict[str, Reconstruction]) -> None:
    document = {name: arm.as_json() for name, arm in found.items()}
    write_atomically(folder / "metrics.json", (json.dumps(document, indent=2) + "\n").encode())
    decibels = {name: arm.kept.decibels.tolist() for name, arm in found.items()}
    names = next(iter(found.values())).kept.names
    plots.save(plots.octaves(decibels, names, title="Power kept by reconstructions"), folder / "spectrum.png")
    rows = [next(iter(found.values())).originals, *(arm.pictures for arm in found.values())]
    grid = plots.sample_grid(torch.cat(rows), columns=len(rows[0]))
    plots.save(grid, folder / "reconstructions.png")
