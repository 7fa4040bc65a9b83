import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from snrise._errors import SnriseError
from snrise.data import Preprocess, open_image
from snrise.data.modes import to_rgb

WHITE = (255, 255, 255)


def stored(image, form, **options):
    """The image as a file of some format gives it back."""
    data = io.BytesIO()
    image.save(data, form, **options)
    return open_image(data.getvalue())


def colour_of(image, background="white"):
    """The one colour that preprocessing makes of an image of one colour."""
    pixels = Preprocess((4, 4), background=background)(image)
    assert pixels.dtype == torch.uint8
    assert (pixels == pixels[:, :1, :1]).all()
    return tuple(pixels[:, 0, 0].tolist())


def cmyk_profile(lab):
    """A CMYK profile in which black ink is black and all others give one 8-bit Lab colour: unlike any plain formula."""
    curve = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *[65536 * (i in (0, 4, 8)) for i in range(9)])
    lut += curve * 4 + (bytes(lab) + bytes([0, 128, 128])) * 8 + curve * 3
    body = struct.pack(">I4sII", 1, b"A2B0", 144, len(lut)) + lut
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0\0\0\0", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + body


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 90, (90, 90, 90)),
        ("RGB", (9, 80, 200), (9, 80, 200)),
        ("RGBX", (9, 80, 200, 7), (9, 80, 200)),
        ("HSV", (0, 255, 128), (128, 0, 0)),
        ("YCbCr", (100, 128, 128), (100, 100, 100)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("RGBA", (9, 80, 200, 0), (255, 0, 0)),
        ("RGBA", (0, 0, 255, 51), (204, 0, 51)),
        ("RGBa", (0, 0, 51, 51), (204, 0, 51)),
        ("La", (51, 51), (255, 51, 51)),
        ("I;16", 200 * 257, (200, 200, 200)),
        ("I;16B", 200 * 257, (200, 200, 200)),
        ("I", 65535, (255, 255, 255)),
        ("F", 0.4, (102, 102, 102)),
    ],
)
def test_each_mode_over_red(mode, value, expected):
    assert colour_of(Image.new(mode, (4, 4), value), "red") == pytest.approx(expected, abs=1)


def test_palette_with_and_without_transparency():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert colour_of(stored(palette, "PNG")) == (200, 100, 50)
    assert colour_of(stored(palette, "PNG", transparency=1), "#010203") == (1, 2, 3)
    assert colour_of(stored(palette, "PNG", transparency=0), "#010203") == (200, 100, 50)
    half = stored(palette, "PNG", transparency=bytes([255, 51]))  # an alpha per palette entry
    assert colour_of(half, "black") == (40, 20, 10)
    alpha_palette = Image.new("RGBA", (4, 4), (200, 100, 50, 51)).convert("PA")
    assert alpha_palette.mode == "PA"
    if alpha_palette.getchannel("A").getextrema() != (51, 51):
        return  # Pillow before 12 loses the alpha in its own conversion
    assert colour_of(alpha_palette, "black") == pytest.approx((40, 20, 10), abs=6)  # PA's palette is coarse


def test_colour_key_transparency():
    assert colour_of(stored(Image.new("L", (4, 4), 7), "PNG", transparency=7), "red") == (255, 0, 0)
    assert colour_of(stored(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), "red") == (255, 0, 0)


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = Image.fromarray(np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16))
    expected = torch.arange(256, dtype=torch.uint8).reshape(16, 16).expand(3, 16, 16)
    for form in ("PNG", "TIFF"):
        assert torch.equal(Preprocess((16, 16))(stored(ramp, form)), expected)


def test_cmyk_jpeg_without_a_profile_is_the_plain_formula():
    image = stored(Image.new("CMYK", (8, 8), (0, 255, 255, 51)), "JPEG", quality=95)
    assert image.mode == "CMYK"
    assert colour_of(image) == pytest.approx((204, 0, 0), abs=3)


def test_cmyk_uses_its_profile():
    profile = cmyk_profile(lab=(128, 128 + 60, 128))  # L* 50, a* 60: crimson
    image = stored(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG", icc_profile=profile)
    red, green, blue = colour_of(image)
    assert (red, green, blue) == pytest.approx((209, 59, 120), abs=6)


def test_broken_cmyk_profile_is_an_error():
    image = stored(Image.new("CMYK", (8, 8)), "JPEG", icc_profile=b"no profile")
    with pytest.raises(SnriseError, match=r"a\.jpg: got 'CMYK with a broken ICC profile'"):
        to_rgb(image, WHITE, "a.jpg")


@pytest.mark.parametrize(
    ("mode", "value", "text"),
    [
        ("I", 70_000, r"a.tif: got 'values 70000…70000'; allowed: whole numbers 0…65535 \(16 bits\)"),
        ("I", -1, "got 'values -1…-1'"),
        ("F", 255.0, "got 'values 255…255'; allowed: floats 0…1; save it with 8 bits"),
        ("F", float("nan"), "got 'values nan…nan'"),
    ],
)
def test_values_of_unknown_scale_are_an_error(mode, value, text):
    with pytest.raises(SnriseError, match=text):
        to_rgb(Image.new(mode, (2, 2), value), WHITE, "a.tif")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animations_give_their_first_frame(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = stored(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    assert image.n_frames == 2
    assert colour_of(image) == (255, 0, 0)
    image.seek(1)
    assert colour_of(image) == (255, 0, 0)


def _swapped_profile() -> bytes:
    """An RGB profile whose red and blue primaries have changed places: no viewer may take it for sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for i in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * i
        tags[bytes(profile[entry : entry + 4])] = entry
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    places = slice(red + 4, red + 12), slice(blue + 4, blue + 12)
    profile[places[0]], profile[places[1]] = profile[places[1]], profile[places[0]]
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "XRGB".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_rgb_of_another_colour_space_is_converted(mode: str) -> None:
    image = Image.new(mode, (2, 2), (255, 0, 0))
    image.info["icc_profile"] = _swapped_profile()
    red, green, blue = to_rgb(image, (255, 255, 255)).getpixel((0, 0))
    assert blue > 250
    assert red < 5
    assert green < 5


def test_a_broken_rgb_profile_is_ignored() -> None:
    image = Image.new("RGB", (2, 2), (10, 20, 30))
    image.info["icc_profile"] = b"no profile"
    assert to_rgb(image, (255, 255, 255)).getpixel((0, 0)) == (10, 20, 30)
