"""A cluster of equal devices, and what collective operations send over its links."""

from dataclasses import dataclass
from typing import final

from snrise._errors import invalid, require, unknown
from snrise.planning.devices import DEVICES, Device
from snrise.planning.links import LINKS, Link

__all__ = ["ALONE", "Cluster", "Traffic", "all_gather", "all_reduce", "reduce_scatter"]


@final
@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that each rank sends, and receives as many: within its node, and between nodes."""

    within: float = 0.0
    between: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.within + self.between

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(within=self.within + other.within, between=self.between + other.between)

    def times(self, count: int) -> "Traffic":
        """The same so many times."""
        return Traffic(within=count * self.within, between=count * self.between)


@final
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """`nodes` of `gpus` devices each, a rank a device; the links `within` a node and `between` nodes.

    >>> from snrise.planning.devices import DEVICES
    >>> cluster = Cluster.of(DEVICES["h100"], nodes=2, gpus=8)
    >>> cluster.ranks, cluster.within.title, cluster.between.title
    (16, 'NVLink 4', 'InfiniBand NDR')
    """

    nodes: int = 1
    gpus: int = 1
    within: Link
    between: Link

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus"):
            number = getattr(self, name)
            require(number >= 1, f"Cluster.{name}", number, "a whole number above 0", "use 1")

    @classmethod
    def of(cls, device: Device, *, nodes: int, gpus: int, between: str | None = None) -> "Cluster":
        """A cluster with the links that are usual for a device; `between` is another of LINKS.

        Raises:
            SnriseError: if no links are known for the device, or there is no link of the name.
        """
        if device.links is None:
            known = ", ".join(name for name, other in DEVICES.items() if other.links is not None)
            raise invalid("Cluster.device", device.title, f"one whose links are known: {known}",
                          "give the links in Python: Cluster(…, within=Link(…), between=Link(…))")
        usual = device.links[1] if between is None else between
        if usual not in LINKS:
            raise unknown("--between", usual, LINKS, "link")
        return cls(nodes=nodes, gpus=gpus, within=LINKS[device.links[0]], between=LINKS[usual])

    @property
    def ranks(self) -> int:
        """The number of devices."""
        return self.nodes * self.gpus

    def seconds(self, traffic: Traffic) -> float:
        """The time of what each rank sends, first over one kind of link, then over the other, both at their peaks."""
        within, between = (
            link.bandwidth / (self.gpus if link.per_node else 1) for link in (self.within, self.between)
        )
        return traffic.within / within + traffic.between / between


#: One device. It sends nothing, so its links do not matter.
ALONE = Cluster(within=LINKS["pcie4"], between=LINKS["ethernet-100"])


def all_gather(size: float, cluster: Cluster) -> Traffic:
    """Each rank gets the shards of all others, `size` bytes being the whole.

    A ring of n ranks sends (n − 1)/n of the whole, which is optimal: Thakur, Rabenseifner and Gropp 2005;
    Patarasuk and Yuan 2009. With g devices in each of several nodes, it is first between those of the same place in
    their nodes, for 1/g of the whole, then within each node: Mikami et al. 2018 (arXiv 1811.05233). Together
    this is the (n − 1)/n of one ring, most of it within.
    """
    return Traffic(within=_ring(size, cluster.gpus), between=_ring(size / cluster.gpus, cluster.nodes))


def reduce_scatter(size: float, cluster: Cluster) -> Traffic:
    """Each rank gets the sum over all ranks of its shard of `size` bytes: `all_gather` backwards, of the same cost."""
    return all_gather(size, cluster)


def all_reduce(size: float, cluster: Cluster) -> Traffic:
    """Each rank gets the sum over all ranks of `size` bytes: reduce-scatter, then all-gather; 2(n − 1)/n of them."""
    return reduce_scatter(size, cluster) + all_gather(size, cluster)


def _ring(size: float, ranks: int) -> float:
    return size * (ranks - 1) / ranks
