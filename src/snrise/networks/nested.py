"""A nested network: the inner one, at half the side, predicts the coarse half, an outer level the details."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from snrise._errors import SnriseError, require
from snrise._typing import Images, Labels, LogSnr
from snrise.networks.base import (
    NetworkConfig,
    StageShape,
    Traits,
    Way,
    check_context,
    check_size,
    evaluating,
    names_within,
)
from snrise.networks.embeddings import Conditioning
from snrise.networks.haar import BANDS, haar, unhaar
from snrise.networks.layers import CellNorm, Film, group_norm, zero
from snrise.networks.levels import Kind, Level, Stage
from snrise.networks.windows import Windows

__all__ = ["Coupling", "Nested", "NestedConfig"]

#: The logarithm of a coefficient's own variance over its band's is at most so large, and at least minus that.
LOUDNESS = 8.0


class Coupling(Protocol):
    """The relation between predictions at two resolutions: see `nest.Link`."""

    def coarse(self, logsnr: Tensor, factor: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Of z pooled: its gain, its λ; of the pooled prediction, the factors of the inner one and of z pooled.

        Then of the signal in what the inner network sees, the factors of its prediction and of that.
        """
        ...

    def detail(self, logsnr: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of coefficients of z: their gains to variance 1, of noise to variance 1; of the prediction, the factors.

        Those of z, and of what the network says. λ [b], variances [bands] or [b bands …] -> [b bands …] each.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NestedConfig(NetworkConfig):
    """An `inner` network on images pooled by 2, and a `level` of blocks at half the side for what is finer.

    `variances` are those of the images' three detail bands (horizontal, vertical, diagonal), as measured by
    `haar.band_variances`. With `frozen`, the inner network is not trained, and costs no gradient. The
    outer blocks get its last features.

    While it trains, the outer level sees a `crop` of so many pixels of each image, somewhere; null is the whole. The
    inner network sees the whole in any case. Where the bands' own log-SNR, λ + 2 log s, is below `asleep_below`, noise
    drowns them: the best linear estimate stands, and the outer level costs nothing.
    """

    inner: NetworkConfig
    level: Level
    variances: tuple[float, float, float]
    frozen: bool = True
    embedding: int = 256
    crop: int | None = None
    asleep_below: float = -8.0

    def __post_init__(self) -> None:
        require(self.embedding >= 1, "NestedConfig.embedding", self.embedding, "a whole number above 0")
        good = len(self.variances) == BANDS and min(self.variances) > 0
        require(good, "NestedConfig.variances", self.variances, "three numbers above 0")
        fix = "use kind=local"
        kinds = (Kind.CONV, Kind.LOCAL)
        require(self.level.kind in kinds, "NestedConfig.level.kind", self.level.kind.value, "local or conv", fix)
        require(self.level.blocks >= 1, "NestedConfig.level.blocks", self.level.blocks, "a whole number above 0")
        within = self.inner.crop if isinstance(self.inner, NestedConfig) else None
        require(within is None, "NestedConfig.inner.crop", within, "null: a crop is for the outermost level")
        if self.crop is not None:
            good = self.crop >= 2 and self.crop % 2 == 0
            require(good, "NestedConfig.crop", self.crop, "an even number of pixels, 2 or more, or null for the whole")
            local = self.level.kind is Kind.LOCAL
            require(local, "NestedConfig.crop", self.crop, f"null for a level of kind={self.level.kind.value}", fix)
            require(self.frozen, "NestedConfig.crop", self.crop, "null where the inner network learns", "frozen=true")

    @property
    def image_channels(self) -> int:  # type: ignore[override]
        """Those of the inner network."""
        return self.inner.image_channels

    @property
    def context(self) -> int | None:  # type: ignore[override]
        """Those of the inner network."""
        return self.inner.context

    @property
    def divisor(self) -> int:
        """The image's height and width must be multiples of this."""
        return 2 * self.inner.divisor

    @property
    def features(self) -> tuple[int, int]:
        return self.level.channels, 2

    def stages(self) -> tuple[StageShape, ...]:
        """The stages in order: the inner network's, then the outer level."""
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
        """The network. Set its `link`, `nest.Link` of the target, before calling it."""
        return Nested(self, classes)


class Nested(nn.Module):
    """z [b c h w], λ [b], labels [b], context [b m d] -> a prediction [b c h w]: see `NestedConfig`.

    Pooled, it is exactly the inner network's prediction of the pooled image, whatever the outer level predicts. At
    initialisation that is the best linear estimate of the details.
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
        # Details as z and as noise are scaled, the pooled image as it is seen, and the signal that is found in it.
        self.enter = nn.Conv2d((2 * BANDS + 2) * channels, width, 3, padding=1)
        self.outer = Stage(config.level, config.embedding)
        self.norm = CellNorm() if config.level.kind is Kind.LOCAL else group_norm(width)
        self.leave = zero(nn.Conv2d(width, 2 * BANDS * channels, 3, padding=1))
        self.register_buffer("variances", torch.tensor(config.variances), persistent=False)
        self.to(memory_format=torch.channels_last)
        self.inner.requires_grad_(not config.frozen)

    @property
    def edges(self) -> frozenset[str]:
        """Parameters that are not matrices within the network: see `Traits.edges`."""
        films = (module for module in self.outer.modules() if isinstance(module, Film))
        own = names_within(self, self.conditioning, self.enter, self.leave, *films)
        return own | {f"inner.{name}" for name in Traits(self.inner).edges or ()}

    def forward(
        self, z: Images, logsnr: LogSnr, labels: Labels | None = None, context: Tensor | None = None
    ) -> Images:
        return self._predicted(z, logsnr, labels, context)[0]

    def with_features(
        self, z: Tensor, logsnr: Tensor, labels: Tensor | None = None, context: Tensor | None = None,
        within: Windows | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The prediction, and the features before the last layer: [b channels h/2 w/2].

        With `within`, only a window of each image is needed: the crop that an enclosing nest trains on.
        """
        prediction, h, window = self._predicted(z, logsnr, labels, context, within)
        return prediction, h if window is None else window.put_back(h, [n // 2 for n in prediction.shape[2:]])

    def _predicted(
        self, z: Tensor, logsnr: Tensor, labels: Tensor | None, context: Tensor | None, within: Windows | None = None,
    ) -> tuple[Tensor, Tensor, Windows | None]:
        """The prediction of the whole image, and the features and window that the outer level computed."""
        if self.link is None:
            raise SnriseError("network.link: none; a nest has to know its target: network.link = nest.Link(target)")
        check_size(z, self.config.divisor, self.config.image_channels)
        check_context(context, self.config.context)
        gain, lower, of_inner, of_pooled, of_said, of_seen = (c.to(z.dtype) for c in self.link.coarse(logsnr))
        coarse, details = haar(z)
        pooled = coarse / 2
        seen = _each(gain, pooled) * pooled
        window = self._window(pooled.shape[2:], len(z), within)
        said, features = self._inner(seen, lower, labels, context, window)
        said = said.to(z.dtype)
        whole = _each(of_inner, said) * said + _each(of_pooled, pooled) * pooled
        awake = logsnr + self.variances.max().log() >= self.config.asleep_below
        if _certainly_none(awake):
            h = z.new_zeros(len(z), self.config.level.channels, *pooled.shape[2:])
            return unhaar(2 * whole, self._estimated(details, logsnr)), h, None
        signal = _each(of_said, said) * said + _each(of_seen, seen) * seen
        part = details
        if window is not None:
            part, seen, signal = (window.cut(h) for h in (details, seen, signal))
        told, h = self._outer(part, seen, signal, self._lower(features, pooled.shape[2:], window), logsnr, labels)
        residual, loudness = torch.where(_bands(awake[:, None]), told, 0.0).chunk(2, dim=1)
        own = self.variances[:, None, None, None] * (LOUDNESS * loudness.tanh()).exp()
        _, _, of_z, of_residual = self.link.detail(logsnr, own)
        part = of_z.to(z.dtype) * part + (of_residual * residual).to(z.dtype)
        if window is not None:
            part = window.put_onto(self._estimated(details, logsnr), part)
        return unhaar(2 * whole, part), h, window

    def _estimated(self, details: Tensor, logsnr: Tensor) -> Tensor:
        """The best linear estimate of the details, used outside the outer level's window."""
        assert self.link is not None, "asked for by the caller"
        _, _, of_z, _ = self.link.detail(logsnr, self.variances)
        return _bands(of_z.to(details.dtype)) * details

    def _window(self, size: Sequence[int], batch: int, within: Windows | None) -> Windows | None:
        """The window, at half the side, that the outer level computes; None for the whole image.

        Within an enclosing nest, the receptive field of its window; else, in training, the crop.
        """
        if within is not None:
            local = self.config.level.kind is Kind.LOCAL
            # A step each for the first and last layer, two for a block.
            return within.reduced(2, 2 * self.config.level.blocks + 2, size) if local else None
        side = (self.config.crop or 0) // 2
        if not self.training or not side or max(size) <= side:
            return None
        return Windows.drawn(batch, side, size)

    def _inner(
        self, seen: Tensor, logsnr: Tensor, labels: Tensor | None, context: Tensor | None, window: Windows | None
    ) -> tuple[Tensor, Tensor]:
        network: Any = self.inner
        more = {"within": window} if isinstance(network, Nested) else {}
        if not self.config.frozen:
            return network.with_features(seen, logsnr, labels, context, **more)  # type: ignore[no-any-return]
        with torch.set_grad_enabled(seen.requires_grad), evaluating(network):
            return network.with_features(seen, logsnr, labels, context, **more)  # type: ignore[no-any-return]

    def _lower(self, features: Tensor, size: Sequence[int], window: Windows | None) -> Tensor:
        """The inner network's features at the cells of the outer level, or of a part of them: [b c h w]."""
        factor = size[0] // features.shape[2]
        if window is None:
            return F.interpolate(self.bridge(features), size=tuple(size), mode="nearest")
        around = window.reduced(factor, 0, features.shape[2:])
        near = F.interpolate(self.bridge(around.cut(features)), scale_factor=factor, mode="nearest")
        return window.seen_from(around, factor).cut(near)

    def _outer(
        self, details: Tensor, seen: Tensor, signal: Tensor, lower: Tensor, logsnr: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The outer level's output for the details, residual and log-scale [b 6 c h/2 w/2], and its last features."""
        assert self.link is not None, "asked for by the caller"
        scale, whiten, *_ = (_bands(c.to(details.dtype)) for c in self.link.detail(logsnr, self.variances))
        # Noise of variance 1 on flat ground, however clean the image: no network can amplify what is hardly there.
        beside = (whiten * details).asinh()
        known = torch.cat([(scale * details).flatten(1, 2), beside.flatten(1, 2), seen, signal], dim=1)
        h = self.enter(known.contiguous(memory_format=torch.channels_last)) + lower
        h = F.silu(self.norm(self.outer(h, self.conditioning(logsnr, labels))))
        out: Tensor = self.leave(h).to(details)  # under autocast, too
        return out.reshape(len(out), 2 * BANDS, -1, *out.shape[2:]), h


def _certainly_none(mask: Tensor) -> bool:
    """Whether no element is true; False where values must not be read: in training, when compiled or only counted."""
    abstract = mask.is_meta or isinstance(mask, FakeTensor) or torch.compiler.is_compiling()
    return not (torch.is_grad_enabled() or abstract or bool(mask.any()))


def _each(value: Tensor, like: Tensor) -> Tensor:
    """[b], broadcast against [b c h w]."""
    return value.reshape(-1, *[1] * (like.ndim - 1))


def _bands(value: Tensor) -> Tensor:
    """[b bands], broadcast against [b bands c h w]."""
    return value[:, :, None, None, None]
