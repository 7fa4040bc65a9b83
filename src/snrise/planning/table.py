"""The table of costs, a row a level."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from snrise._typing import Size
from snrise.config import RunConfig
from snrise.networks import Cost, StageShape
from snrise.planning.rehearsal import Rehearsal

__all__ = ["Row", "rows"]


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage; or what belongs to no stage: first and last layers (stem), the conditioning, the loss.

    flops: of one image's forward pass, 2 for each multiply-add. kept: bytes of activations kept for backward, of one
    micro-batch; checkpointed: the same with activation checkpointing at every level.
    """

    name: str
    stage: StageShape | None = None
    cells: Size | None = None
    parameters: int = 0
    flops: int = 0
    kept: int = 0
    checkpointed: int = 0


def rows(config: RunConfig, costs: Cost, without: Rehearsal, everywhere: Rehearsal) -> tuple[Row, ...]:
    """The table: the stem, a row for each stage, then conditioning and loss."""
    stages = {_name(stage, costs.image): stage for stage in config.network.stages()}
    if not stages:  # a network that does not list its stages: each child by itself
        return _parts(costs, without, everywhere)
    owner = {part: name for name, stage in stages.items() for part in stage.parts} | _REST

    def total(name: str, sizes: Mapping[str, int]) -> int:
        return sum(size for part, size in sizes.items() if _owner(owner, part) == name)

    parameters = {part.name: part.parameters for part in costs.parts}
    flops = {part.name: 2 * part.macs for part in costs.parts}
    return tuple(
        Row(
            name=name, stage=stage, cells=None if stage is None else _cells(stage, costs.image),
            parameters=total(name, parameters), flops=total(name, flops), kept=total(name, without.kept),
            checkpointed=total(name, everywhere.kept),
        )
        for name, stage in [("stem", None), *stages.items(), ("condition", None), ("loss", None)]
    )


def _parts(costs: Cost, without: Rehearsal, everywhere: Rehearsal) -> tuple[Row, ...]:
    """A row for each child of a network, and one for the loss."""
    known = {part.name: part for part in costs.parts}
    names = dict.fromkeys([*known, *without.kept, "loss"])
    return tuple(
        Row(
            name=name, parameters=known[name].parameters if name in known else 0,
            flops=2 * known[name].macs if name in known else 0, kept=without.kept.get(name, 0),
            checkpointed=everywhere.kept.get(name, 0),
        )
        for name in names
    )


#: Parts that belong to no stage; any other such part counts as the stem.
_REST = {"conditioning": "condition", "loss": "loss"}


def _owner(owner: Mapping[str, str], part: str) -> str:
    """The row that a part belongs to; a part of no stage of an inner network counts as the outer one's would."""
    return owner.get(part) or _REST.get(part.rpartition("inner.")[2], "stem")


def _cells(stage: StageShape, image: Size) -> Size:
    return image[0] // stage.factor, image[1] // stage.factor


def _name(stage: StageShape, image: Size) -> str:
    height, width = _cells(stage, image)
    return f"{height}x{width} {stage.way.value}"
