"""The levels of a network: its blocks at one resolution."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from snrise._errors import require, unknown
from snrise._typing import StrEnum
from snrise.networks.attention import CrossAttention
from snrise.networks.layers import ConvBlock, LocalBlock, TransformerBlock, from_tokens, on_tokens, to_tokens
from snrise.networks.recomputing import recomputed


class Kind(StrEnum):
    """The kind of a level's blocks.

    `local` are convolutions too, with a norm over each cell by itself instead of over groups of channels of the whole
    image: nothing is known of what lies beyond the kernels, and a network can be trained on parts of an image.
    """

    CONV = "conv"
    LOCAL = "local"
    TRANSFORMER = "transformer"


@dataclass(frozen=True, kw_only=True)
class Level:
    """One resolution of the network: `blocks` on the way down and as many on the way up (the lowest: once).

    A transformer level always attends; a conv level does if `attention` is set. `head` is the width of one head. With
    `checkpoint`, activations within a block are recomputed in the backward pass: the same
    numbers in less memory, for a forward pass more.
    """

    channels: int
    blocks: int
    kind: Kind = Kind.CONV
    attention: bool = False
    dropout: float = 0.0
    head: int = 32
    checkpoint: bool = False

    def __post_init__(self) -> None:
        require(self.channels >= 1, "Level.channels", self.channels, "a whole number above 0")
        require(self.blocks >= 0, "Level.blocks", self.blocks, "a whole number, 0 or more")
        require(0 <= self.dropout < 1, "Level.dropout", self.dropout, "a number in [0, 1)")
        if self.kind not in tuple(Kind):
            raise unknown("Level.kind", self.kind, Kind, "kind")
        object.__setattr__(self, "kind", Kind(self.kind))
        fix = "use kind=conv"
        require(not self.attention or self.kind is not Kind.LOCAL, "Level.attention", True, "false for kind=local", fix)
        if self.attends:
            divides = self.head >= 4 and self.head % 4 == 0
            require(divides, "Level.head", self.head, "a multiple of 4 (two axes of rotary pairs)")
            fix = f"use {max(1, self.channels // self.head) * self.head}"
            whole = self.channels % self.head == 0
            require(whole, "Level.channels", self.channels, f"a multiple of head={self.head}", fix)

    @property
    def attends(self) -> bool:
        return self.attention or self.kind is Kind.TRANSFORMER


def widened(level: Level, blocks: int) -> Level:
    """The level with another number of blocks."""
    return replace(level, blocks=blocks)


class Stage(nn.Module):
    """The blocks of one level, in one direction: [b c h w] -> the same.

    Blocks with attention also cross-attend to context vectors [b m d], if the network has any. With `skips`, each
    convolutional block takes that many additional channels.
    """

    def __init__(
        self, level: Level, embedding: int, context: int | None = None, skips: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.kind, self.checkpoint, width = level.kind, level.checkpoint, level.channels
        head = level.head if level.attends else None
        self.blocks, self.across = nn.ModuleList(), nn.ModuleList()
        for i in range(level.blocks):
            if level.kind is Kind.TRANSFORMER:
                self.blocks.append(TransformerBlock(width, embedding, level.dropout, level.head))
            elif level.kind is Kind.LOCAL:
                self.blocks.append(LocalBlock(width, embedding, level.dropout))
            else:
                enters = width if skips is None else width + skips[i]
                self.blocks.append(ConvBlock(width, embedding, level.dropout, head, enters))
            if level.attends and context is not None:
                self.across.append(CrossAttention(width, context, level.head))

    def forward(self, h: Tensor, emb: Tensor, context: Tensor | None = None) -> Tensor:
        if self.kind is not Kind.TRANSFORMER:
            for step in self.steps(context):
                h = step(h, emb)
            return h
        size = (h.shape[2], h.shape[3])
        tokens = to_tokens(h)
        for i, block in enumerate(self.blocks):
            tokens = self._kept(partial(on_tokens, block, self._across(i, context), context, size))(tokens, emb)
        return from_tokens(tokens, size)

    def steps(self, context: Tensor | None) -> Iterator[Callable[..., Tensor]]:
        """The blocks of convolutions one by one, each with its attention to the context: (h, emb, skip) -> h."""
        for i, block in enumerate(self.blocks):
            yield self._kept(partial(_on_cells, block, self._across(i, context), context))

    def _across(self, i: int, context: Tensor | None) -> nn.Module | None:
        return self.across[i] if context is not None and self.across else None

    def _kept(self, block: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return recomputed(block) if self.checkpoint else block


def _on_cells(
    block: nn.Module, across: nn.Module | None, context: Tensor | None, h: Tensor, emb: Tensor, *skip: Tensor
) -> Tensor:
    out: Tensor = block(h, emb, *skip)
    return out if across is None else from_tokens(across(to_tokens(out), context), (out.shape[2], out.shape[3]))
