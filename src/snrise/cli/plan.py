"""`snrise plan`: what a run would cost on a device, level by level, before it starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from snrise import documents, planning, plots
from snrise._errors import invalid, require, unknown
from snrise.cli.devices import device_of
from snrise.cli.distributed import ASSUMED, cluster_of, clusters_of, distributed_lines, show_scaling
from snrise.cli.options import check_chart
from snrise.config import RunConfig, parse
from snrise.construct import kind_of, plain
from snrise.experiment import Experiment
from snrise.networks import PRESETS, External
from snrise.planning import AUTO, DEVICES, LINKS, PARALLEL, Plan, Row
from snrise.planning.devices import GIB
from snrise.quantities import parse_size
from snrise.trained import newest
from snrise.training import checkpoints, read_header

__all__ = ["plan"]

#: A row's numbers, their headings and their units.
COLUMNS = (("parameters", "Mparams", 1e6), ("flops", "GFLOP", 1e9), ("kept", "MiB kept", 2**20),
           ("checkpointed", "recomp.", 2**20))
#: The recipe that a preset is planned with, if none is named.
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
    gpus: Annotated[
        int | None, typer.Option(help="GPUs in a node, which share the batch.", show_default="1; with --scaling 8")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes of so many GPUs.")] = 1,
    parallel: Annotated[
        str, typer.Option(help=f"{', '.join(PARALLEL)}, or {AUTO}: replicas while they fit, else shards.")
    ] = AUTO,
    between: Annotated[
        str | None, typer.Option(help=f"The links between nodes: {', '.join(LINKS)}.", show_default="the device's")
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(help="A table by numbers of devices, such as 1,8,64,512, each with the whole batch.",
                     show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A picture of it: .png, .svg or .pdf.", show_default=False)
    ] = None,
) -> None:
    """Show what training would cost on a device: parameters, operations, memory, time; and whether it is set up well.

    Nothing is trained, except with `--device this`, for as long as `--seconds` says.
    """
    if out is not None:
        check_chart(out)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    where = planning.device(device)
    config = parse(_document(arguments or [], preset, resolution, batch))
    if isinstance(config.network, External):
        raise invalid("config.network", config.network.type, "a network that can be built from settings",
                      "plan it in Python: snrise.planning.plan(experiment, device)")
    known = _classes(_file(arguments or [], preset), config) if classes is None else classes or None
    if scaling is not None:
        clusters = clusters_of(scaling, where, gpus, between)
        rows = planning.scaling(Experiment.imagined(config, known), where, clusters, parallel)
        title = f"{config.name} at {'x'.join(map(str, config.data.resolution))}, {rows[0].step.images} images each"
        show_scaling(console, title, rows, utilisation)
        if out is not None:
            console.print(f"written: {plots.save(plots.scaling_chart(rows, title, utilisation), out)}")
        return
    cluster = cluster_of(where, nodes, 1 if gpus is None else gpus, between)
    costs = planning.plan(Experiment.imagined(config, known), where, cluster=cluster, parallel=parallel)
    console.print(_title(costs))
    console.print(_table(costs))
    images = f"{costs.step.images} images" if costs.step.images > 1 else "one image"
    console.print(f"kept for the way back of {images}; recomp.: with activation checkpointing at every level\n")
    for name, value in _memory(costs):
        console.print(f"{name:<26}{value}")
    many = costs.distributed
    for name, value in () if many is None else distributed_lines(many, utilisation):
        console.print(f"{name:<26}{value}")
    console.print(f"{'a million images':<26}{_time(costs, known, device, utilisation, seconds)}")
    problems = costs.schedule.problems
    console.print(f"{'schedule':<26}{'fit for this resolution' if not problems else 'not fit for this resolution'}")
    notes = () if many is None else (ASSUMED,)
    for line in (*(f"schedule: {p}" for p in problems), *(f"network: {w}" for w in costs.warnings), *notes):
        console.print(line, style="yellow")
    if not costs.fits:
        console.print("does not fit:" if costs.advice else "does not fit", style="red")
    for line in costs.advice:
        console.print(f"  {line}")
    if out is not None:
        console.print(f"written: {plots.save(plots.plan_chart(costs), out)}")


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
    """The recipe or file that is asked for; for a run's folder, its config.yaml."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "plan", names, "one recipe, config file or run, then key=value settings")
    name = names[0] if names else documents.DEFAULT_RECIPE if preset is None else PRESET_RECIPE
    return str(Path(name) / "config.yaml") if Path(name).is_dir() else name


