"""Any mode that Pillow can decode to plain 8-bit RGB: transparency, print colours, 16 bits, floating point."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from snrise._errors import invalid

_PAINT = ("CMYK", "LAB")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def to_rgb(image: Image.Image, background: tuple[int, int, int], where: str = "image") -> Image.Image:
    """The image as 8-bit RGB, whatever its mode.

    Transparency is composited over `background`. CMYK goes through its ICC profile to sRGB if it has one, and through
    Pillow's plain formula if not. 16-bit grey is scaled by 1/257, floating point is read as 0…1. RGB with a
    profile of another colour space (Display P3, Adobe RGB …) is converted to sRGB; one that is broken is ignored, as
    viewers do.

    Raises:
        SnriseError: for integers beyond 16 bits or floats outside 0…1, whose scale the file does not tell,
            or for a CMYK profile that is broken.

    >>> to_rgb(Image.new("LA", (1, 1), (200, 0)), background=(255, 255, 255)).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode in _PAINT:
        return _paint_to_rgb(image, where)
    if image.mode in _DEEP:
        return _grey(np.asarray(image).astype(np.float64) / 65535, where, "whole numbers 0…65535 (16 bits)", 65535)
    if image.mode == "F":
        return _grey(np.asarray(image).astype(np.float64), where, "floats 0…1", 1)
    image = _in_srgb(image)
    if image.has_transparency_data:
        return _over(image, background)
    return image.convert("RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """RGB or RGBA of another colour space, by its ICC profile; anything else as it is."""
    profile = image.info.get("icc_profile")
    if image.mode not in ("RGB", "RGBA") or not profile:
        return image
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(own):
            return image
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode=image.mode) or image
    except (OSError, ImageCms.PyCMSError):
        return image


def _over(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
    above = image.convert(straight).convert("RGBA")
    below = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(below, above).convert("RGB")


def _paint_to_rgb(image: Image.Image, where: str) -> Image.Image:
    """CMYK or LAB: LAB as the standard defines it, CMYK by the image's own ICC profile if there is one."""
    profile = image.info.get("icc_profile") or b""
    if image.mode == "CMYK" and not profile:
        return image.convert("RGB")
    try:
        own = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ImageCms.PyCMSError) as error:
        raise invalid(
            where, f"{image.mode} with a broken ICC profile", "a profile that fits", "save it as RGB"
        ) from error
    assert converted is not None  # it is None for conversion in place only
    return converted


def _grey(unit: "np.ndarray[Any, np.dtype[np.float64]]", where: str, allowed: str, scale: int) -> Image.Image:
    """Grey 0…1 as RGB."""
    low, high = float(unit.min()), float(unit.max())
    if not (low >= 0 and high <= 1):
        got = f"values {low * scale:g}…{high * scale:g}"
        raise invalid(where, got, allowed, "save it with 8 bits a channel")
    return Image.fromarray((unit * 255).round().astype(np.uint8)).convert("RGB")
