"""A network within a network: the inner one, at half the side, says the coarse half, an outer level the details."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snrise._errors import SnriseError, require
from snrise._typing import Images, Labels, LogSnr
from snrise.networks.base import NetworkConfig, StageShape, Way, check_context, check_size, evaluating, names_within
from snrise.networks.embeddings import Conditioning
from snrise.networks.haar import BANDS, haar, unhaar
from snrise.networks.layers import Film, group_norm, zero
from snrise.networks.levels import Kind, Level, Stage

__all__ = ["Coupling", "Nested", "NestedConfig"]


class Coupling(Protocol):
    """How predictions of two resolutions hang together at a noise level: `nest.Link`."""

    def coarse(self, logsnr: Tensor, factor: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of z pooled: its gain, its λ; of the pooled prediction: the factors of the inner one, and of z pooled."""
        ...

    def detail(self, logsnr: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a band of z: its gain; of its prediction: the factors of it, and of what the network says, [b bands]."""
        ...


@dataclass(frozen=True, kw_only=True)
class NestedConfig(NetworkConfig):
    """An `inner` network on images pooled by 2, and a `level` of blocks at half the side for what is finer.

    `variances` are those of the images' three detail bands (across the width, the height, both): `haar.band_variances`
    measures them. With `frozen`, the inner network stays as it is, and costs no gradient. Its blocks are seen by the
    outer ones through its last features.
    """

    inner: NetworkConfig
    level: Level
    variances: tuple[float, float, float]
    frozen: bool = True
    embedding: int = 256

    def __post_init__(self) -> None:
        require(self.embedding >= 1, "NestedConfig.embedding", self.embedding, "a whole number above 0")
        good = len(self.variances) == BANDS and min(self.variances) > 0
        require(good, "NestedConfig.variances", self.variances, "three numbers above 0")
        fix = "use kind=conv"
        require(self.level.kind is Kind.CONV, "NestedConfig.level.kind", self.level.kind.value, "conv", fix)
        require(self.level.blocks >= 1, "NestedConfig.level.blocks", self.level.blocks, "a whole number above 0")

    @property
    def image_channels(self) -> int:  # type: ignore[override]
        """Those of the inner network."""
        return self.inner.image_channels

    @property
    def context(self) -> int | None:
        """The width of the inner network's context vectors."""
        return getattr(self.inner, "context", None)

    @property
    def divisor(self) -> int:
        """What an image's height and width must be multiples of."""
        return 2 * self.inner.divisor

    @property
    def features(self) -> tuple[int, int]:
        return self.level.channels, 2

    def stages(self) -> tuple[StageShape, ...]:
        """What an image passes through, in order: the inner network, then the outer level."""
        inner = (
            stage._replace(
                factor=2 * stage.factor, parts=tuple(f"inner.{part}" for part in stage.parts),
                checkpoint=f"inner.{stage.checkpoint}",
            ) for stage in self.inner.stages()
        )
        kind = "attention" if self.level.attends else self.level.kind.value
        outer = StageShape(2, self.level.channels, self.level.blocks, kind, Way.DETAILS, ("outer",), "level.checkpoint")
        return (*inner, outer)

    def build(self, classes: int | None) -> "Nested":
        """The network. Before it is asked for anything, it needs a `link`: `nest.Link` of its target."""
        return Nested(self, classes)


class Nested(nn.Module):
    """z [b c h w], λ [b], labels [b], context [b m d] -> a prediction [b c h w]: see `NestedConfig`.

    Pooled, it is the inner network's prediction of the pooled image, exactly, whatever the outer level says. That
    begins as the best linear estimate of the details.
    """

    variances: Tensor

    def __init__(self, config: NestedConfig, classes: int | None = None) -> None:
        super().__init__()
        self.config, self.classes = config, classes
        self.link: Coupling | None = None
        channels, width = config.image_channels, config.level.channels
        self.inner: nn.Module = config.inner.build(classes)
        features, _ = config.inner.features
        self.conditioning = Conditioning(config.embedding, classes)
        self.bridge = nn.Conv2d(features, width, 1)
        # Details and the pooled image as they are seen, and what the inner network says.
        self.enter = nn.Conv2d((BANDS + 2) * channels, width, 3, padding=1)
        self.outer = Stage(config.level, config.embedding)
        self.norm = group_norm(width)
        self.leave = zero(nn.Conv2d(width, BANDS * channels, 3, padding=1))
        self.register_buffer("variances", torch.tensor(config.variances), persistent=False)
        self.to(memory_format=torch.channels_last)
        self.inner.requires_grad_(not config.frozen)

    @property
    def edges(self) -> frozenset[str]:
        """The names of the parameters that are no matrices within the network: see `NetworkConfig.build`."""
        inner: frozenset[str] = getattr(self.inner, "edges", frozenset())
        films = (module for module in self.outer.modules() if isinstance(module, Film))
        mine = names_within(self, self.conditioning, self.enter, self.leave, *films)
        return mine | {f"inner.{name}" for name in inner}

    def forward(
        self, z: Images, logsnr: LogSnr, labels: Labels | None = None, context: Tensor | None = None
    ) -> Images:
        return self.with_features(z, logsnr, labels, context)[0]

    def with_features(
        self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and what the last layer makes it of: [b channels h/2 w/2]."""
        if self.link is None:
            raise SnriseError("network.link: none; a nest has to know its target: network.link = nest.Link(target)")
        check_size(z, self.config.divisor, self.config.image_channels)
        check_context(context, self.config.context)
        gain, lower, of_inner, of_pooled = (c.to(z.dtype) for c in self.link.coarse(logsnr))
        scale, of_z, of_said = (c.to(z.dtype) for c in self.link.detail(logsnr, self.variances))
        coarse, details = haar(z)
        pooled = coarse / 2
        seen = _each(gain, pooled) * pooled
        said, features = self._inner(seen, lower, labels, context)
        outer, h = self._outer(_bands(scale) * details, seen, said, features, self.conditioning(logsnr, labels))
        said = said.to(z.dtype)
        whole = _each(of_inner, pooled) * said + _each(of_pooled, pooled) * pooled
        return unhaar(2 * whole, _bands(of_z) * details + _bands(of_said) * outer.to(z.dtype)), h

    def _inner(
        self, seen: Tensor, logsnr: Tensor, labels: Tensor | None, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        network: Any = self.inner
        if not self.config.frozen:
            return network.with_features(seen, logsnr, labels, context)  # type: ignore[no-any-return]
        with torch.no_grad(), evaluating(network):
            return network.with_features(seen, logsnr, labels, context)  # type: ignore[no-any-return]

    def _outer(
        self, details: Tensor, seen: Tensor, said: Tensor, features: Tensor, emb: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the outer level says of the details, [b 3 c h/2 w/2], and its last features."""
        known = torch.cat([details.flatten(1, 2), seen, said.to(seen.dtype)], dim=1)
        h = self.enter(known.contiguous(memory_format=torch.channels_last))
        lower = self.bridge(features)
        h = h + F.interpolate(lower, size=h.shape[2:], mode="nearest")
        h = F.silu(self.norm(self.outer(h, emb)))
        out: Tensor = self.leave(h)
        return out.reshape(len(out), BANDS, -1, *out.shape[2:]), h


def _each(value: Tensor, like: Tensor) -> Tensor:
    """[b] against [b c h w]."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def _bands(value: Tensor) -> Tensor:
    """[b bands] against [b bands c h w]."""
    return value[:, :, None, None, None]
