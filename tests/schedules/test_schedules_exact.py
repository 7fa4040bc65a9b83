"""λ(t), dλ/dt and t(λ) against 40 digits, and against each other."""

import mpmath as mp
import pytest
import torch

import exact
from examples import SCHEDULES, flat
from snrise.schedules import Clipped, ZeroTerminalSnr, density

every_schedule = pytest.mark.parametrize("schedule", flat(SCHEDULES))

TIMES = [1e-12, 1e-9, 1e-6, 1e-3, 0.0312, 0.1003, 0.2503, 0.4997, 0.6, 0.7501, 0.9, 0.9990003, 1 - 1e-6, 1 - 1e-9]


def times_of(schedule, dtype=torch.float64):
    """Times, as the exact numbers that the dtype holds; without those where a schedule stands still."""
    times = torch.tensor(TIMES, dtype=dtype)
    times = times[times < 1]
    if isinstance(schedule, ZeroTerminalSnr):
        # α(t) − α(1) loses a digit for each power of ten in 1 − t, whoever computes it.
        times = times[times <= 0.9999991]
    if isinstance(schedule, Clipped):
        logsnr = exact_logsnr(schedule.base, times)
        times = times[(logsnr > schedule.logsnr_min) & (logsnr < schedule.logsnr_max)]
        assert len(times) >= 4
    return times


def exact_logsnr(schedule, times):
    return torch.tensor([float(exact.logsnr(schedule, mp.mpf(t))) for t in times.tolist()], dtype=torch.float64)


def exact_derivative(schedule, times):
    def slope(t):
        h = mp.mpf(10) ** -14 * min(t, 1 - t)
        return (exact.logsnr(schedule, t + h) - exact.logsnr(schedule, t - h)) / (2 * h)

    return torch.tensor([float(slope(mp.mpf(t))) for t in times.tolist()], dtype=torch.float64)


@every_schedule
def test_logsnr_to_float64(schedule):
    times = times_of(schedule)
    torch.testing.assert_close(schedule(times), exact_logsnr(schedule, times), rtol=1e-9, atol=1e-12)


@every_schedule
def test_derivative_to_float64(schedule):
    times = times_of(schedule)
    torch.testing.assert_close(schedule.derivative(times), exact_derivative(schedule, times), rtol=1e-9, atol=0)


@every_schedule
def test_inverse_to_float64(schedule):
    times = times_of(schedule)
    logsnr = exact_logsnr(schedule, times)
    # Rounding λ to float64 moves t by |λ|·1e-16/|dλ/dt|.
    moved = 4e-16 * (1 + logsnr.abs()) / exact_derivative(schedule, times).abs()
    difference = (schedule.inverse(logsnr) - times).abs()
    assert (difference <= 1e-9 * times.clamp(max=1e-6) + moved + 4e-16).all(), difference


@every_schedule
def test_float32(schedule):
    times = times_of(schedule, torch.float32)
    logsnr = exact_logsnr(schedule, times)
    within = logsnr.abs() <= 20
    assert within.sum() >= 4
    times, logsnr = times[within], logsnr[within]
    computed = schedule(times)
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, logsnr.float(), rtol=1e-5, atol=1e-5)
    slope = schedule.derivative(times)
    assert slope.dtype == torch.float32
    torch.testing.assert_close(slope, exact_derivative(schedule, times).float(), rtol=1e-5, atol=1e-5)
    back = schedule.inverse(logsnr.float())
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, times, rtol=1e-5, atol=1e-6)


@every_schedule
def test_derivative_equals_autograd(schedule):
    times = times_of(schedule).requires_grad_()
    (slope,) = torch.autograd.grad(schedule(times).sum(), times)
    torch.testing.assert_close(slope, schedule.derivative(times.detach()), rtol=1e-9, atol=0)


@every_schedule
def test_derivative_equals_central_differences(schedule):
    times = times_of(schedule)
    times = times[(times > 0.01) & (times < 0.99)]
    h = 1e-6
    slope = (schedule(times + h) - schedule(times - h)) / (2 * h)
    torch.testing.assert_close(slope, schedule.derivative(times), rtol=1e-6, atol=1e-6)


@every_schedule
def test_derivative_of_the_inverse(schedule):
    times = times_of(schedule)
    times = times[(times > 0.01) & (times < 0.99)]
    logsnr = schedule(times).requires_grad_()
    (slope,) = torch.autograd.grad(schedule.inverse(logsnr).sum(), logsnr)
    torch.testing.assert_close(slope, 1 / schedule.derivative(times), rtol=1e-7, atol=0)


@every_schedule
def test_there_and_back(schedule):
    times = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    if isinstance(schedule, Clipped):
        logsnr = schedule.base(times)
        times = times[(logsnr < schedule.logsnr_max) & (logsnr > schedule.logsnr_min)]
    torch.testing.assert_close(schedule.inverse(schedule(times)), times, rtol=1e-9, atol=1e-11)
    high, low = schedule(torch.tensor([0.02, 0.98], dtype=torch.float64)).tolist()
    logsnr = torch.linspace(low, high, 99, dtype=torch.float64)
    torch.testing.assert_close(schedule(schedule.inverse(logsnr)), logsnr, rtol=1e-9, atol=1e-9)


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_out_of_range_come_from_the_nearest_end(schedule, dtype):
    ends = schedule(torch.tensor([0.0, 1.0], dtype=dtype))
    beyond = torch.tensor([torch.inf, torch.nextafter(ends[0], torch.tensor(torch.inf, dtype=dtype)) + 1, -torch.inf,
                           torch.nextafter(ends[1], torch.tensor(-torch.inf, dtype=dtype)) - 1], dtype=dtype)
    torch.testing.assert_close(schedule.inverse(beyond), torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=dtype))


@every_schedule
def test_any_shape(schedule):
    times = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for function in (schedule, schedule.derivative, schedule.inverse):
        assert function(times).shape == (2, 3, 4)
        torch.testing.assert_close(function(times)[1, 2, 3], function(times[1, 2, 3]))


@every_schedule
def test_decreases(schedule):
    assert not isinstance(schedule, Clipped) or schedule(torch.tensor(0.0)) <= schedule.logsnr_max
    logsnr = schedule(torch.linspace(0, 1, 1001, dtype=torch.float64))
    steps = logsnr.diff()
    assert (steps <= 0).all() if isinstance(schedule, Clipped) else (steps < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_schedule
def test_no_nan_at_the_ends_forward_or_backward(schedule, dtype):
    ends = [0.0, 1.0, 0.5]
    levels = [torch.inf, -torch.inf, 0.0, 30.0, -30.0]
    for function, at in ((schedule, ends), (schedule.inverse, levels), (lambda x: density(schedule, x), levels)):
        x = torch.tensor(at, dtype=dtype, requires_grad=True)
        value = function(x)
        assert not value.isnan().any(), value
        if value.requires_grad:  # a uniform density does not depend on λ
            (slope,) = torch.autograd.grad(value.sum(), x)
            assert not slope.isnan().any(), slope
    assert not schedule.derivative(torch.tensor(ends, dtype=dtype)).isnan().any()


@every_schedule
def test_slope_at_the_ends(schedule):
    """Autograd and derivative agree at t = 0 and t = 1 too, infinite or not."""
    times = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule(times).sum(), times)
    torch.testing.assert_close(slope, schedule.derivative(times.detach()), rtol=1e-6, atol=0)
