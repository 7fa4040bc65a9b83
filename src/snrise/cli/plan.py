"""`snrise plan`: what a run would cost on a device, level by level, before it starts."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from snrise import planning, plots
from snrise.cli.devices import device_of
from snrise.cli.distributed import ASSUMED, cluster_of, clusters_of, distributed_lines, show_scaling
from snrise.cli.options import check_chart
from snrise.experiment import Experiment
from snrise.planning import AUTO, DEVICES, LINKS, PARALLEL, Plan, telling
from snrise.planning.asking import asked

__all__ = ["plan"]


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
    ] = telling.UTILISATION,
    seconds: Annotated[float, typer.Option(help="How long to time steps on this machine.", min=0.0)] = telling.SECONDS,
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
    config, known = asked(arguments or [], preset, resolution, batch, classes)
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
    console.print(f"{telling.title(costs)}\n")
    console.print(_table(costs))
    console.print(f"{telling.legend(costs)}\n")
    for name, value in telling.memory(costs):
        console.print(f"{name:<26}{value}")
    many = costs.distributed
    for name, value in () if many is None else distributed_lines(many, utilisation):
        console.print(f"{name:<26}{value}")
    there = device_of("auto") if device == "this" else "cpu"
    million = telling.million_images(costs, known, device, utilisation, seconds, there)
    console.print(f"{'a million images':<26}{million}")
    console.print(f"{'schedule':<26}{telling.verdict(costs)}")
    for line in (*telling.unwise(costs), *(() if many is None else (ASSUMED,))):
        console.print(line, style="yellow")
    if not costs.fits:
        console.print("does not fit:" if costs.advice else "does not fit", style="red")
    for line in costs.advice:
        console.print(f"  {line}")
    if out is not None:
        console.print(f"written: {plots.save(plots.plan_chart(costs), out)}")


def _table(costs: Plan) -> Table:
    """A row for each stage."""
    table = Table("where", "width", "n", box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for _, heading, _ in telling.COLUMNS:
        table.add_column(heading)
        table.add_column("%")
    for column in table.columns:
        column.no_wrap = True
        column.justify = "left" if column.header == "where" else "right"
    for row in (*costs.rows, costs.whole):
        table.add_row(*telling.cells(row, costs.whole), style="bold" if row.name == "all" else None)
    return table
