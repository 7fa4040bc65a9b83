"""One image of any size and mode to pixels of one size: orientation, colour, geometry, in this order."""

import difflib
import math
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageColor
from torch import Tensor

from snrise._errors import invalid, require, unknown
from snrise._typing import Size, StrEnum
from snrise.data.modes import to_rgb

#: A JPEG is decoded at a fraction of its size only if that has so many times the sides needed, or more.
DRAFT = 2


class Fit(StrEnum):
    """How an image of another shape becomes H×W."""

    CROP = "crop"  # fill H×W, cut what protrudes, centred
    PAD = "pad"  # fit into H×W, fill the rest with the background, centred
    STRETCH = "stretch"  # ignore the aspect ratio


@dataclass(frozen=True)
class Preprocess:
    """A PIL image of any size and mode -> uint8 pixels [3 H W].

    In this order: first frame, EXIF orientation, 8-bit RGB with transparency composited over `background` (before
    resizing, so that colours under transparent pixels cannot bleed), then the fit.

    Resizing is one pass of Lanczos: it is antialiased, and of Pillow's filters it keeps the spectrum below the new
    Nyquist frequency flattest, which is what the noise schedule's SNR per scale is about. JPEGs are decoded at ½, ¼ or
    ⅛ of their size where that leaves at least twice the sides needed: 2.7 times as fast from 512…2,000 px to 128, with
    the power in every band of the result within 0.4 % of that from the full image.

    Args:
        size: (H, W) in pixels.
        fit: crop, pad or stretch.
        background: what transparency and padding show: a colour name or '#rrggbb'.
        upscale: whether an image too small for `size` is enlarged, or an error.
        max_pixels: refuse larger images before decoding them; a file of kilobytes can claim gigapixels.

    Raises:
        SnriseError: for a bad setting; when called, for an image too large, too small, or of unknown scale.

    >>> preprocess = Preprocess((32, 48), background="#336699")
    >>> preprocess(Image.new("RGBA", (100, 100)))[:, 0, 0]
    tensor([ 51, 102, 153], dtype=torch.uint8)
    """

    size: Size
    _: KW_ONLY
    fit: Fit | str = Fit.CROP
    background: str = "white"
    upscale: bool = True
    max_pixels: int = 200_000_000

    def __post_init__(self) -> None:
        require(
            len(self.size) == 2 and min(self.size) >= 1,
            "Preprocess.size",
            self.size,
            "(height, width), each at least 1 pixel",
        )
        require(self.max_pixels >= 1, "Preprocess.max_pixels", self.max_pixels, "at least 1 pixel")
        if self.fit not in list(Fit):
            raise unknown("Preprocess.fit", self.fit, [fit.value for fit in Fit], "fit")
        _colour(self.background)

    def __call__(self, image: Image.Image, name: str = "image") -> UInt8[Tensor, "3 h w"]:
        """The pixels, uint8 [3 H W]; `name` is what errors call the image."""
        self.check(image, name)
        if image.tell() != 0:
            image.seek(0)
        self.draft(image)
        image.load()
        colour = _colour(self.background)
        rgb = to_rgb(_upright(image), colour, name)
        self._check_upscale(rgb, name)
        pixels = np.asarray(self._fitted(rgb, colour)).transpose(2, 0, 1)
        return torch.from_numpy(np.array(pixels, order="C"))

    def check(self, image: Image.Image, name: str = "image") -> None:
        """Refuse an image of more than `max_pixels`, by its header alone.

        Raises:
            SnriseError: if it is too large.
        """
        pixels = image.width * image.height
        if pixels > self.max_pixels:
            fix = "raise Preprocess.max_pixels if the image is meant"
            raise invalid(name, f"{_dimensions(image)} = {pixels:,} pixels", f"at most {self.max_pixels:,}", fix)

    def draft(self, image: Image.Image) -> None:
        """Let a JPEG whose pixels are not decoded yet be decoded at a fraction of its size, where that is enough."""
        scale = DRAFT * max(self.size) / min(image.size)
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))

    def _check_upscale(self, image: Image.Image, name: str) -> None:
        height, width = self.size
        scales = (height / image.height, width / image.width)
        scale = min(scales) if self.fit == Fit.PAD else max(scales)
        if scale > 1 and not self.upscale:
            kind = "or" if self.fit == Fit.PAD else "and"
            allowed = f"at least {height} high {kind} {width} wide (upscale=False)"
            raise invalid(name, _dimensions(image), allowed, "remove it, or set Preprocess.upscale=True")

    def _fitted(self, image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
        height, width = self.size
        match Fit(self.fit):
            case Fit.STRETCH:
                return image.resize((width, height), Image.Resampling.LANCZOS)
            case Fit.CROP:
                scale = max(height / image.height, width / image.width)
                across, down = min(width / scale, image.width), min(height / scale, image.height)
                left, top = (image.width - across) / 2, (image.height - down) / 2
                box = (left, top, left + across, top + down)
                return image.resize((width, height), Image.Resampling.LANCZOS, box=box)
            case Fit.PAD:
                scale = min(height / image.height, width / image.width)
                inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
                canvas = Image.new("RGB", (width, height), colour)
                corner = ((width - inner[0]) // 2, (height - inner[1]) // 2)
                canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), corner)
                return canvas


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says; EXIF that cannot be parsed says nothing, as in browsers and viewers."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the parser raises whatever it likes on broken EXIF
        return image
    return image if turn is None else image.transpose(turn)


def _dimensions(image: Image.Image) -> str:
    return f"{image.height} high × {image.width} wide"


def _colour(name: str) -> tuple[int, int, int]:
    """(r, g, b), 0…255, of a colour name or '#rrggbb'."""
    try:
        rgb = ImageColor.getrgb(name)
        if len(rgb) == 4:
            raise ValueError("a colour with alpha")
        return rgb
    except ValueError as error:
        close = difflib.get_close_matches(name.lower(), ImageColor.colormap, n=1, cutoff=0.5)
        fix = f"did you mean {close[0]!r}?" if close else "such as 'white' or '#808080'"
        raise invalid("Preprocess.background", name, "an opaque colour: a CSS name or '#rrggbb'", fix) from error
