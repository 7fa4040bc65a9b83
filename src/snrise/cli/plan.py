"""`snrise plan`: what a run would cost on a device, level by level, before it is begun."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from snrise import documents, planning, plots
from snrise._errors import require, unknown
from snrise.cli.devices import device_of
from snrise.cli.options import check_chart
from snrise.config import RunConfig, parse
from snrise.construct import kind_of, plain
from snrise.experiment import Experiment
from snrise.networks import PRESETS
from snrise.planning import DEVICES, Plan, Row
from snrise.quantities import parse_size
from snrise.trained import newest
from snrise.training import checkpoints, read_header

__all__ = ["plan"]

GIB = 2**30
#: A row's numbers, how they are told, and in what.
COLUMNS = (("parameters", "Mparams", 1e6), ("flops", "GFLOP", 1e9), ("kept", "MiB kept", 2**20),
           ("checkpointed", "recomp.", 2**20))
#: What a preset is planned with, if nothing is named.
PRESET_RECIPE = "folder"


def plan(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE|CONFIG.yaml|RUN] [KEY=VALUE]...",
                       help="A recipe's name, a YAML file or a run's folder, then settings to change."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A network of docs/networks.md, such as m-512, at its resolution.",
                                 show_default=False)
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(help="Side in pixels, or HEIGHTxWIDTH.", show_default="the recipe's, or the preset's"),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images in a step.", show_default="the recipe's", min=1)] = None,
    classes: Annotated[
        int | None, typer.Option(help="How many classes the images have; 0 for none.", show_default="the data's", min=0)
    ] = None,
    device: Annotated[
        str, typer.Option(help=f"{', '.join(DEVICES)}, cpu, or this: this machine, timed too.")
    ] = "this",
    utilisation: Annotated[
        float, typer.Option(help="The share of a GPU's peak that training reaches.", min=0.01, max=1.0)
    ] = 0.15,
    seconds: Annotated[float, typer.Option(help="How long to time steps on this machine.", min=0.0)] = 20.0,
    out: Annotated[
        Path | None, typer.Option(help="A picture of it: .png, .svg or .pdf.", show_default=False)
    ] = None,
) -> None:
    """Say what training would cost on a device: parameters, operations, memory, time; and whether it is set up well.

    Nothing is trained, but on `--device this` for as long as `--seconds` says.
    """
    if out is not None:
        check_chart(out)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    where = planning.device(device)
    config = parse(_document(arguments or [], preset, resolution, batch))
    known = _classes(_file(arguments or [], preset), config) if classes is None else classes or None
    found = planning.plan(Experiment.imagined(config, known), where)
    console.print(_title(found))
    console.print(_table(found))
    images = f"{found.step.images} images" if found.step.images > 1 else "one image"
    console.print(f"kept for the way back of {images}; recomp.: with activation checkpointing at every level\n")
    for name, value in _memory(found):
        console.print(f"{name:<26}{value}")
    console.print(f"{'a million images':<26}{_time(found, known, device, utilisation, seconds)}")
    problems = found.schedule.problems
    console.print(f"{'schedule':<26}{'fit for this resolution' if not problems else 'not fit for this resolution'}")
    for told in (*(f"schedule: {problem}" for problem in problems), *(f"network: {w}" for w in found.warnings)):
        console.print(told, style="yellow")
    if not found.fits:
        console.print("does not fit:" if found.advice else "does not fit", style="red")
    for told in found.advice:
        console.print(f"  {told}")
    if out is not None:
        console.print(f"written: {plots.save(plots.plan_chart(found), out)}")


def _document(arguments: list[str], preset: str | None, resolution: str | None, batch: int | None) -> dict[str, Any]:
    """The plain settings that the command line asks for."""
    document = documents.read_document(_file(arguments, preset))
    section = document.setdefault("data", {})
    if preset is not None:
        if preset not in PRESETS:
            raise unknown("--preset", preset, PRESETS, "preset")
        document |= {"name": preset, "network": plain(PRESETS[preset])}
        resolution = resolution or preset.rsplit("-", 1)[1]
    if resolution is not None:
        section["resolution"] = list(parse_size(resolution, "--resolution"))
    if section.get("source", "emoji") != "emoji" and section.get("path") is None:
        section |= {"source": "emoji", "classes": None}  # no images are needed
    if batch is not None:
        document.setdefault("training", {})["batch"] = batch
    for assignment in arguments:
        if "=" in assignment:
            documents.override(document, assignment)
    documents.resolve(document)
    return document


def _file(arguments: list[str], preset: str | None) -> str:
    """The recipe or file that is asked for; of a run's folder its settings."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "plan", names, "one recipe, config file or run, then key=value settings")
    name = names[0] if names else documents.DEFAULT_RECIPE if preset is None else PRESET_RECIPE
    return str(Path(name) / "config.yaml") if Path(name).is_dir() else name


