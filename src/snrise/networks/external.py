"""A network that is no member of the table: what the settings of a run say of it."""

from dataclasses import dataclass
from typing import NoReturn, final

from torch import nn

from snrise._errors import SnriseError
from snrise._typing import type_name
from snrise.networks.base import NetworkConfig, StageShape


@final
@dataclass(frozen=True, kw_only=True)
class External(NetworkConfig):
    """A network that a run was given in Python: the name of its type. It cannot be built, it has to be given again."""

    type: str
    image_channels: int = 3

    @classmethod
    def of(cls, network: nn.Module) -> "External":
        """What is said of a network.

        >>> External.of(nn.Linear(2, 2)).type
        'torch.nn.modules.linear.Linear'
        """
        return cls(type=type_name(network))

    @property
    def divisor(self) -> int:
        """Not known: any side is passed on to the network."""
        return 1

    @property
    def features(self) -> tuple[int, int]:
        """It gives none."""
        self._absent()

    def stages(self) -> tuple[StageShape, ...]:
        """Not known."""
        return ()

    def build(self, classes: int | None) -> nn.Module:
        """Raise: it has to be given."""
        self._absent()

    def _absent(self) -> NoReturn:
        raise SnriseError(
            f"config.network: a network of its own, {self.type}, which only Python knows; give it: "
            "snrise.load(path, network=…)"
        )
