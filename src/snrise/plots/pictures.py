"""Pictures of pixels: a grid of samples, and noise at several resolutions."""

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageColor, ImageDraw
from torch import Generator, Tensor

from snrise._errors import invalid, require, unknown
from snrise._typing import Size
from snrise.data import as_float, to_uint8
from snrise.generation import State
from snrise.plots.style import GREY, GRID, INK, font, logsnr_text, size_text
from snrise.pooling import pool, pooled_logsnr
from snrise.process import VariancePreserving, diffuse
from snrise.schedules import Schedule

#: Pixels around and between the parts of a labelled picture.
MARGIN, GAP = 24, 10
#: Formats of animations by the suffix of a file.
ANIMATIONS = {".gif": "GIF", ".webp": "WEBP"}
#: Sides of images up to which a grid of samples enlarges them.
SMALL = 64


def sample_grid(
    images: UInt8[Tensor, "n 3 h w"],
    columns: int | None = None,
    scale: int | None = None,
    padding: int = 2,
    background: str = "white",
) -> Image.Image:
    """Images in rows, each pixel enlarged to scale×scale, with `padding` pixels of background around each image.

    By default `columns` makes the picture nearly square, and `scale` is the largest that keeps images within 64 pixels.

    >>> sample_grid(torch.zeros(10, 3, 8, 8, dtype=torch.uint8), scale=1).size
    (42, 32)
    """
    n, _, height, width = images.shape
    require(n >= 1, "sample_grid.images", "no images", "one image or more")
    require(columns is None or columns >= 1, "sample_grid.columns", columns, "a whole number above 0, or None")
    require(scale is None or scale >= 1, "sample_grid.scale", scale, "a whole number above 0, or None")
    require(padding >= 0, "sample_grid.padding", padding, "0 pixels or more")
    columns, scale = _shape(n, (height, width), columns, scale)
    picture = Image.new("RGB", grid_size(n, (height, width), columns, scale, padding), _colour(background))
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        corner = (padding + column * (scale * width + padding), padding + row * (scale * height + padding))
        picture.paste(_enlarged(image, scale), corner)
    return picture


def grid_size(
    count: int, image: Size, columns: int | None = None, scale: int | None = None, padding: int = 2
) -> tuple[int, int]:
    """Width and height of the picture that `sample_grid` makes of `count` images."""
    columns, scale = _shape(count, image, columns, scale)
    height, width = (scale * side + padding for side in image)
    return columns * width + padding, math.ceil(count / columns) * height + padding


