"""`snrise export`: a run's averaged weights alone, in one file, or as a pipeline of diffusers."""

from pathlib import Path
from typing import Annotated

import typer

from snrise._errors import require
from snrise._typing import StrEnum
from snrise.autoencoding import of_run
from snrise.codecs import EXPORTED, export_autoencoder
from snrise.export import DTYPES, WeightFormat, export_weights
from snrise.interop import export_pipeline
from snrise.trained import averaged, load, newest, saved

__all__ = ["export"]


class Format(StrEnum):
    """What a run is exported as."""

    SNRISE = "snrise"
    DIFFUSERS = "diffusers"


def export(
    run: Annotated[Path, typer.Argument(help="A run's folder (its last checkpoint), or one checkpoint file.")],
    out: Annotated[
        Path | None, typer.Option(help="The file, ….safetensors; for diffusers the folder.",
                           show_default="NAME.safetensors, or NAME")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="One file for snrise, or a folder that is a pipeline of diffusers.")
    ] = Format.SNRISE,
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

    With `--format diffusers`, a folder that `snrise.interop.SnrisePipeline.from_pretrained` loads and, without snrise,
    `diffusers.DiffusionPipeline.from_pretrained(…, trust_remote_code=True)`.
    """
    if (run / EXPORTED).is_dir() and (codec := of_run(run)) is not None:
        folder = out or Path(codec.name)
        require(ema is None, "--ema", ema, "nothing for an autoencoder, whose average has one width")
        weights = export_autoencoder(str(run), folder, DTYPES[dtype])
        typer.echo(f"{codec.name}, an autoencoder in diffusers' format, in {dtype}: {folder} "
                   f"({weights.stat().st_size / 1e6:.1f} MB)")
        return
    if form is Format.DIFFUSERS:
        trained = load(run, width=ema)
        folder = export_pipeline(trained, out or Path(trained.config.name), DTYPES[dtype])
        typer.echo(f"{trained.config.name}, {trained.images_seen:,} images seen, in {dtype}: {folder}, a pipeline of "
                   "diffusers")
        return
    file = newest(run)
    name = saved(file)[1].name
    path = out or Path(f"{name}.safetensors")
    made = export_weights(file, path, dtype, averaged(file, ema))
    size = path.stat().st_size / 1e6
    typer.echo(f"{name}, {made.images_seen:,} images seen, in {dtype}: {path} ({size:.1f} MB)")
