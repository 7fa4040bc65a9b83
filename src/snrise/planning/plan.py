"""The plan: what a run would cost on a device, level by level, before it starts."""

from dataclasses import dataclass
from typing import final

from snrise.config import RunConfig
from snrise.diagnostics import Report, diagnose
from snrise.experiment import Experiment
from snrise.networks import cost
from snrise.planning.advice import about_resolution, largest_batch, to_fit
from snrise.planning.cluster import ALONE, Cluster
from snrise.planning.devices import Device
from snrise.planning.distributed import AUTO, Distributed, distribute
from snrise.planning.rehearsal import Rehearsal
from snrise.planning.table import Row, rows
from snrise.precision import Precision

__all__ = ["Plan", "plan"]


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cost of a step: as the settings have it (`step`), and with activation checkpointing at every level.

    `largest` is the largest batch that fits with the present settings; `precision` is that of the run on the device.
    `warnings` say what is unwise about the network, `advice` what makes a step fit that does not; a line each.

    On several devices, `distributed` is their step; `step` and `checkpointed` are those of a rank, `rows` count the
    activations of a rank, and `largest` is the largest batch of all ranks together.
    """

    config: RunConfig
    device: Device
    precision: Precision
    rows: tuple[Row, ...]
    step: Rehearsal
    checkpointed: Rehearsal
    largest: int
    schedule: Report
    warnings: tuple[str, ...]
    advice: tuple[str, ...]
    distributed: Distributed | None = None

    @property
    def fits(self) -> bool:
        """Whether a step fits the device with the present settings."""
        return self.step.peak <= self.device.usable

    @property
    def whole(self) -> Row:
        """The sum of all rows."""
        numbers = ("parameters", "flops", "kept", "checkpointed")
        return Row(name="all", **{name: sum(getattr(row, name) for row in self.rows) for name in numbers})

    def images_per_second(self, utilisation: float) -> float | None:
        """Throughput at a share of the device's peak; None if the peak is unknown, or no products are computed."""
        if self.distributed is not None:
            return self.distributed.images_per_second(utilisation)
        return self.device.images_per_second(self.precision, utilisation, self.step.flops)


def plan(experiment: Experiment, device: Device, *, cluster: Cluster | None = None, parallel: str = AUTO) -> Plan:
    """Compute what a run costs on a device, from a few training steps on fake tensors. It takes some seconds.

    On a `cluster` of such devices each rank takes its share of the batch; `parallel` is `ddp`, `fsdp`, or `auto`: see
    `distribute`, and its errors. A cluster of one is a device alone.

    Only the shapes of the network's parameters matter, so it may be on the device "meta", and the data may be `Blank`.
    A module of one's own is planned too, broken down by its children instead of by level.

    >>> from snrise.documents import load
    >>> from snrise.planning.devices import DEVICES
    >>> costs = plan(Experiment.imagined(load("emoji-32"), 97), DEVICES["4090"])
    >>> [row.name for row in costs.rows]
    ['stem', '16x16 down', '8x8 middle', '16x16 up', 'condition', 'loss']
    >>> costs.fits, costs.largest > 1000, costs.schedule.ok
    (True, True, True)
    """
    config, image = experiment.settings, experiment.shape[1:]
    cluster = ALONE if cluster is None else cluster
    found, steps = distribute(experiment, device, cluster, parallel)
    own, ranks = steps.experiment, cluster.ranks
    without, everywhere = (steps(chosen, own.batch, own.accumulate) for chosen in ((), steps.settings))
    table = rows(config, cost(experiment.network, image), without, everywhere)
    first = own.batch if own.accumulate == 1 and found.fits else 8  # the first is rehearsed already
    largest = largest_batch(lambda batch: steps(steps.chosen, batch).peak, device.usable, first)
    report = diagnose(experiment.noise, image, config.schedule.reference or (64, 64))
    return Plan(
        config=config, device=device, precision=found.precision, rows=table, step=found.step,
        checkpointed=everywhere, largest=largest * ranks, schedule=report,
        warnings=tuple(about_resolution(config, table)),
        advice=() if found.fits else (*to_fit(steps, device.usable, largest), *_sharded(experiment, found)),
        distributed=None if ranks == 1 else found,
    )


def _sharded(experiment: Experiment, found: Distributed) -> tuple[str, ...]:
    """What sharding would do for replicas that do not fit."""
    if found.parallel == "fsdp" or found.cluster.ranks == 1:
        return ()
    other = distribute(experiment, found.device, found.cluster, "fsdp")[0]
    return (f"--parallel fsdp fits ({'; '.join(other.notes)})",) if other.fits else ()