def _shape(count: int, image: Size, columns: int | None, scale: int | None) -> tuple[int, int]:
    """The columns and the scale of a grid."""
    height, width = image
    columns = min(count, columns or math.ceil(math.sqrt(count * height / width)))
    return columns, max(1, SMALL // max(height, width)) if scale is None else scale


def noise_at_resolutions(
    image: UInt8[Tensor, "3 h w"] | Float[Tensor, "3 h w"],
    schedule_for: Callable[[Size], Schedule],
    factors: Sequence[int],
    generator: Generator,
    times: Sequence[float] = (0.0, 0.25, 0.5, 0.75),
    *,
    title: str = "",
) -> Image.Image:
    """One image at several resolutions (rows) and times (columns), noised, then pooled to the smallest resolution.

    Row i is the image pooled by `factors[i]`, noised as `schedule_for((height, width))` says. If every resolution has
    the same schedule, the higher ones look cleaner; with `schedules.for_resolution`, all look alike. Each cell is
    labelled with λ, and λ pooled to the smallest. Hoogeboom et al. 2023, fig. 3.
    """
    x = as_float(image)
    schedules = [schedule_for((x.shape[-2] // factor, x.shape[-1] // factor)) for factor in factors]
    t = torch.tensor(times, dtype=torch.float64)
    logsnrs = torch.stack([schedule(t) for schedule in schedules])
    return _labelled(x, noise_cells(x, logsnrs, factors, generator), logsnrs, factors, times, title)


def noise_cells(
    x: Float[Tensor, "3 h w"], logsnrs: Float[Tensor, "rows columns"], factors: Sequence[int], generator: Generator
) -> Float[Tensor, "rows columns 3 height width"]:
    """The cells of `noise_at_resolutions` in −1…1 (plus noise), row i noised after pooling by `factors[i]`.

    D_r z = α D_r x + (σ/r) noise is shown divided by √(α² + σ²/r²), as variance preserving at its own, pooled λ: cells
    differ in their SNR, not in contrast.
    """
    smallest = max(factors)
    for factor in factors:
        if smallest % factor:
            raise invalid("noise_at_resolutions.factors", list(factors), "divisors of the largest", "as 1, 2, 4, 8")
    rows = []
    for factor, levels in zip(factors, logsnrs.to(x.dtype), strict=True):
        clean = pool(x[None], factor).expand(len(levels), -1, -1, -1)
        eps = torch.randn(clean.shape, dtype=x.dtype, generator=generator)
        rest = smallest // factor
        alpha, sigma = VariancePreserving().alpha_sigma(levels)
        rows.append(pool(diffuse(clean, eps, levels), rest) / torch.hypot(alpha, sigma / rest)[:, None, None, None])
    return torch.stack(rows)


def _labelled(
    x: Tensor, cells: Tensor, logsnrs: Tensor, factors: Sequence[int], times: Sequence[float], title: str
) -> Image.Image:
    """The cells as a table with headings."""
    height, width = cells.shape[-2:]
    scale = max(1, 192 // max(height, width))
    sizes = [size_text((x.shape[-2] // factor, x.shape[-1] // factor)) for factor in factors]
    across, down = max(scale * width, 170) + GAP, scale * height + 26 + GAP
    left = MARGIN + math.ceil(max(font(16).getlength(text) for text in sizes)) + GAP
    top = MARGIN + (40 if title else 0) + 28
    size = (left + len(times) * across - GAP + MARGIN, top + len(factors) * down - GAP + MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, INK, font(19, bold=True))
    for column, time in enumerate(times):
        draw.text((left + column * across, top - 8), f"t = {time:g}", INK, font(16), anchor="ls")
    for row, factor in enumerate(factors):
        y = top + row * down
        draw.text((MARGIN, y + scale * height / 2), sizes[row], INK, font(16), anchor="lm")
        pooled = pooled_logsnr(logsnrs[row], max(factors) // factor)
        for column, (here, there) in enumerate(zip(logsnrs[row].tolist(), pooled.tolist(), strict=True)):
            corner = (left + column * across, y)
            draw.rectangle((corner[0] - 1, y - 1, corner[0] + scale * width, y + scale * height), outline=GRID)
            picture.paste(_enlarged(to_uint8(cells[row, column]), scale), corner)
            text = f"λ {logsnr_text(here)}, pooled {logsnr_text(there)}"
            draw.text((corner[0], y + scale * height + 5), text, GREY, font(13))
    return picture


def strip(states: Sequence[State]) -> Image.Image:
    """A trajectory as a picture: a column a state, under its λ; two rows an image, z above x̂."""
    require(len(states) >= 1, "strip.states", len(states), "one state or more")
    n, _, height, width = states[0].z.shape
    scale = max(1, SMALL // max(height, width))
    across, down = max(scale * width, 52) + 2, scale * height + 2
    left, top = MARGIN + 24, MARGIN + 24
    rows = [top + i * (2 * down + GAP) + k * down for i in range(n) for k in (0, 1)]
    picture = Image.new("RGB", (left + len(states) * across + MARGIN, rows[-1] + down + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, top - 8), "λ", INK, font(14), anchor="ls")
    for k, y in enumerate(rows):
        draw.text((MARGIN, y + scale * height / 2), ("z", "x̂")[k % 2], INK, font(14), anchor="lm")
    for column, state in enumerate(states):
        x = left + column * across
        draw.text((x + scale * width / 2, top - 8), logsnr_text(state.logsnr), INK, font(13), anchor="ms")
        both = torch.stack([state.z, state.x], dim=1).flatten(0, 1)
        for image, y in zip(both, rows, strict=True):
            picture.paste(_enlarged(image, scale), (x, y))
    return picture


def frames(states: Iterable[State]) -> Iterator[Image.Image]:
    """The frames of an animation of a trajectory: at each λ the grid of z beside that of x̂."""
    for state in states:
        scale = max(1, 2 * SMALL // max(state.z.shape[-2:]))
        z, x = (sample_grid(images, scale=scale) for images in (state.z, state.x))
        right, head = max(z.width, 110) + GAP, 28
        picture = Image.new("RGB", (right + z.width, head + z.height), "white")
        draw = ImageDraw.Draw(picture)
        draw.text((2, head - 8), f"z, λ = {logsnr_text(state.logsnr)}", INK, font(14), anchor="ls")
        draw.text((right + 2, head - 8), "x̂", INK, font(14), anchor="ls")
        picture.paste(z, (0, head))
        picture.paste(x, (right, head))
        yield picture


def animated(pictures: Iterable[Image.Image], suffix: str, *, step: float = 0.1, rest: float = 2.0) -> bytes:
    """The bytes of a looping animation, `.gif` or `.webp`; `step` seconds a frame, `rest` for the last one."""
    if suffix not in ANIMATIONS:
        raise unknown("animated.suffix", suffix, ANIMATIONS, "animation format")
    first, *others = pictures
    durations = [round(1000 * step)] * len(others) + [round(1000 * rest)]
    file = io.BytesIO()
    first.save(file, ANIMATIONS[suffix], save_all=True, append_images=others, duration=durations, loop=0)
    return file.getvalue()


def side_by_side(first: Image.Image, second: Image.Image) -> Image.Image:
    """Two pictures in one: side by side or, where that would be very wide, one below the other."""
    beside = first.width + second.width <= 2.4 * max(first.height, second.height)
    corner = (first.width, 0) if beside else (0, first.height)
    size = (max(first.width, corner[0] + second.width), max(first.height, corner[1] + second.height))
    picture = Image.new("RGB", size, "white")
    picture.paste(first, (0, 0))
    picture.paste(second, corner)
    return picture


def _enlarged(image: Tensor, scale: int) -> Image.Image:
    """A uint8 [3 h w] as a picture, each pixel scale×scale."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)


def _colour(name: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(name)
    except ValueError as error:
        raise invalid("sample_grid.background", name, "a CSS colour or '#rrggbb'", "such as 'white'") from error
