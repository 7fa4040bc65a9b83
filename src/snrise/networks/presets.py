"""Networks of the papers, and some of our own for one GPU, by name."""

from collections.abc import Sequence

from snrise.networks.base import NetworkConfig
from snrise.networks.levels import Kind, Level
from snrise.networks.nested import NestedConfig
from snrise.networks.stems import Stem
from snrise.networks.unet import UNetConfig
from snrise.networks.uvit import Skip, UViTConfig
from snrise.networks.vit import ViTConfig

__all__ = ["PRESETS"]


def _unet(side: int, multipliers: Sequence[int], blocks: Sequence[int], stem: int) -> UNetConfig:
    """A U-Net of Hoogeboom et al. 2023, app. B: attention of 4 heads at 16×16 and 8×8, dropout from 16×16 down."""
    levels = []
    for i, (multiplier, count) in enumerate(zip(multipliers, blocks, strict=True)):
        low = side // stem // 2**i <= 16
        channels = 128 * multiplier
        levels.append(Level(
            channels=channels, blocks=count, attention=low, dropout=0.1 if low else 0.0, head=channels // 4,
        ))
    kind = Stem.CONV if stem == 1 else Stem.WAVELET
    return UNetConfig(levels=tuple(levels), stem=stem, stem_kind=kind, embedding=1024)


def _uvit_2b(stem: int) -> UViTConfig:
    """The U-ViT of Hoogeboom et al. 2023, app. B: 36 transformer blocks of 2048 with 4 heads at 16×16."""
    conv = [Level(channels=128 * multiplier, blocks=2) for multiplier in (1, 2, 4)]
    low = Level(channels=2048, blocks=36, kind=Kind.TRANSFORMER, dropout=0.2, head=512)
    kind = Stem.CONV if stem == 1 else Stem.WAVELET
    return UViTConfig(levels=(*conv, low), stem=stem, stem_kind=kind, embedding=1024)


def _sid2(patch: int) -> UViTConfig:
    """The small residual U-ViT of Hoogeboom et al. 2024: convolutions at two levels, transformers at two."""
    return UViTConfig(
        levels=(
            Level(channels=128, blocks=3), Level(channels=256, blocks=3),
            Level(channels=512, blocks=3, kind=Kind.TRANSFORMER, head=64),
            Level(channels=1024, blocks=16, kind=Kind.TRANSFORMER, head=64),
        ),
        stem=patch, skip=Skip.RESIDUAL, embedding=1024,
    )


def _jit(width: int, depth: int, head: int, first: int, patch: int) -> ViTConfig:
    """A plain transformer of Li and He 2025, table of configurations."""
    return ViTConfig(width=width, depth=depth, head=head, patch=patch, class_tokens_from=first)


#: Of our own: widths at 64×64 (not for images of 64 px), 32×32 and 16×16, blocks there, and the condition's width.
_OWN = {"s": ((64, 128, 384), (1, 2, 8), 384), "m": ((96, 256, 768), (2, 3, 12), 768),
        "l": ((128, 384, 1024), (3, 4, 24), 1024)}


def _own(size: str, side: int) -> UViTConfig:
    """Convolutions at 64×64 and 32×32, a transformer at 16×16, whatever the image's side."""
    widths, blocks, embedding = _OWN[size]
    top = 1 if side == 64 else 0
    conv = [Level(channels=c, blocks=b) for c, b in zip(widths[top:-1], blocks[top:-1], strict=True)]
    low = Level(channels=widths[-1], blocks=blocks[-1], kind=Kind.TRANSFORMER, dropout=0.1, head=64)
    return UViTConfig(levels=(*conv, low), stem=side // (32 if top else 64), embedding=embedding, skip=Skip.RESIDUAL)


#: The mean square of the detail bands of photographs of landscapes, 64 to 256 px high, by octave; above as at 256 px.
#: `snrise train --grow` measures those of the images at hand.
_PHOTOGRAPHS = {128: (0.0049, 0.0128, 0.0019), 256: (0.0044, 0.0093, 0.0017)}


def _nest(inner: NetworkConfig, sides: Sequence[int], widths: Sequence[int], embedding: int) -> NestedConfig:
    """One of our own within outer levels of 3 local blocks; the outermost trains on parts of 128 px."""
    nest = inner
    for side, width in zip(sides, widths, strict=True):
        nest = NestedConfig(
            inner=nest, level=Level(channels=width, blocks=3, kind=Kind.LOCAL), embedding=embedding,
            variances=_PHOTOGRAPHS[min(side, 256)], crop=128 if side == sides[-1] else None,
        )
    assert isinstance(nest, NestedConfig)
    return nest


#: Every preset by name; the last number is the side of the images that it is for.
PRESETS: dict[str, NetworkConfig] = {
    "unet-128": _unet(128, (1, 2, 4, 8, 8), (3, 4, 4, 12, 4), 1),
    "unet-256": _unet(256, (1, 1, 2, 4, 8, 8), (1, 2, 2, 4, 12, 4), 1),
    "unet-512": _unet(512, (2, 3, 4, 8, 8), (3, 3, 4, 12, 4), 4),
    **{f"uvit-2b-{128 * stem}": _uvit_2b(stem) for stem in (1, 2, 4)},
    "sid2-small-256": _sid2(2),
    "sid2-small-1-256": _sid2(1),
    **{f"jit-b-{16 * patch}": _jit(768, 12, 64, 4, patch) for patch in (16, 32, 64)},
    "jit-l-256": _jit(1024, 24, 64, 8, 16), "jit-l-512": _jit(1024, 24, 64, 8, 32),
    "jit-h-256": _jit(1280, 32, 80, 10, 16), "jit-h-512": _jit(1280, 32, 80, 10, 32),
    "nest-m-512": _nest(_own("m", 64), (128, 256, 512), (128, 64, 32), 768),
    "nest-l-1024": _nest(_own("l", 128), (256, 512, 1024), (128, 64, 32), 1024),
    **{f"{size}-{side}": _own(size, side) for size in _OWN for side in (64, 128, 256, 512, 1024)},
}
