"""Where a sampler stops on its way down: λ from the noisy end to the clean end."""

import torch

from snrise._errors import require
from snrise._typing import Scalars
from snrise.schedules import Schedule

__all__ = ["uniform_time"]


def uniform_time(schedule: Schedule, steps: int) -> Scalars:
    """λ(t) at t = 1, …, 0 in equal steps: [steps + 1], noisiest first, in float64.

    >>> from snrise.schedules import Cosine
    >>> uniform_time(Cosine(), 4)
    tensor([-15.0000,  -1.7612,   0.0000,   1.7612,  15.0000], dtype=torch.float64)
    """
    require(steps >= 1, "uniform_time.steps", steps, "a whole number above 0")
    return schedule(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
