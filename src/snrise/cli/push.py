"""`snrise push`: a run's weights, settings, pictures and model card to the Hugging Face Hub."""

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from snrise.cli.progress import on_stderr, watched
from snrise.export import WeightFormat
from snrise.hub import HubName, publish
from snrise.sharing import About, Parcel, pack

__all__ = ["push"]


def push(
    run: Annotated[
        Path, typer.Argument(help="A run's folder (its last checkpoint), one checkpoint, exported weights, or a name.")
    ],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Where to; made if it is not there.")],
    out: Annotated[
        Path | None, typer.Option(help="Upload nothing: write what would be uploaded into this folder.",
                                  show_default=False)
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Of the weights, as the Hub calls it: mit, cc-by-4.0, "
                                 "….", show_default="not said")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="For the model card: where the images come from, and their licence.",
                                 show_default="not said, but of built-in ones")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", help="How many samples the card shows.", min=1, max=64)] = 16,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="Also what diffusers samples from without snrise: see `snrise export "
                           "--format diffusers`.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="A new repository is for you alone.")] = False,
    ema: Annotated[
        float | None, typer.Option(help="The width of the average, relative to the images seen, for a run with "
                                   "training.averages.", show_default="the run's half-life")
    ] = None,
    dtype: Annotated[WeightFormat, typer.Option(help="What the numbers are kept in.")] = WeightFormat.BF16,
) -> None:
    """Upload a run's averaged weights to the Hub, with settings, samples, schedule and a model card.

    From then on hub:USER/NAME is accepted wherever a run is sampled from, evaluated, or begun with. The model card
    shows the report of `snrise evaluate`, if there is one beside the run. Folders of this machine are not told.
    Log in once: hf auth login.
    """
    name = HubName.parse(f"hub:{repository}")
    about = About(name=str(name), licence=licence, data=data, pictures=number)
    parcel = Parcel(about=about, dtype=dtype, width=ema, pipeline=pipeline)
    with TemporaryDirectory() if out is None else nullcontext(str(out)) as place:
        with watched(on_stderr(), number) as watch:
            packed = pack(run, Path(place), parcel, watch)
        if out is not None:
            typer.echo(f"what {name} would hold: {out}; nothing is uploaded")
            return
        message = f"{packed.config.name}, {packed.images_seen:,} images seen"
        pushed = publish(Path(place), repository, private=private, message=message)
    typer.echo(f"{message}: {pushed}")
