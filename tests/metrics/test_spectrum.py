import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, pad
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.data import to_float
from snrise.metrics import grid_excess, octave_names, radial_power, spectral_distance

SIZES = [(16, 16), (16, 64), (24, 15), (9, 9), (48, 48), (4, 7)]


def noise(n, c, h, w, seed=0):
    """Levels 0…255 of white noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, c, h, w), generator=generator, dtype=torch.uint8)


def smooth(n, side, seed=0):
    """Pictures whose amplitudes fall as 1/f, as those of photographs; their opposite edges fit."""
    spectrum = torch.fft.fft2(torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed)))
    f = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)).clamp(min=1 / side)
    return (127 + 3 * torch.fft.ifft2(spectrum / f).real).clamp(0, 255).round().to(torch.uint8)


def octave_of(frequency, longer):
    """By doubling the octave of one period in the longer side."""
    if frequency > 0.5 + 1e-9:
        return "corners"
    low = 0.25
    while frequency < low - 1e-9:
        low /= 2
    return f"1/{round(1 / low)}-1/{round(0.5 / low)}"


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_against_loops_over_every_frequency(h, w):
    images = noise(3, 2, h, w)
    power = np.square(np.abs(np.fft.fft2(images.double().numpy()))).mean((0, 1)) / (h * w)
    sums, counts = {}, {}
    for i in range(h):
        for j in range(w):
            f = math.hypot(min(i, h - i) / h, min(j, w - j) / w)
            if f > 0:
                name = octave_of(f, max(h, w))
                sums[name] = sums.get(name, 0) + power[i, j]
                counts[name] = counts.get(name, 0) + 1
    found = radial_power(images)
    names = octave_names(len(found))
    assert set(names) == set(sums)
    assert_close(found, torch.tensor([sums[name] / counts[name] for name in names], dtype=torch.float64))
    # Parseval: what all frequencies but 0 hold is the variance of the pixels about each image's mean.
    variance = images.double().var(dim=(2, 3), correction=0).mean().item()
    assert sum(found[i].item() * counts[name] for i, name in enumerate(names)) / (h * w) == pytest.approx(variance)


@pytest.mark.parametrize(("h", "w"), SIZES)
def test_white_noise_has_its_variance_in_every_octave(h, w):
    images = 0.2 * torch.randn(4000, 1, h, w, generator=torch.Generator().manual_seed(0))
    assert_close(radial_power(images) / 25.5**2, torch.ones(len(radial_power(images[:1])), dtype=torch.float64),
                 rtol=0, atol=0.05)


@pytest.mark.parametrize(("periods", "octave"), [(1, 0), (2, 1), (3, 1), (4, 2), (15, 3), (16, 4), (31, 4), (32, 4)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_is_in_its_octave(periods, octave, axis):
    """Of 64 pixels: 1/64 to 1/32 first, Nyquist in the last before the corners."""
    wave = torch.cos(2 * math.pi * periods * torch.arange(64) / 64)
    power = radial_power(wave.expand(1, 1, 64, 64).transpose(2 + axis, 3))
    assert power[octave] > 1
    assert power.sum() == pytest.approx(power[octave].item(), rel=1e-6)


def test_corners_lie_beyond_nyquist():
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    power = radial_power(checks.expand(1, 3, 32, 32))
    assert octave_names(len(power))[-1] == "corners"
    assert power[-1] > 1
    assert power[:-1].sum() < 1e-6


def test_it_is_a_mean_over_images_and_channels():
    images = noise(130, 3, 16, 16)
    parts = [radial_power(images[i : i + 1, j : j + 1]) for i in range(130) for j in range(3)]
    assert_close(radial_power(images), torch.stack(parts).mean(dim=0))


def test_floating_point_images_are_the_same_images():
    images = noise(3, 3, 16, 24)
    assert_close(radial_power(to_float(images).double()), radial_power(images))


def test_decibels():
    power = torch.tensor([100.0, 20.0, 5.0, 1.0], dtype=torch.float64)
    found = spectral_distance(power * torch.tensor([1.0, 10.0, 0.1, 0.01]), power)
    # 0.01 of a power of 1 is below that of rounding, which is 1/12.
    decibels = torch.tensor([0.0, 10.0, -10.0, 10 * math.log10(1 / 12)], dtype=torch.float64)
    assert_close(found.decibels, decibels)
    assert found.distance == pytest.approx(decibels.square().mean().sqrt().item())
    assert found.names == ["1/16-1/8", "1/8-1/4", "1/4-1/2", "corners"]
    assert spectral_distance(power, power).distance == 0
    flat = radial_power(torch.full((2, 3, 16, 16), 7, dtype=torch.uint8))
    assert spectral_distance(flat, flat).distance == 0


def against(images, data):
    return spectral_distance(radial_power(images), radial_power(data))


def test_what_it_sees():
    data = smooth(20, 64)
    assert against(smooth(20, 64, 5), data).distance < 1
    blurred = avg_pool2d(pad(data.float(), (1, 1, 1, 1), mode="circular"), 3, stride=1).round().to(torch.uint8)
    blur = against(blurred, data).decibels
    assert (blur[-3:] < -1).all()
    assert (blur.diff() < 0).all()
    generator = torch.Generator().manual_seed(9)
    noisy = (data.float() + 10 * torch.randn(data.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)
    added = against(noisy, data).decibels
    assert added[-1] > 3
    assert added[:2].abs().max() < 0.5
    # Lines every 4 pixels are waves of 1/4 and 1/2 a pixel, along either axis.
    grid = against(with_grid(data, 4, 2), with_grid(data, 4, 0)).decibels
    assert grid[-2] > 3
    assert grid[:-2].abs().max() < 0.1


def with_grid(images, factor, strength):
    """A lighter line along two sides of each patch, by so much a pixel of a patch's side."""
    lines = torch.zeros(images.shape[-2:])
    lines[::factor] = lines[:, ::factor] = strength * factor
    return (images.float() * 0.4 + lines).round().to(torch.uint8)


