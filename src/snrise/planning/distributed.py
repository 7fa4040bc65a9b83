"""A training step on many devices: memory and traffic by rank, time, and what limits it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from snrise._errors import require, unknown
from snrise.experiment import Experiment
from snrise.planning.cluster import Cluster
from snrise.planning.devices import Device
from snrise.planning.parallel import PARALLEL, Demand
from snrise.planning.rehearsal import Done, Rehearsal, Steps
from snrise.precision import Precision
from snrise.training.loop import micro_batches

__all__ = ["AUTO", "Distributed", "distribute", "scaling"]

#: The way that is chosen by what fits.
AUTO = "auto"
#: The ways that `training` does not know yet.
PLANNED_ONLY = ("fsdp",)


@final
@dataclass(frozen=True, kw_only=True)
class Distributed:
    """A step of `batch` images on a cluster: `step` is that of a rank, `demand` what a rank sends.

    Computed from peaks, with these assumptions: a rank computes at the share `utilisation` of its peak, links carry
    theirs, without latency; communication overlaps with computation as `Demand` says; data are never waited for.
    """

    device: Device
    cluster: Cluster
    precision: Precision
    parallel: str
    batch: int
    step: Rehearsal
    demand: Demand

    @property
    def fits(self) -> bool:
        """Whether the step of a rank fits its device."""
        return self.step.peak <= self.device.usable

    @property
    def notes(self) -> tuple[str, ...]:
        """What has to be known before it is done, a line each."""
        if self.parallel not in PLANNED_ONLY or self.cluster.ranks == 1:
            return ()
        return (f"{self.parallel} is planned only: snrise train does not shard yet",)

    def computing(self, utilisation: float) -> float | None:
        """Seconds that a rank computes in a step; None if the device's peak is unknown, or no products are computed."""
        rate = self.device.images_per_second(self.precision, utilisation, self.step.flops)
        return None if rate is None else self.batch / self.cluster.ranks / rate

    def seconds(self, utilisation: float) -> float | None:
        """Seconds of a step; None as for `computing`."""
        compute = self.computing(utilisation)
        return None if compute is None else self.demand.seconds(compute, self.cluster)

    def images_per_second(self, utilisation: float) -> float | None:
        """Images of all ranks a second; None as for `computing`."""
        seconds = self.seconds(utilisation)
        return None if seconds is None else self.batch / seconds

    def efficiency(self, utilisation: float) -> float | None:
        """The share of a step in which a rank computes, 1 if all communication is hidden; None as for `computing`."""
        compute, seconds = self.computing(utilisation), self.seconds(utilisation)
        return None if compute is None or seconds is None else compute / seconds

    def communicating(self, utilisation: float) -> float | None:
        """The share of a step in which a rank would communicate if nothing overlapped; None as for `computing`."""
        compute, sending = self.computing(utilisation), self.cluster.seconds(self.demand.traffic)
        return None if compute is None else sending / (compute + sending)

    def limit(self, utilisation: float) -> str | None:
        """What a step waits for: the `chip`, or the `network`; None as for `computing`."""
        efficiency = self.efficiency(utilisation)
        return None if efficiency is None else "network" if efficiency < 1 else "chip"


def distribute(
    experiment: Experiment, device: Device, cluster: Cluster, parallel: str = AUTO
) -> tuple[Distributed, Steps]:
    """A step on a cluster, and the rehearsals of a rank; `auto` replicates while a replica fits, and else shards.

    Raises:
        SnriseError: for an unknown way, or a batch that the ranks, or a rank's micro-batches, cannot share.
    """
    own = replace(experiment, batch=_share(experiment, cluster.ranks))
    return _distribute(own, device, cluster, parallel, Done())


def scaling(
    experiment: Experiment, device: Device, clusters: Sequence[Cluster], parallel: str = AUTO
) -> tuple[Distributed, ...]:
    """The step on each of several clusters, every rank taking `experiment.batch` images: weak scaling.

    >>> from snrise.documents import load
    >>> from snrise.planning.devices import DEVICES
    >>> clusters = [Cluster.of(DEVICES["h100"], nodes=nodes, gpus=8) for nodes in (1, 2)]
    >>> rows = scaling(Experiment.imagined(load("emoji-32"), 97), DEVICES["h100"], clusters)
    >>> [(row.parallel, row.batch, row.step.images) for row in rows]
    [('ddp', 256, 32), ('ddp', 512, 32)]
    """
    done = Done()
    return tuple(_distribute(experiment, device, cluster, parallel, done)[0] for cluster in clusters)


def _distribute(
    own: Experiment, device: Device, cluster: Cluster, parallel: str, done: Done
) -> tuple[Distributed, Steps]:
    """The step if each rank takes the batch of `own`."""
    if parallel not in (AUTO, *PARALLEL):
        raise unknown("--parallel", parallel, (AUTO, *PARALLEL), "way to train in parallel")
    ranks, parts = cluster.ranks, len(micro_batches(own.batch, own.accumulate))
    names = [parallel] if parallel != AUTO else [*PARALLEL][: None if ranks > 1 else 1]
    for name in names:
        way = PARALLEL[name]
        steps = Steps(own, device, shards=way.shards(ranks), holds=partial(way.held, ranks=ranks), done=done)
        found = Distributed(
            device=device, cluster=cluster, precision=device.precision(own.precision), parallel=name,
            batch=own.batch * ranks, step=steps(steps.chosen, own.batch, own.accumulate),
            demand=way.demand(own.network, cluster, parts),
        )
        if found.fits:
            break
    return found, steps


def _share(experiment: Experiment, ranks: int) -> int:
    """The images of a rank in a step."""
    batch, parts = experiment.batch, experiment.accumulate
    below = batch // ranks * ranks
    fix = f"nearest: {below} or {below + ranks}" if below else f"use {ranks}"
    require(batch % ranks == 0, "config.training.batch", batch, f"a multiple of the {ranks} ranks", fix)
    share = batch // ranks
    allowed = f"at most {share}, the images of a rank"
    require(parts <= share, "config.training.accumulate", parts, allowed, f"use {share}")
    return share
