import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.data import Fit, Preprocess, open_image

sides = st.integers(1, 60)
RNG = np.random.default_rng(0)


def picture(height, width):
    """A smooth picture without symmetry: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(
        np.stack([255 * (x + 0.5) / width, 255 * (y + 0.5) / height, 0 * x], -1).round().astype(np.uint8)
    )


def noise(side):
    return Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8))


@settings(max_examples=60)
@given(image=st.tuples(sides, sides), size=st.tuples(sides, sides), fit=st.sampled_from(Fit))
def test_any_image_comes_to_any_size(image, size, fit):
    pixels = Preprocess(size, fit=fit, background="blue")(Image.new("RGB", image[::-1], "red"))
    assert pixels.shape == (3, *size)
    assert pixels.is_contiguous()
    red = (pixels == torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]).all(0)
    blue = (pixels == torch.tensor([0, 0, 255], dtype=torch.uint8)[:, None, None]).all(0)
    assert (red | blue).all()
    assert red.all() or fit == Fit.PAD


def test_its_own_size_leaves_an_image_as_it_is():
    image = noise(24)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for fit in Fit:
        assert torch.equal(Preprocess((24, 24), fit=fit)(image), expected)


def test_crop_takes_the_centre():
    pixels = Preprocess((20, 20))(picture(20, 60)).float()
    expected = torch.linspace(255 / 3 + 255 / 120, 2 * 255 / 3 - 255 / 120, 20).expand(20, 20)
    assert_close(pixels[0], expected, rtol=0, atol=3)
    pixels = Preprocess((10, 40))(picture(80, 80)).float()
    assert_close(pixels[1].mean(1), 127.5 + (torch.arange(10) - 4.5) * 255 / 40, rtol=0, atol=1.5)


def test_crop_of_odd_margins_is_symmetric():
    pixels = Preprocess((16, 16))(picture(16, 33)).float()
    mirrored = Preprocess((16, 16))(picture(16, 33).transpose(Image.Transpose.FLIP_LEFT_RIGHT)).float()
    assert_close(pixels, mirrored.flip(-1), rtol=0, atol=1)


@pytest.mark.parametrize("upright", [False, True])
def test_pad_keeps_all_and_fills_with_the_background(upright):
    image = Image.new("RGB", (20, 60) if upright else (60, 20), "red")
    pixels = Preprocess((30, 30), fit=Fit.PAD, background="#0000ff")(image)
    pixels = pixels.mT if upright else pixels
    red = pixels[0] == 255
    assert red[10:20].all()
    assert red.sum() == 300
    assert (pixels[2][~red] == 255).all()


def test_stretch_ignores_the_aspect_ratio():
    pixels = Preprocess((20, 40), fit=Fit.STRETCH)(picture(90, 30)).float()
    assert_close(pixels[0].mean(0), (torch.arange(40) + 0.5) * 255 / 40, rtol=0, atol=3)
    assert_close(pixels[1].mean(1), (torch.arange(20) + 0.5) * 255 / 20, rtol=0, atol=2)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_downscaling_white_noise_divides_its_variance_by_the_area(scale):
    before = noise(256)
    after = Preprocess((256 // scale, 256 // scale))(before).double()
    ratio = after.var() / torch.from_numpy(np.array(before)).double().var() * scale**2
    assert 0.7 < ratio < 1.3


def test_a_checkerboard_becomes_grey():
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for fit in Fit:
        pixels = Preprocess((16, 16), fit=fit)(Image.fromarray(board)).float()
        assert_close(pixels, torch.full_like(pixels, 127.5), rtol=0, atol=4)


def test_hidden_colours_do_not_bleed():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))  # transparent, red underneath
    image.paste((255, 255, 255, 255), (0, 0, 31, 64))
    pixels = Preprocess((8, 8), background="white")(image)
    assert (pixels == 255).all()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(form, orientation):
    upright = picture(24, 40)
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    stored.save(data, form, exif=exif, quality=98, lossless=True)
    pixels = Preprocess((24, 40), upscale=False)(open_image(data.getvalue())).float()
    assert_close(pixels, torch.from_numpy(np.array(upright)).permute(2, 0, 1).float(), rtol=0, atol=16)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_broken_exif_is_no_orientation(form):
    data = io.BytesIO()
    picture(8, 8).save(data, form, exif=b"Exif\0\0garbage")
    assert Preprocess((8, 8))(open_image(data.getvalue())).shape == (3, 8, 8)


def test_it_prints_compares_and_pickles():
    preprocess = Preprocess((8, 16), fit=Fit.PAD)
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess != Preprocess((8, 16))
    assert Preprocess((8, 16), fit="pad") == preprocess
    assert "size=(8, 16)" in repr(preprocess)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": (0, 4)}, r"Preprocess\.size: got \(0, 4\); allowed: \(height, width\), each at least 1 pixel"),
        ({"fit": "crops"}, r"Preprocess\.fit: no such fit 'crops'; did you mean 'crop'\? allowed: crop, pad, stretch"),
        ({"background": "whyte"}, r"Preprocess\.background: got 'whyte';.*did you mean 'white'\?"),
        ({"background": "#11223344"}, r"got '#11223344'; allowed: an opaque colour.*such as 'white' or '#808080'"),
        ({"max_pixels": 0}, r"Preprocess\.max_pixels: got 0"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(SnriseError, match=text):
        Preprocess(**{"size": (4, 4), **settings})


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # Pillow alone would refuse 20 × 20, and not name the file
    data = io.BytesIO()
    Image.new("L", (20, 20)).save(data, "PNG")
    image = open_image(data.getvalue())
    monkeypatch.setattr(image, "load", lambda: pytest.fail("decoded"))
    text = r"big\.png: got '20 high × 20 wide = 400 pixels'; allowed: at most 399; raise Preprocess\.max_pixels"
    with pytest.raises(SnriseError, match=text):
        Preprocess((4, 4), max_pixels=399)(image, "big.png")
    assert open_image(data.getvalue()).size == (20, 20)
    assert Preprocess((4, 4), max_pixels=400)(open_image(data.getvalue())).shape == (3, 4, 4)
    assert vars(Image)["MAX_IMAGE_PIXELS"] == 50


@pytest.mark.parametrize(
    ("fit", "fine", "small", "text"),
    [
        ("crop", (8, 4), (8, 3), r"a\.png: got '8 high × 3 wide'; allowed: at least 8 high and 4 wide"),
        ("stretch", (8, 4), (7, 4), r"at least 8 high and 4 wide \(upscale=False\)"),
        ("pad", (8, 2), (7, 3), r"at least 8 high or 4 wide.*or set Preprocess\.upscale=True"),
    ],
)
def test_upscale_false_refuses_small_images(fit, fine, small, text):
    preprocess = Preprocess((8, 4), fit=fit, upscale=False)
    preprocess(Image.new("L", fine[::-1]))
    with pytest.raises(SnriseError, match=text):
        preprocess(Image.new("L", small[::-1]), "a.png")


def jpeg(size, orientation=1):
    """White noise, the worst case, compressed little."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, exif=exif)
    return Image.open(file)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("size", "target", "decoded"), [
    ((1024, 700), (32, 64), (256, 175)), ((512, 512), (64, 64), (128, 128)), ((511, 511), (64, 64), (256, 256)),
    ((100, 300), (64, 64), (100, 300)), ((2000, 90), (64, 16), (2000, 90)),
])
def test_large_jpegs_are_decoded_smaller_with_the_same_spectrum(fit, orientation, size, target, decoded):
    preprocess = Preprocess(target, fit=fit)
    drafted, whole = jpeg(size, orientation), jpeg(size, orientation)
    whole.load()
    got, expected = preprocess(drafted).double(), preprocess(whole).double()
    assert drafted.size == decoded
    power, wanted = (torch.fft.fft2(x - x.mean((1, 2), keepdim=True)).abs().square().mean() for x in (got, expected))
    assert_close(power, wanted, rtol=0.06, atol=0)  # of images, whose power falls with frequency, 0.4 %
    assert (got - expected).square().mean().sqrt() < 0.4 * expected.std()
