"""What a network costs: parameters and multiply-adds of each part, without running it."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from snrise._typing import Size
from snrise.networks.base import Traits

__all__ = ["Cost", "Part", "copied", "cost", "outermost", "part_of"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a network: its name, parameters, and multiply-adds of one image's forward pass."""

    name: str
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A table by part. `flops` counts a multiply-add as two operations, `macs` as one, as most papers do.

    Matrix products, convolutions and attention are counted; everything else is a few percent.
    """

    image: Size
    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(part.macs for part in self.parts)

    @property
    def flops(self) -> int:
        """Twice the multiply-adds."""
        return 2 * self.macs

    def __str__(self) -> str:
        rows = [*((p.name, p.parameters, p.macs) for p in self.parts), ("all", self.parameters, self.macs)]
        lines = [f"{name:<24}{parameters / 1e6:>12,.2f}{macs / 1e9:>12,.2f}" for name, parameters, macs in rows]
        head = f"{f'{self.image[0]}x{self.image[1]}':<24}{'M parameters':>12}{'GMACs':>12}"
        return "\n".join([head, *lines])


def cost(network: nn.Module, image: Size) -> Cost:
    """Parameters and multiply-adds of a network by part, for one whole image of a size; computed on the device "meta".

    A part is a child of the network, or a member of a child that is a list.

    >>> from snrise.networks import Level, UViTConfig, build
    >>> network = build(UViTConfig(levels=(Level(channels=32, blocks=1), Level(channels=64, blocks=1))), device="meta")
    >>> table = cost(network, (32, 32))
    >>> table.parameters == sum(p.numel() for p in network.parameters()), table.macs
    (True, 61702144)
    """
    abstract = copied(network, lambda tensor: tensor.to("meta")).eval()
    traits, counter = Traits(network), FlopCounterMode(display=False)
    labels = None if traits.classes is None else torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), counter:
        z = torch.zeros(1, traits.config.image_channels, *image, device="meta")
        abstract(z, torch.zeros(1, device="meta"), labels)
    names = list(dict.fromkeys(part_of(name) for name, _ in network.named_parameters()))
    macs = _by_part(counter.get_flop_counts(), type(network).__name__, names)
    parameters: defaultdict[str, int] = defaultdict(int)
    for name, p in network.named_parameters():
        parameters[part_of(name)] += p.numel()
    parts = tuple(Part(name=name, parameters=parameters[name], macs=macs[name]) for name in names)
    return Cost(image=image, parts=parts)


def copied(network: nn.Module, make: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of the network with `make` applied to its parameters, buffers and other tensors in attributes."""
    attributes = (value for module in network.modules() for value in vars(module).values())
    with torch.no_grad():
        made: dict[int, Any] = {id(t): make(t) for t in (*network.buffers(), *attributes) if isinstance(t, Tensor)}
        made |= {id(p): nn.Parameter(make(p), p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, made)


def part_of(name: str) -> str:
    """The part that a parameter or module belongs to: `ups.0.project.weight` -> `ups.0`; in a nest, `inner.ups.0`."""
    first, *rest = name.split(".")
    if first == "inner" and rest:
        return f"inner.{part_of('.'.join(rest))}"
    return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first


def outermost(names: Iterable[str], part: str) -> list[str]:
    """Of the names of modules, those within a part, without the descendants of others.

    >>> outermost(["middle.blocks.0", "middle.blocks.0.norm", "stem"], "middle")
    ['middle.blocks.0']
    """
    inside = [name for name in names if f"{name}.".startswith(f"{part}.")]
    return [name for name in inside if not any(name.startswith(f"{other}.") for other in inside)]


def _by_part(counts: dict[str, dict[Any, int]], root: str, parts: Iterable[str]) -> dict[str, int]:
    """Multiply-adds of each part, from the counts of all modules by their paths.

    A module's count includes its descendants'; a part that is not called itself has only its descendants' counts.
    """
    paths = {path.removeprefix(f"{root}."): path for path in counts if path.startswith(f"{root}.")}
    return {part: sum(sum(counts[paths[name]].values()) // 2 for name in outermost(paths, part)) for part in parts}
