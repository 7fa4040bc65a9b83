"""U-Net: convolutions, attention at low resolutions, and a skip for every block. Hoogeboom et al. 2023, app. B."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snrise._errors import require
from snrise.networks.base import StageShape, Way
from snrise.networks.layers import Down, Up, group_norm
from snrise.networks.leveled import LeveledConfig, LeveledNetwork
from snrise.networks.levels import Kind, Stage, widened


@dataclass(frozen=True, kw_only=True)
class UNetConfig(LeveledConfig):
    """Levels of convolutions: `blocks` on the way down, each with a skip to one of the `blocks` + 1 on the way up.

    Between the two stand `middle` blocks at the lowest resolution.
    """

    embedding: int = 1024
    middle: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for i, level in enumerate(self.levels):
            fix = "use a UViTConfig for transformers"
            require(level.kind is Kind.CONV, f"UNetConfig.levels[{i}].kind", level.kind.value, "conv", fix)
        require(self.middle >= 0, "UNetConfig.middle", self.middle, "a whole number, 0 or more")

    def stages(self) -> tuple[StageShape, ...]:
        """The stages in order."""
        lowest, down, up = len(self.levels) - 1, [], []
        for i, level in enumerate(self.levels):
            down.append(self.stage(i, Way.DOWN, [f"down_stages.{i}", *([f"downs.{i - 1}"] if i else [])]))
            # The way up is numbered from the lowest level.
            parts = [f"up_stages.{lowest - i}", *([f"ups.{lowest - i - 1}"] if i < lowest else [])]
            up.append(self.stage(i, Way.UP, parts, level.blocks + 1))
        return (*down, self.stage(lowest, Way.MIDDLE, ["middle"], self.middle), *reversed(up))

    def build(self, classes: int | None) -> "UNet":
        """The network."""
        return UNet(self, classes)


class UNet(LeveledNetwork):
    """The network of a `UNetConfig`."""

    def __init__(self, config: UNetConfig, classes: int | None = None) -> None:
        super().__init__(config, classes)
        levels, context = config.levels, config.context
        widths = [levels[0].channels]
        self.down_stages, self.downs = nn.ModuleList(), nn.ModuleList()
        for i, level in enumerate(levels):
            if i:
                self.downs.append(Down(widths[-1], level.channels))
                widths.append(level.channels)
            self.down_stages.append(Stage(level, config.embedding, context))
            widths += [level.channels] * level.blocks
        self.middle = Stage(widened(levels[-1], config.middle), config.embedding, context)
        self.up_stages, self.ups = nn.ModuleList(), nn.ModuleList()
        for i, level in reversed(list(enumerate(levels))):
            skips = [widths.pop() for _ in range(level.blocks + 1)]
            self.up_stages.append(Stage(widened(level, level.blocks + 1), config.embedding, context, skips))
            if i:
                self.ups.append(Up(level.channels, levels[i - 1].channels))
        self.norm = group_norm(levels[0].channels)
        self.to(memory_format=torch.channels_last)

    def trunk(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        skips = [h]
        for i, stage in enumerate(self.down_stages):
            if i:
                h = self.downs[i - 1](h)
                skips.append(h)
            assert isinstance(stage, Stage)
            for step in stage.steps(context):
                h = step(h, emb)
                skips.append(h)
        h = self.middle(h, emb, context)
        for i, stage in enumerate(self.up_stages):
            assert isinstance(stage, Stage)
            for step in stage.steps(context):
                h = step(h, emb, skips.pop())
            if i < len(self.ups):
                h = self.ups[i](h)
        return h
