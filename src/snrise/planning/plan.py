"""What a run would cost on a device, level by level, before it is begun."""

from dataclasses import dataclass
from typing import final

from snrise._errors import require
from snrise.config import RunConfig
from snrise.diagnostics import Report, diagnose
from snrise.experiment import Experiment
from snrise.networks import cost
from snrise.planning.advice import about_resolution, largest_batch, to_fit
from snrise.planning.devices import Device
from snrise.planning.rehearsal import Rehearsal, Steps
from snrise.planning.table import Row, rows
from snrise.precision import Precision

__all__ = ["Plan", "plan"]


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `plan` found: a step as the settings have it, and one with activation checkpointing at every level.

    `largest` is the most images at once that fit, as the settings are. `precision` is that of the run there. `warnings`
    say what is unwise about the network, `advice` what makes a step fit that does not; a line each.
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

    @property
    def fits(self) -> bool:
        """Whether a step as the settings have it fits the device."""
        return self.step.peak <= self.device.usable

    @property
    def whole(self) -> Row:
        """All rows together."""
        numbers = ("parameters", "flops", "kept", "checkpointed")
        return Row(name="all", **{name: sum(getattr(row, name) for row in self.rows) for name in numbers})

    def images_per_second(self, utilisation: float) -> float | None:
        """At a share of the device's peak; None if that is unknown."""
        require(0 < utilisation <= 1, "utilisation", utilisation, "a share of the peak in (0, 1]")
        peak = self.device.peak(self.precision)
        return None if peak is None else peak * utilisation / self.step.flops


def plan(experiment: Experiment, device: Device) -> Plan:
    """Work out what a run costs on a device. Some seconds: a few training steps are imagined.

    Of the experiment's network only shapes count, so it may be on the device "meta", and its data may be `Blank`.

    >>> from snrise.documents import load
    >>> from snrise.planning.devices import DEVICES
    >>> found = plan(Experiment.imagined(load("emoji-32"), 97), DEVICES["4090"])
    >>> [row.name for row in found.rows]
    ['stem', '16x16 down', '8x8 middle', '16x16 up', 'condition', 'loss']
    >>> found.fits, found.largest > 1000, found.schedule.ok
    (True, True, True)
    """
    config, image = experiment.settings, experiment.size
    steps = Steps(experiment, device)
    without, everywhere, ours = (
        steps(chosen, experiment.batch, experiment.accumulate) for chosen in ((), steps.settings, steps.chosen)
    )
    table = rows(config, cost(experiment.network, image), without, everywhere)
    largest = largest_batch(lambda batch: steps(steps.chosen, batch).peak, device.usable)
    report = diagnose(experiment.noise, image, config.schedule.reference or (64, 64))
    return Plan(
        config=config, device=device, precision=device.precision(experiment.precision), rows=table, step=ours,
        checkpointed=everywhere, largest=largest, schedule=report, warnings=tuple(about_resolution(config, table)),
        advice=() if ours.peak <= device.usable else tuple(to_fit(steps, device.usable, largest)),
    )
