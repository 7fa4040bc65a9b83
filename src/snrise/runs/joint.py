"""What the processes that train one run share: batches, the point where they begin, and files that are broken."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from snrise.config import Parallel
from snrise.data import Batch
from snrise.experiment import Experiment
from snrise.parallel import World, beside
from snrise.precision import Precision, resolved
from snrise.runs.folder import RunFolder
from snrise.sharding import shard
from snrise.training import TrainState

__all__ = ["batches_of", "check_alike", "divide", "sharded", "share_skipped"]


def sharded(experiment: Experiment, world: World) -> bool:
    """Whether each process holds a shard: as `training.parallel` says; `auto`, where no replica fits its memory."""
    if world.alone or experiment.parallel is not Parallel.AUTO:
        return not world.alone and experiment.parallel is Parallel.FSDP
    from snrise.planning import device, replica_fits  # needs seconds, and no other run needs it

    def decide() -> bool:
        here = device("this")
        return not replica_fits(experiment, here if here.gpu else here.shared(beside()), world.size)

    return world.first(decide)


def divide(experiment: Experiment, world: World) -> None:
    """Divide an experiment's network into shards, in place, where each process holds one."""
    if not sharded(experiment, world):
        return
    device = next(experiment.network.parameters()).device
    bf16 = resolved(device, experiment.precision) is Precision.BF16
    shard(experiment.network, torch.bfloat16 if bf16 else None)


def batches_of(data: Any, experiment: Experiment, world: World, position: int = 0) -> Iterator[Batch]:
    """The batches of a `Data` from a position on, as an experiment asks; of several processes, this one's slices."""
    batch, seed = experiment.batch, experiment.seed
    if world.alone:
        return iter(data.batches(batch, seed=seed, position=position))
    return iter(data.slices(batch, seed, position, rank=world.rank, size=world.size))


def check_alike(
    world: World, folder: RunFolder, state: TrainState, settings: str, facts: Mapping[str, Any]
) -> None:
    """Raise unless all processes are at the same point of the same run on the same data."""
    seen = f"a run at {state.images_seen:,} images, position {state.position:,}"
    world.agree(str(folder.path), {"folder": seen, "settings": settings, "data": facts["fingerprint"]})


def share_skipped(world: World, skipped: dict[int, str]) -> None:
    """Tell all processes which images one of them could not read: the reasons, by index."""
    if world.alone:
        return
    for found in world.gathered(sorted(dict(skipped).items())):
        skipped.update((int(index), reason) for index, reason in found)
