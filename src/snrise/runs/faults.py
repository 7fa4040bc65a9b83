"""What follows a step whose loss or gradient was not finite."""

from dataclasses import dataclass
from typing import final

from snrise._errors import SnriseError
from snrise.config import OnFault

__all__ = ["FaultPolicy"]


@final
@dataclass
class FaultPolicy:
    """Skip the step, roll back, or stop; more than `limit` faults since the last checkpoint stop the run in any case.

    >>> policy = FaultPolicy(OnFault.SKIP, limit=1)
    >>> policy.decide().value, policy.decide().value
    ('skip', 'stop')
    """

    action: OnFault
    limit: int
    since_checkpoint: int = 0

    def decide(self) -> OnFault:
        """Count a fault; returns what follows."""
        self.since_checkpoint += 1
        return OnFault.STOP if self.since_checkpoint > self.limit else self.action

    def error(self, description: str) -> SnriseError:
        """The error that stops the run."""
        times = "" if self.action is OnFault.STOP else f" {self.since_checkpoint} times since the last checkpoint;"
        return SnriseError(
            f"loss or gradient{times} {description}; the last good checkpoint is kept; lower training.learning_rate, "
            "set training.precision=fp32, or look at these files"
        )
