"""A plan in words and numbers: what `snrise plan` and the app tell of it."""

from collections.abc import Iterator

import torch

from snrise.construct import kind_of
from snrise.experiment import Experiment
from snrise.planning.devices import GIB
from snrise.planning.plan import Plan
from snrise.planning.probe import probe
from snrise.planning.table import Row

__all__ = [
    "COLUMNS", "SECONDS", "UTILISATION", "cells", "legend", "memory", "million_images", "title", "unwise", "verdict",
]

#: A row's numbers, their headings and their units.
COLUMNS = (("parameters", "Mparams", 1e6), ("flops", "GFLOP", 1e9), ("kept", "MiB kept", 2**20),
           ("checkpointed", "recomp.", 2**20))
#: The share of a GPU's peak that training reaches, and how long steps are timed on this machine, if not said.
UTILISATION, SECONDS = 0.15, 20.0


def title(costs: Plan) -> str:
    """What is planned, in one line."""
    config, training, (height, width) = costs.config, costs.config.training, costs.config.data.resolution
    parts = "" if training.accumulate == 1 else f" in {training.accumulate} parts"
    network = type(config.network).__name__.removesuffix("Config")
    return (
        f"{config.name}: {network} at {height}x{width}, batch {training.batch}{parts}, {kind_of(training.optimizer)}, "
        f"{costs.precision.value}; on {costs.device.title}, {_gib(costs.device.memory)}"
    )


def cells(row: Row, whole: Row) -> Iterator[str]:
    """A row of the table."""
    stage = row.stage
    yield row.name
    yield from ("", "") if stage is None else (str(stage.channels), str(stage.blocks))
    for name, _, unit in COLUMNS:
        part, total = getattr(row, name), getattr(whole, name)
        yield f"{part / unit:,.2f}" if part < 1000 * unit else f"{part / unit:,.0f}"
        yield f"{part / total:.0%}" if row.name != whole.name else ""


def legend(costs: Plan) -> str:
    """What two columns of the table mean."""
    images = f"{costs.step.images} images" if costs.step.images > 1 else "one image"
    return f"kept for the way back of {images}; recomp.: with activation checkpointing at every level"


def memory(costs: Plan) -> Iterator[tuple[str, str]]:
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


def million_images(
    costs: Plan, classes: int | None, device: str, utilisation: float = UTILISATION, seconds: float = SECONDS,
    there: torch.device | str = "cpu",
) -> str:
    """The time for a million images: measured on a device of this machine, or at a share of the device's peak."""
    if device == "this" and costs.largest:
        here = Experiment.imagined(costs.config, classes, there)
        timed = probe(here, seconds, min(costs.step.images, costs.largest))
        reached = f"{timed.images_per_second * costs.step.flops / 1e9:,.0f} GFLOP/s"
        return f"{_hours(timed.images_per_second)}: measured here, {timed.batch} at once, {reached}"
    rate, peak = costs.images_per_second(utilisation), costs.device.peak(costs.precision)
    if rate is None or peak is None:
        return "not known: --device this measures it" if device != "this" else "not measured: it does not fit"
    ranks = 1 if costs.distributed is None else costs.distributed.cluster.ranks
    hours = "" if ranks == 1 else f", {ranks * 1e6 / rate / 3600:,.1f} GPU hours"
    return f"{_hours(rate)}{hours} at {utilisation:.0%} of {peak / 1e12:,.0f} TFLOP/s ({costs.device.source})"


def verdict(costs: Plan) -> str:
    """The verdict on the schedule."""
    return f"{'not fit' if costs.schedule.problems else 'fit'} for this resolution"


def unwise(costs: Plan) -> list[str]:
    """What is unwise, a line each."""
    return [*(f"schedule: {p}" for p in costs.schedule.problems), *(f"network: {w}" for w in costs.warnings)]


def _hours(images_per_second: float) -> str:
    seconds = 1e6 / images_per_second
    time = f"{seconds / 60:,.1f} minutes" if seconds < 6000 else f"{seconds / 3600:,.1f} hours"
    return f"{time}, {images_per_second:,.1f} images/s"


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"
