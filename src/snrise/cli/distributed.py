"""The lines and the table of `snrise plan` for many devices."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from snrise._errors import invalid, require
from snrise.planning import Cluster, Device, Distributed, Traffic
from snrise.planning.devices import GIB

__all__ = ["ASSUMED", "cluster_of", "clusters_of", "distributed_lines", "show_scaling"]

GB = 1e9
#: GPUs of a node in a scaling table, if not said.
NODE = 8
ASSUMED = (
    "computed, nothing measured: chips reach the utilisation, links their peak without latency; communication overlaps "
    "with the pass that it belongs to"
)


def cluster_of(device: Device, nodes: int, gpus: int, between: str | None) -> Cluster | None:
    """The cluster that is asked for; None for one device."""
    for name, number in (("--nodes", nodes), ("--gpus", gpus)):
        require(number >= 1, name, number, "a whole number above 0", "use 1")
    return None if nodes == gpus == 1 else Cluster.of(device, nodes=nodes, gpus=gpus, between=between)


def clusters_of(text: str, device: Device, gpus: int | None, between: str | None) -> list[Cluster]:
    """Clusters of as many devices as the list says, in nodes of `gpus`."""
    node = NODE if gpus is None else gpus
    require(node >= 1, "--gpus", node, "a whole number above 0", "use 1")
    clusters = []
    for part in text.split(","):
        count = int(part) if part.strip().isdecimal() else 0
        if count < 1 or (count > node and count % node):
            below = count // node * node
            fix = f"nearest: {below} or {below + node}" if below else "such as 1,8,64"
            raise invalid("--scaling", part.strip(), f"numbers of devices that fill nodes of {node}", fix)
        clusters.append(Cluster.of(device, nodes=-(-count // node), gpus=min(count, node), between=between))
    return clusters


def distributed_lines(found: Distributed, utilisation: float) -> Iterator[tuple[str, str]]:
    """What is so only on many devices: who holds what, what is sent, and what a step waits for."""
    cluster, demand = found.cluster, found.demand
    gathered = found.step.gathered
    held = f"sharded, {gathered / GIB:,.2f} GiB gathered at most" if gathered else "replicated"
    nodes = f"{cluster.nodes} nodes of {cluster.gpus}" if cluster.nodes > 1 else f"{cluster.gpus} in one node"
    yield "devices", f"{cluster.ranks}: {nodes}, {found.batch // cluster.ranks} images each a step"
    yield "in parallel", f"{found.parallel}: parameters, gradients, optimizer state and averages {held}"
    yield "sent a step, each", _sent(demand.traffic, cluster)
    share, efficiency = found.communicating(utilisation), found.efficiency(utilisation)
    if share is not None and efficiency is not None:
        yield "communicating", f"{share:.1%} of a step if nothing overlapped"
        yield "efficiency", f"{efficiency:.0%} with overlap; the {found.limit(utilisation)} is the limit"


def show_scaling(console: Console, title: str, rows: Sequence[Distributed], utilisation: float) -> None:
    """Print the table by numbers of devices, under what it is computed for and above what is assumed."""
    first, most = rows[0], max(rows, key=lambda row: row.cluster.ranks)
    console.print(f"{title}, {first.precision.value}; on {first.device.title} at {utilisation:.0%} of the peak")
    console.print(f"{_links(most.cluster)}\n")
    console.print(_scaling_table(rows, utilisation))
    console.print(ASSUMED)


def _scaling_table(rows: Sequence[Distributed], utilisation: float) -> Table:
    """A row for each number of devices."""
    heads = ("devices", "by", "batch", "GiB each", "GB sent", "comm.", "images/s", "effic.", "limit")
    table = Table(*heads, box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for column in table.columns:
        column.no_wrap, column.justify = True, "right"
    for row in rows:
        rate = row.images_per_second(utilisation)
        share, efficiency = row.communicating(utilisation), row.efficiency(utilisation)
        times = ("?", "?", "?") if rate is None or share is None or efficiency is None else (
            f"{share:.1%}", f"{rate:,.0f}", f"{efficiency:.0%}")
        table.add_row(
            f"{row.cluster.ranks:,}", row.parallel if row.cluster.ranks > 1 else "", f"{row.batch:,}",
            f"{row.step.peak / GIB:,.2f}", f"{row.demand.traffic.total / GB:,.2f}", *times,
            (row.limit(utilisation) or "?") if row.fits else "memory",
        )
    return table


def _links(cluster: Cluster) -> str:
    """The links and where their bandwidths are from."""
    shared = " a node" if cluster.between.per_node else " each"
    return (f"{cluster.within.title} {cluster.within.bandwidth / GB:,.0f} GB/s one way ({cluster.within.source}), "
            f"{cluster.between.title} {cluster.between.bandwidth / GB:,.1f} GB/s{shared} ({cluster.between.source})")


def _sent(traffic: Traffic, cluster: Cluster) -> str:
    pairs = (traffic.within, cluster.within), (traffic.between, cluster.between)
    return ", ".join(
        f"{size / GB:,.2f} GB over {link.title} ({link.bandwidth / GB:,.1f} GB/s{' a node' if link.per_node else ''})"
        for size, link in pairs if size
    )
