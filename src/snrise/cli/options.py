"""Options that several commands share, checked before anything is computed."""

from pathlib import Path
from typing import Annotated

import typer

from snrise._errors import unknown
from snrise.evaluation import measures
from snrise.metrics import FEATURES, Better, Extractor
from snrise.parallel import World
from snrise.plots import SUFFIXES

__all__ = [
    "BatchOption", "DataOption", "DryRunOption", "FeaturesOption", "MetricOption", "OutOption", "ResolutionOption",
    "SeedOption", "at_a_time", "check_chart", "metric_named",
]

#: Pictures that are made at a time, if not said.
BATCH = 64

FeaturesOption = Annotated[str, typer.Option(help=f"One of {', '.join(FEATURES)}.")]
MetricOption = Annotated[
    str | None, typer.Option(help="What is ranked and drawn, by its name in the report of `snrise evaluate`.",
                             show_default="the kernel distance")
]
DataOption = Annotated[
    str | None, typer.Option(help="A folder of images, WebDataset shards (such as 'train-*.tar'), or `emoji`.",
                             show_default=False)
]
ResolutionOption = Annotated[
    str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default=False)
]
SeedOption = Annotated[
    int | None, typer.Option(help="Fixes everything that is drawn at random.", show_default="the recipe's")
]
OutOption = Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Pictures at a time, in each process.", min=1,
                             show_default=f"{BATCH}, or so many that every process has some")
]


def at_a_time(batch: int | None, number: int, world: World) -> int:
    """How many of a number of pictures to make at a time, by the option."""
    return world.batch(BATCH, number) if batch is None else batch


def metric_named(name: str | None, extractor: Extractor) -> tuple[str, Better]:
    """A score by its name, by default the kernel distance, and which values of it are better."""
    known = measures(extractor)
    chosen = extractor.kernel_name if name is None else name
    if chosen not in known:
        raise unknown("--metric", chosen, known, "metric")
    return chosen, known[chosen]


def check_chart(path: Path) -> None:
    """Raise unless the suffix is that of a picture format."""
    if path.suffix.lower() not in SUFFIXES:
        raise unknown(f"--out {path}", path.suffix, SUFFIXES, "picture format")
