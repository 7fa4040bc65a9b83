"""How far the logged steps of a run move its weights."""

import math
from typing import final

import torch
from torch import Tensor

from snrise.parallel import World
from snrise.sharding import is_sharded, local
from snrise.training import TrainState

__all__ = ["Movement"]


@final
class Movement:
    """‖Δw‖/‖w‖ of a step, over all weights: `expect` it before, read the `ratio` after. Collective for shards."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._before: list[Tensor] | None = None

    def expect(self, state: TrainState, due: bool) -> None:
        """Copy the weights if the next step will be logged."""
        self._before = [local(p).detach().clone() for p in state.network.parameters()] if due else None

    def ratio(self, state: TrainState) -> float | None:
        """That of the step since; None if it was not expected."""
        if self._before is None:
            return None
        after = [local(p).detach() for p in state.network.parameters()]
        moved, size = (
            math.hypot(*(float(n) for n in torch._foreach_norm(tensors)))
            for tensors in (torch._foreach_sub(after, self._before), self._before)
        )
        if is_sharded(state.network):
            moved, size = (math.hypot(*all_of) for all_of in zip(*self.world.gathered([moved, size]), strict=True))
        return moved / max(size, 1e-12)
