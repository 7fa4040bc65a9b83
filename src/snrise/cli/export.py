"""`snrise export`: a run's averaged weights alone, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from snrise._errors import require
from snrise.autoencoding import of_run
from snrise.codecs import EXPORTED, export_autoencoder
from snrise.export import DTYPES, WeightFormat, export_weights
from snrise.trained import averaged, newest, saved

__all__ = ["export"]


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder (its last checkpoint), or one checkpoint file.")],
    out: Annotated[
        Path | None, typer.Option(help="The file, ….safetensors; of an autoencoder the folder, in diffusers' format.",
                           show_default="NAME.safetensors, or NAME")
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="The width of the average, relative to the images seen, such as 0.05, for a "
                                   "run with training.averages.", show_default="the run's half-life")
    ] = None,
    dtype: Annotated[
        WeightFormat, typer.Option(help="What the numbers are kept in; bf16 has 8 bits of precision.")
    ] = WeightFormat.BF16,
) -> None:
    """Write the averaged weights of a run into a small file: for sampling, and to begin other runs with.

    Wherever a run can be sampled from, so can such a file. No training goes on from it; `snrise train --from` begins
    a new one with its weights. Of a run of `snrise train-codec`, a folder that `codec=` and diffusers read.
    """
    if (run / EXPORTED).is_dir() and (codec := of_run(run)) is not None:
        folder = out or Path(codec.name)
        require(ema is None, "--ema", ema, "nothing for an autoencoder, whose average has one width")
        weights = export_autoencoder(str(run), folder, DTYPES[dtype])
        typer.echo(f"{codec.name}, an autoencoder in diffusers' format, in {dtype}: {folder} "
                   f"({weights.stat().st_size / 1e6:.1f} MB)")
        return
    file = newest(run)
    name = saved(file)[1].name
    path = out or Path(f"{name}.safetensors")
    made = export_weights(file, path, dtype, averaged(file, ema))
    size = path.stat().st_size / 1e6
    typer.echo(f"{name}, {made.images_seen:,} images seen, in {dtype}: {path} ({size:.1f} MB)")