@pytest.mark.parametrize("factor", [2, 4, 8, 5])
@pytest.mark.parametrize(("h", "w"), [(40, 40), (40, 80)])
def test_the_grid_of_patches(factor, h, w):
    images = noise(200, 3, h, w)
    values = [grid_excess(with_grid(images, factor, strength), factor) for strength in (0, 4, 10)]
    assert values[0] == pytest.approx(1, abs=0.06)
    assert values[2] > 1.3 * values[1] > 1.3 * values[0]
    # In float it is the same, and another patch size does not see it.
    strong = with_grid(images, factor, 10)
    assert grid_excess(to_float(strong).double(), factor) == pytest.approx(values[2])
    assert grid_excess(with_grid(images, 4, 10), 5) == pytest.approx(1, abs=0.06)


def test_the_grid_of_patches_against_loops():
    images = smooth(5, 24)
    power = np.square(np.abs(np.fft.fft2(images.double().mean(1).numpy()))).mean(0)
    ratios = []
    for at in (6, 12):  # periods of 4 and 2 pixels
        for line in (power[:, 1:].mean(1), power[1:].mean(0)):
            ratios.append(line[at] / ((line[at - 1] + line[at + 1]) / 2))
    assert grid_excess(images, 4) == pytest.approx(np.mean(ratios))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: radial_power(noise(1, 3, 3, 8)), r"radial_power\.images: got \(3, 8\); allowed: sides of 4 pixels"),
    (lambda: radial_power(noise(0, 3, 8, 8)), r"radial_power\.images: got \(0, 3, 8, 8\); allowed: one image or more"),
    (lambda: spectral_distance(radial_power(noise(1, 1, 8, 8)), radial_power(noise(1, 1, 16, 16))),
     r"spectral_distance: got '3 and 4 octaves'; allowed: images of the same size"),
    (lambda: grid_excess(noise(1, 3, 16, 24), 3), r"grid_excess\.factor: got 3; allowed: 2 or more, a divisor of 16"),
    (lambda: grid_excess(noise(1, 3, 16, 24), 1), r"grid_excess\.factor: got 1"),
    (lambda: grid_excess(noise(1, 3, 8, 16), 8), r"grid_excess\.factor: got 8"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=f"^{message}"):
        make()
