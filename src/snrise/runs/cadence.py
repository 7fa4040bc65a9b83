"""After which steps a run is logged, sampled and saved."""

from dataclasses import dataclass
from typing import final

from snrise.config import Log

__all__ = ["Cadence", "crosses"]


def crosses(before: int, after: int, every: int) -> bool:
    """Whether a step from one count of images to another reaches or passes a multiple of `every`.

    >>> [crosses(before, before + 8, every=20) for before in (0, 8, 16, 24, 32)]
    [False, False, True, False, True]
    """
    return after // every > before // every


@final
@dataclass(frozen=True)
class Cadence:
    """What is due after a step from `before` to `after` images seen, in a run of so many `images`.

    The end of a run is always logged; to save it and to draw its samples is left to the caller.
    """

    log: Log
    images: int

    def logs(self, before: int, after: int) -> bool:
        """Whether a log line is due."""
        return after >= self.images or crosses(before, after, self.log.every)

    def draws(self, before: int, after: int) -> bool:
        """Whether a grid of samples is due."""
        return after < self.images and crosses(before, after, self.log.samples)

    def saves(self, before: int, after: int) -> bool:
        """Whether a checkpoint is due."""
        return after < self.images and crosses(before, after, self.log.checkpoint)