def _classes(file: str, config: RunConfig) -> int | None:
    """The number of classes, if the settings have any: from the run's checkpoint, or else from the data."""
    run = Path(file).parent
    if checkpoints(run / "checkpoints"):
        names = read_header(newest(run)).extra["classes"]
    else:
        names = None if config.data.source.classes is None else config.data.source.open().classes
    return None if names is None else len(names)


def _title(costs: Plan) -> str:
    config, training, (height, width) = costs.config, costs.config.training, costs.config.data.resolution
    parts = "" if training.accumulate == 1 else f" in {training.accumulate} parts"
    network = type(config.network).__name__.removesuffix("Config")
    return (
        f"{config.name}: {network} at {height}x{width}, batch {training.batch}{parts}, {kind_of(training.optimizer)}, "
        f"{costs.precision.value}; on {costs.device.title}, {_gib(costs.device.memory)}\n"
    )


def _table(costs: Plan) -> Table:
    """A row for each stage."""
    table = Table("where", "width", "n", box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for _, heading, _ in COLUMNS:
        table.add_column(heading)
        table.add_column("%")
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column.header == "where" else "right"
    for row in (*costs.rows, costs.whole):
        table.add_row(*_cells(row, costs.whole), style="bold" if row.name == "all" else None)
    return table


def _cells(row: Row, whole: Row) -> Iterator[str]:
    stage = row.stage
    yield row.name
    yield from ("", "") if stage is None else (str(stage.channels), str(stage.blocks))
    for name, _, unit in COLUMNS:
        part, total = getattr(row, name), getattr(whole, name)
        yield f"{part / unit:,.2f}" if part < 1000 * unit else f"{part / unit:,.0f}"
        yield f"{part / total:.0%}" if row.name != whole.name else ""


def _memory(costs: Plan) -> Iterator[tuple[str, str]]:
    """Memory by what it is for, and what fits."""
    step, device = costs.step, costs.device
    names = {"before the step": "weights before it, to log"}
    stays = ", ".join(f"{names.get(name, name)} {size / GIB:,.2f}" for name, size in step.static.items())
    yield "stays", f"{_gib(sum(step.static.values()))}: {stays}"
    kept = sum(step.kept.values()) / GIB
    yield "comes and goes", f"gradients {step.gradients / GIB:,.2f}, kept for the way back {kept:,.2f} GiB"
    yield "most at a time", f"{_gib(step.peak)} of {_gib(device.usable)} that a step may take"
    every, more = costs.checkpointed, costs.checkpointed.flops / step.flops - 1
    if more > 0:
        yield "all levels checkpointed", f"{_gib(every.peak)}, for {more:.0%} more operations"
    yield "most images at once", f"{costs.largest:,}"
    yield "operations", f"{step.flops / 1e9:,.1f} GFLOP an image, forward and backward; x·y + z are two"


def _time(costs: Plan, classes: int | None, device: str, utilisation: float, seconds: float) -> str:
    """The time for a million images: measured here, or at a share of the device's peak."""
    if device == "this" and costs.largest:
        there = Experiment.imagined(costs.config, classes, device_of("auto"))
        timed = planning.probe(there, seconds, min(costs.step.images, costs.largest))
        reached = f"{timed.images_per_second * costs.step.flops / 1e9:,.0f} GFLOP/s"
        return f"{_hours(timed.images_per_second)}: measured here, {timed.batch} at once, {reached}"
    rate, peak = costs.images_per_second(utilisation), costs.device.peak(costs.precision)
    if rate is None or peak is None:
        return "not known: --device this measures it" if device != "this" else "not measured: it does not fit"
    ranks = 1 if costs.distributed is None else costs.distributed.cluster.ranks
    hours = "" if ranks == 1 else f", {ranks * 1e6 / rate / 3600:,.1f} GPU hours"
    return f"{_hours(rate)}{hours} at {utilisation:.0%} of {peak / 1e12:,.0f} TFLOP/s ({costs.device.source})"


def _hours(images_per_second: float) -> str:
    seconds = 1e6 / images_per_second
    time = f"{seconds / 60:,.1f} minutes" if seconds < 6000 else f"{seconds / 3600:,.1f} hours"
    return f"{time}, {images_per_second:,.1f} images/s"


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"