def _classes(file: str, config: RunConfig) -> int | None:
    """How many classes the images have, if the settings have any: as a run knows them, or as the data do."""
    if config.data.source.classes is None:
        return None
    run = Path(file).parent
    if checkpoints(run / "checkpoints"):
        names = read_header(newest(run)).extra["classes"]
    else:
        names = config.data.source.open().classes
    return None if names is None else len(names)


def _title(found: Plan) -> str:
    config, how, (height, width) = found.config, found.config.training, found.config.data.resolution
    parts = "" if how.accumulate == 1 else f" in {how.accumulate} parts"
    network = type(config.network).__name__.removesuffix("Config")
    return (
        f"{config.name}: {network} at {height}x{width}, batch {how.batch}{parts}, {kind_of(how.optimizer)}, "
        f"{found.precision.value}; on {found.device.title}, {_gib(found.device.memory)}\n"
    )


def _table(found: Plan) -> Table:
    """A row for each level on each way."""
    table = Table("where", "width", "n", box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for _, told, _ in COLUMNS:
        table.add_column(told)
        table.add_column("%")
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column.header == "where" else "right"
    for row in (*found.rows, found.whole):
        table.add_row(*_cells(row, found.whole), style="bold" if row.name == "all" else None)
    return table


def _cells(row: Row, whole: Row) -> Iterator[str]:
    stage = row.stage
    yield row.name
    yield from ("", "") if stage is None else (str(stage.channels), str(stage.blocks))
    for name, _, unit in COLUMNS:
        part, total = getattr(row, name), getattr(whole, name)
        yield f"{part / unit:,.2f}" if part < 1000 * unit else f"{part / unit:,.0f}"
        yield f"{part / total:.0%}" if row.name != whole.name else ""


def _memory(found: Plan) -> Iterator[tuple[str, str]]:
    """What takes how much memory, and what fits."""
    step, device = found.step, found.device
    names = {"before the step": "weights before it, to log"}
    stays = ", ".join(f"{names.get(name, name)} {size / GIB:,.2f}" for name, size in step.static.items())
    yield "stays", f"{_gib(sum(step.static.values()))}: {stays}"
    kept = sum(step.kept.values()) / GIB
    yield "comes and goes", f"gradients {step.gradients / GIB:,.2f}, kept for the way back {kept:,.2f} GiB"
    yield "most at a time", f"{_gib(step.peak)} of {_gib(device.usable)} that a step may take"
    every, more = found.checkpointed, found.checkpointed.flops / step.flops - 1
    if more > 0:
        yield "all levels checkpointed", f"{_gib(every.peak)}, for {more:.0%} more operations"
    yield "most images at once", f"{found.largest:,}"
    yield "operations", f"{step.flops / 1e9:,.1f} GFLOP an image, forward and backward; x·y + z are two"


def _time(found: Plan, classes: int | None, device: str, utilisation: float, seconds: float) -> str:
    """How long a million images take: measured here, or at a share of the device's peak."""
    if device == "this" and found.largest:
        there = Experiment.imagined(found.config, classes, device_of("auto"))
        timed = planning.probe(there, seconds, min(found.step.images, found.largest))
        reached = f"{timed.images_per_second * found.step.flops / 1e9:,.0f} GFLOP/s"
        return f"{_hours(timed.images_per_second)}: measured here, {timed.batch} at once, {reached}"
    rate, peak = found.images_per_second(utilisation), found.device.peak(found.precision)
    if rate is None or peak is None:
        return "not known: --device this measures it" if device != "this" else "not measured: it does not fit"
    return f"{_hours(rate)} at {utilisation:.0%} of {peak / 1e12:,.0f} TFLOP/s ({found.device.source})"


def _hours(images_per_second: float) -> str:
    seconds = 1e6 / images_per_second
    told = f"{seconds / 60:,.1f} minutes" if seconds < 6000 else f"{seconds / 3600:,.1f} hours"
    return f"{told}, {images_per_second:,.1f} images/s"


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"
