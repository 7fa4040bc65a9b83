import math

import pytest
import torch

from examples import UNLIMITED
from snrise.diagnostics import diagnose, time_per_octave
from snrise.schedules import (
    Clipped,
    Cosine,
    LinearBeta,
    Shifted,
    Tabulated,
    UniformLogSnr,
    ZeroTerminalSnr,
    for_resolution,
)


def problems(schedule, image=(64, 64), **options):
    return " | ".join(diagnose(schedule, image, **options).problems)


def test_cosine_unshifted_at_512_is_too_easy():
    report = diagnose(Cosine(), (512, 512))
    assert not report.ok
    text = "\n".join(report.problems)
    assert "too easy" in text
    assert "shift the schedule with the resolution" in text
    # Share of time below pooled SNR 1: t > ½ + …, where tan(½πt) > 8.
    assert report.time_below == pytest.approx(1 - 2 / math.pi * math.atan(8), abs=1e-3)


@pytest.mark.parametrize("image", [(64, 64), (128, 128), (256, 256), (512, 512), (1024, 1024), (256, 1024), (96, 160)])
def test_cosine_shifted_is_fit(image):
    report = diagnose(for_resolution(Cosine(), image), image)
    assert report.ok, str(report)
    assert report.decreasing
    assert report.smooth
    assert report.time_below == pytest.approx(0.5, abs=1e-3)


def test_linear_beta_keeps_the_mean_colour():
    assert "t = 1 is not yet noise: the mean colour" in problems(LinearBeta())
    report = diagnose(LinearBeta(), (64, 64))
    assert report.whole_image_noisy == pytest.approx(report.logsnr_noisy + math.log(64 * 64))
    fixed = diagnose(ZeroTerminalSnr(base=LinearBeta()), (64, 64))
    assert not any("mean colour" in problem for problem in fixed.problems)
    assert fixed.whole_image_noisy == -math.inf


def test_zero_terminal_snr_of_the_cosine_is_fit():
    assert diagnose(ZeroTerminalSnr(base=for_resolution(Cosine(), (256, 256))), (256, 256)).ok


def test_each_problem_is_named():
    assert "too noisy" in problems(Shifted(base=Cosine(), factor=16.0))
    assert "shift the schedule down" in problems(Shifted(base=Cosine(), factor=0.05))
    assert "t = 0 is still noisy" in problems(Cosine(logsnr_max=4.0))
    assert "does not decrease" in problems(Clipped(base=UNLIMITED, logsnr_min=-5.0))
    assert "dλ/dt jumps" in problems(Tabulated.from_alphas_cumprod([1.0, 0.9, 0.1, 0.0]))
    assert problems(Tabulated.from_alphas_cumprod(torch.cos(torch.linspace(0, torch.pi / 2, 101)) ** 2)) == ""


def test_octaves_of_the_cosine_are_differences_of_time():
    """t(λ) = 2/π atan e^{−λ/2} without limits."""
    def time(logsnr):
        return 2 / math.pi * math.atan(math.exp(-0.5 * logsnr))

    factor = 4.0
    octaves = time_per_octave(Shifted(base=UNLIMITED, factor=factor), factor)
    assert [octave.exponent for octave in octaves] == sorted(octave.exponent for octave in octaves)
    for octave in octaves:
        if abs(octave.exponent) <= 10:
            low, high = octave.exponent * math.log(2), (octave.exponent + 1) * math.log(2)
            assert octave.share == pytest.approx(time(low) - time(high), abs=2e-4)


@pytest.mark.parametrize("schedule", [Cosine(), UniformLogSnr(), LinearBeta(), UNLIMITED])
def test_octaves_sum_to_one(schedule):
    assert sum(octave.share for octave in time_per_octave(schedule, 8.0)) == pytest.approx(1, abs=1e-6)


def test_report_is_readable():
    text = str(diagnose(Cosine(), (512, 256)))
    assert text.startswith("schedule for 512x256 seen at 64x64 (factor 5.65685, SNR x 32)")
    assert "verdict: not fit for this resolution\n  - " in text
    assert "smooth yes" in text
    assert max(map(len, text.split("\n")[:-2])) <= 100
    assert "verdict: fit for this resolution" in str(diagnose(Cosine(), (64, 64)))
    assert "-inf" in str(diagnose(UNLIMITED, (64, 64)))


def test_pooled_ends():
    report = diagnose(Cosine(), (512, 512), reference=(32, 32))
    assert report.factor == 16
    assert report.pooled_clean == pytest.approx(15 + 2 * math.log(16))
    assert report.pooled_noisy == pytest.approx(-15 + 2 * math.log(16))
