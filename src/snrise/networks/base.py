"""The interface of networks: their settings (`NetworkConfig`), and what a module says of itself (`Traits`)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, final

from torch import Tensor, nn

from snrise._errors import SnriseError, invalid, require
from snrise._typing import Size, StrEnum, type_name


class Way(StrEnum):
    """Where a stage is: on the down path, in the middle, on the up path; or, in a nest, the outer level."""

    DOWN = "down"
    MIDDLE = "middle"
    UP = "up"
    DETAILS = "details"


class StageShape(NamedTuple):
    """Blocks at one resolution: the image's side is divided by `factor`; `kind` is conv, local, attention, transformer.

    `parts` are the network's submodules at this stage (see `cost`). `checkpoint` is the setting of the config, as a
    dotted path, that turns on activation checkpointing there; None if there is none.
    """

    factor: int
    channels: int
    blocks: int
    kind: str
    way: Way
    parts: tuple[str, ...]
    checkpoint: str | None = None


class NetworkConfig(ABC):
    """The settings of a network, as a frozen dataclass. Only `build` is required; every other member has a default.

    Attributes:
        image_channels: of the images that go in and come out.
        context: the width of the context vectors that the network attends to; None if it takes none.
    """

    image_channels: int = 3
    context: int | None = None

    @property
    def divisor(self) -> int:
        """The image's height and width must be multiples of this."""
        return 1

    @property
    def patch_parameters(self) -> tuple[str, ...]:
        """Parameter prefixes of the layers whose weights depend on the patch size: see `stems.enlarged`."""
        return ()

    @property
    def features(self) -> tuple[int, int]:
        """Channels and downsampling factor of the features that `with_features` returns beside the prediction.

        Raises:
            SnriseError: for a network that has none. It cannot be the inner one of a nest.
        """
        raise SnriseError(f"{type(self).__name__}: this network returns no features, and cannot be within a nest")

    def stages(self) -> tuple[StageShape, ...]:
        """The stages that an image passes through, in order; empty for a network that does not list them."""
        return ()

    @abstractmethod
    def build(self, classes: int | None) -> nn.Module:
        """The network, called (z [b c h w], λ [b], labels [b] or None) -> a prediction [b c h w]: see `Traits`."""


@final
@dataclass(frozen=True, kw_only=True)
class External(NetworkConfig):
    """A network passed in from Python, which the settings only name by its type: it cannot be built from them."""

    type: str
    image_channels: int = 3

    def build(self, classes: int | None) -> nn.Module:
        """Always raises: the network has to be passed in."""
        raise SnriseError(
            f"config.network: {self.type} is a network of its own, which cannot be built from settings; pass it in "
            "Python: snrise.load(path, network=…)"
        )


@final
@dataclass(frozen=True)
class Traits:
    """What a network says of itself in its attributes. All are optional, so any nn.Module is a network.

    >>> network = nn.Linear(2, 2)
    >>> network.classes = 10
    >>> Traits(network).classes, Traits(network).edges, Traits(network).config.divisor
    (10, None, 1)
    """

    network: nn.Module

    @property
    def classes(self) -> int | None:
        """`network.classes`: the number of classes, which is also the label of the null class. None: no labels."""
        classes: int | None = getattr(self.network, "classes", None)
        return classes

    @property
    def edges(self) -> frozenset[str] | None:
        """`network.edges`: the names of the parameters that Muon leaves to AdamW; None if the network does not say.

        They are those where the image, λ and the class enter, where λ and the class scale and shift, and where the
        image leaves: all that are not matrices within the network.
        """
        edges = getattr(self.network, "edges", None)
        return None if edges is None else frozenset(edges)

    @property
    def config(self) -> NetworkConfig:
        """`network.config`: the settings that it was built from; `External` for a module that is not snrise's."""
        config = getattr(self.network, "config", None)
        return config if isinstance(config, NetworkConfig) else External(type=type_name(self.network))


def names_within(network: nn.Module, *parts: nn.Module | nn.Parameter | None) -> frozenset[str]:
    """The names of all parameters of a network that are, or belong to, some of its parts; None is ignored.

    >>> sorted(names_within(network := nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False)), network[1]))
    ['1.weight']
    """
    chosen = {id(p) for part in parts if part is not None
              for p in (part.parameters() if isinstance(part, nn.Module) else [part])}
    return frozenset(name for name, p in network.named_parameters() if id(p) in chosen)


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Context manager: networks in evaluation mode; on exit each module is back in the mode that it was in.

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
    """Raise unless both sides are multiples of `divisor`; the error names the nearest sizes that are."""
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
