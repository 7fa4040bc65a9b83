"""What a network's config is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

from snrise._errors import invalid, require
from snrise._typing import Size, StrEnum


class Way(StrEnum):
    """Whether a stage stands on the way to lower resolutions, at the turn, or on the way back; or, in a nest, apart."""

    DOWN = "down"
    MIDDLE = "middle"
    UP = "up"
    DETAILS = "details"


class StageShape(NamedTuple):
    """Blocks at one resolution: the image's side is divided by `factor`; `kind` is conv, local, attention, transformer.

    `parts` are the network's children that stand there (see `cost`); `checkpoint` is the config's setting, its names
    joined by dots, that has activations computed anew there.
    """

    factor: int
    channels: int
    blocks: int
    kind: str
    way: Way
    parts: tuple[str, ...]
    checkpoint: str


class NetworkConfig(ABC):
    """A frozen dataclass whose fields are a network's settings."""

    image_channels: int

    @property
    def on_patches(self) -> tuple[str, ...]:
        """How the names begin of parameters that know the pixels of a patch: see `stems.enlarged`."""
        return ()

    @property
    @abstractmethod
    def divisor(self) -> int:
        """What an image's height and width must be multiples of."""

    @property
    @abstractmethod
    def features(self) -> tuple[int, int]:
        """What the network's `with_features` gives beside its prediction: channels, and what a side is divided by."""

    @abstractmethod
    def stages(self) -> tuple[StageShape, ...]:
        """What an image passes through, in order."""

    @abstractmethod
    def build(self, classes: int | None) -> nn.Module:
        """The network: `network(z, logsnr, labels)`, with the attributes `classes` and `edges`, and `with_features`.

        `edges` are the names of the parameters where the image, λ and the class enter, where λ and the class scale and
        shift, and where the image leaves: an optimizer for matrices within a network leaves them to another.
        """


def names_within(network: nn.Module, *parts: nn.Module | nn.Parameter | None) -> frozenset[str]:
    """The names of all parameters of a network that are, or lie within, some of its parts; None is no part.

    >>> sorted(names_within(network := nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False)), network[1]))
    ['1.weight']
    """
    chosen = {id(p) for part in parts if part is not None
              for p in (part.parameters() if isinstance(part, nn.Module) else [part])}
    return frozenset(name for name, p in network.named_parameters() if id(p) in chosen)


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """As a context: networks without dropout; afterwards each of their modules is in the mode that it was in.

    >>> network = nn.Dropout(0.5)
    >>> with evaluating(network):
    ...     print(network.training)
    False
    >>> network.training
    True
    """
    training = [module for network in networks for module in network.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def check_size(z: Tensor, divisor: int, channels: int) -> None:
    """Raise unless the image has `channels`, and sides that are multiples of `divisor`."""
    _, c, h, w = z.shape
    require(c == channels, "network.image", f"{c} channels", f"{channels} channels")
    check_sides((h, w), divisor)


def check_sides(image: Size, divisor: int, where: str = "network.image") -> None:
    """Raise unless both sides are multiples of `divisor`; name the nearest sizes that are."""
    if any(side % divisor for side in image):
        low = [max(divisor, side // divisor * divisor) for side in image]
        high = [-(-side // divisor) * divisor for side in image]
        raise invalid(where, f"{image[0]}x{image[1]}", f"sides that are multiples of {divisor}",
                      f"nearest: {low[0]}x{low[1]} or {high[0]}x{high[1]}")


def check_context(context: Tensor | None, width: int | None) -> None:
    """Raise for context vectors [b m d] that the network was not built for."""
    if context is not None and (width is None or context.shape[-1] != width):
        allowed = "None for a network built without context" if width is None else f"vectors of width {width}"
        raise invalid("network.context", f"vectors of width {context.shape[-1]}", allowed, "build it with context=…")
