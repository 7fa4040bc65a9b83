"""PSNR and SSIM against their formulas, written out with SciPy."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.metrics import psnr, ssim


def images(seed, size=(17, 23), count=3):
    return torch.randint(256, (count, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_psnr_is_ten_logarithms_of_the_peak_over_the_error():
    x, y = images(0), images(1)
    errors = [np.mean((a.numpy().astype(float) - b.numpy().astype(float)) ** 2) for a, b in zip(x, y, strict=True)]
    assert_close(psnr(x, y), torch.tensor([10 * np.log10(255**2 / e) for e in errors]))
    assert psnr(x, x).tolist() == [torch.inf] * 3


def test_ssim_is_the_formula_at_every_place_of_the_window():
    x, y = images(2), (images(2).float() * 0.8 + images(3).float() * 0.2).to(torch.uint8)
    place = np.arange(11) - 5
    line = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    expected = []
    for a, b in zip(x.numpy().astype(float), y.numpy().astype(float), strict=True):
        found = []
        for p, q in zip(a, b, strict=True):
            mp, mq, pp, qq, pq = (convolve2d(v, window, mode="valid") for v in (p, q, p * p, q * q, p * q))
            top = (2 * mp * mq + 2.55**2) * (2 * (pq - mp * mq) + 7.65**2)
            found.append((top / ((mp**2 + mq**2 + 2.55**2) * (pp - mp**2 + qq - mq**2 + 7.65**2))).mean())
        expected.append(np.mean(found))
    assert_close(ssim(x, y), torch.tensor(expected))
    assert_close(ssim(x, x), torch.ones(3, dtype=torch.float64))


def test_images_that_make_no_pairs():
    with pytest.raises(SnriseError, match=r"^psnr\.images: got \(2, 3, 17, 23\); allowed: \(3, 3, 17, 23\)"):
        psnr(images(0, count=2), images(0))
    with pytest.raises(SnriseError, match=r"^ssim\.images: got \(10, 17\); allowed: sides of 11 pixels or more"):
        ssim(images(0, (10, 17)), images(1, (10, 17)))
