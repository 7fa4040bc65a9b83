"""What networks of levels share: settings, stem and conditioning."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import require
from snrise._typing import Images, Labels, LogSnr
from snrise.networks.base import NetworkConfig, StageShape, Way, check_context, check_size, names_within
from snrise.networks.embeddings import Conditioning
from snrise.networks.layers import Film
from snrise.networks.levels import Kind, Level
from snrise.networks.stems import Stem, check_factor, stem


@dataclass(frozen=True, kw_only=True)
class LeveledConfig(NetworkConfig):
    """What networks of levels share.

    `levels` from the highest resolution to the lowest; `stem` is the factor that the first layer down-samples by;
    `embedding` is the width of the condition (λ and class), `context` that of context vectors, for a network with
    cross-attention.
    """

    levels: tuple[Level, ...]
    stem: int = 1
    stem_kind: Stem = Stem.CONV
    embedding: int = 256
    context: int | None = None
    image_channels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        name = type(self).__name__
        require(len(self.levels) >= 1, f"{name}.levels", self.levels, "one level or more")
        for setting in ("embedding", "image_channels", "context"):
            value = getattr(self, setting)
            require(value is None or value >= 1, f"{name}.{setting}", value, "a whole number above 0")
        check_factor(self.stem, self.stem_kind, f"{name}.stem")

    @property
    def divisor(self) -> int:
        """The image's height and width must be multiples of this."""
        return int(self.stem * 2 ** (len(self.levels) - 1))

    @property
    def factors(self) -> list[int]:
        """The downsampling factor of each level."""
        return [self.stem * 2**i for i in range(len(self.levels))]

    @property
    def features(self) -> tuple[int, int]:
        return self.levels[0].channels, self.stem

    @property
    def patch_parameters(self) -> tuple[str, ...]:
        return () if self.stem_kind is Stem.WAVELET else ("stem.",)

    def stage(self, i: int, way: Way, parts: Sequence[str], blocks: int | None = None) -> StageShape:
        """Level i as a stage, with its own or other blocks."""
        level = self.levels[i]
        return StageShape(
            self.factors[i], level.channels, level.blocks if blocks is None else blocks,
            "attention" if level.attends and level.kind is Kind.CONV else level.kind.value,
            way, tuple(parts), f"levels.{i}.checkpoint",
        )


class LeveledNetwork(nn.Module):
    """z [b c h w], λ [b], labels [b], context [b m d] -> a prediction [b c h w], through a stem and a trunk.

    `labels` are class indices, `classes` being the null class; None is the null class for all. The output is zero at
    initialisation. A subclass makes the trunk, then `norm`, the last layer before the stem.
    """

    norm: nn.GroupNorm

    def __init__(self, config: LeveledConfig, classes: int | None) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.conditioning = Conditioning(config.embedding, classes)
        self.stem = stem(config.image_channels, config.levels[0].channels, config.stem, config.stem_kind)

    def forward(
        self, z: Images, logsnr: LogSnr, labels: Labels | None = None, context: Tensor | None = None
    ) -> Images:
        return self.with_features(z, logsnr, labels, context)[0]

    def with_features(
        self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and the features before the last layer: see `NetworkConfig.features`."""
        check_size(z, self.config.divisor, self.config.image_channels)
        check_context(context, self.config.context)
        emb = self.conditioning(logsnr, labels)
        h = self.stem.down(z)
        h = F.silu(self.norm(self.trunk(h, emb, context)))
        return self.stem.up(h), h

    @property
    def edges(self) -> frozenset[str]:
        """Parameters that are not matrices within the network: see `Traits.edges`."""
        return names_within(self, self.conditioning, self.stem, *(m for m in self.modules() if isinstance(m, Film)))

    @abstractmethod
    def trunk(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        """From the stem's cells to cells of the same shape."""
