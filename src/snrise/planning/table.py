"""A network's costs level by level."""

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
    """A level on one way; or what is in no level: first and last layers (stem), the condition, the loss.

    flops: 2 for each multiplication with its addition, of one image's forward pass. kept: bytes that training holds for
    the way back, of the images of one part of the batch; checkpointed: the same with activation checkpointing at every
    level.
    """

    name: str
    stage: StageShape | None = None
    cells: Size | None = None
    parameters: int = 0
    flops: int = 0
    kept: int = 0
    checkpointed: int = 0


def rows(config: RunConfig, found: Cost, without: Rehearsal, everywhere: Rehearsal) -> tuple[Row, ...]:
    """The table: the stem, a row for each stage that an image passes, then what is left."""
    stages = {_name(stage, found.image): stage for stage in config.network.stages()}
    if not stages:  # a network that does not say its levels: each part by itself
        return _parts(found, without, everywhere)
    owner = {part: name for name, stage in stages.items() for part in stage.parts} | _REST

    def total(name: str, sizes: Mapping[str, int]) -> int:
        return sum(size for part, size in sizes.items() if _owner(owner, part) == name)

    parameters = {part.name: part.parameters for part in found.parts}
    flops = {part.name: 2 * part.macs for part in found.parts}
    return tuple(
        Row(
            name=name, stage=stage, cells=None if stage is None else _cells(stage, found.image),
            parameters=total(name, parameters), flops=total(name, flops), kept=total(name, without.kept),
            checkpointed=total(name, everywhere.kept),
        )
        for name, stage in [("stem", None), *stages.items(), ("condition", None), ("loss", None)]
    )


def _parts(found: Cost, without: Rehearsal, everywhere: Rehearsal) -> tuple[Row, ...]:
    """A row for each part of a network, and one for the loss."""
    known = {part.name: part for part in found.parts}
    names = dict.fromkeys([*known, *without.kept, "loss"])
    return tuple(
        Row(
            name=name, parameters=known[name].parameters if name in known else 0,
            flops=2 * known[name].macs if name in known else 0, kept=without.kept.get(name, 0),
            checkpointed=everywhere.kept.get(name, 0),
        )
        for name in names
    )


#: What stands at no level; all else that is none's is the stem's.
_REST = {"conditioning": "condition", "loss": "loss"}


def _owner(owner: Mapping[str, str], part: str) -> str:
    """Where a part is put down to; what is nowhere in an inner network, as if it were in the outer one."""
    return owner.get(part) or _REST.get(part.rpartition("inner.")[2], "stem")


def _cells(stage: StageShape, image: Size) -> Size:
    return image[0] // stage.factor, image[1] // stage.factor


def _name(stage: StageShape, image: Size) -> str:
    height, width = _cells(stage, image)
    return f"{height}x{width} {stage.way.value}"
