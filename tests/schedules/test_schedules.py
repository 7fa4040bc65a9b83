import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr
from hypothesis import given
from hypothesis import strategies as st

from examples import SCHEDULES, UNLIMITED, flat
from snrise._errors import SnriseError
from snrise.diagnostics import diagnose
from snrise.process import Straight, VariancePreserving
from snrise.schedules import (
    Clipped,
    Cosine,
    FlowMatching,
    Interpolated,
    LinearBeta,
    LogNormal,
    Shifted,
    Tabulated,
    UniformLogSnr,
    UniformPower,
    ZeroTerminalSnr,
    density,
    for_resolution,
    shift_factor,
)

TIMES = torch.linspace(0, 1, 201, dtype=torch.float64)
INNER = TIMES[1:-1]


def alpha_sigma(logsnr):
    return VariancePreserving().alpha_sigma(logsnr)


# The cosine and its limits


def test_cosine_is_a_cosine():
    """α = cos(½π(t + o)/(1 + o)) and SNR = cot²; Su 2024, §10.1."""
    offset = 0.008
    alpha, sigma = alpha_sigma(Cosine(offset=offset, logsnr_min=None, logsnr_max=None)(TIMES))
    angle = 0.5 * math.pi * (TIMES + offset) / (1 + offset)
    torch.testing.assert_close(alpha, torch.cos(angle), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sigma, torch.sin(angle), rtol=1e-12, atol=1e-12)


def test_cosine_derivative():
    torch.testing.assert_close(UNLIMITED.derivative(INNER), -2 * math.pi / torch.sin(math.pi * INNER))


def test_cosine_limits_are_its_ends():
    ends = Cosine(logsnr_min=-9.0, logsnr_max=14.0)(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([14.0, -9.0], dtype=torch.float64))


def test_cosine_limits_leave_the_turning_rate_constant():
    alpha, sigma = alpha_sigma(Cosine(logsnr_min=-4.0, logsnr_max=5.0)(TIMES))
    turned = torch.atan2(sigma, alpha).diff()
    torch.testing.assert_close(turned, turned[:1].expand(200))


def test_the_larger_of_offset_and_limit_decides():
    zero = torch.zeros(1, dtype=torch.float64)
    offset_alone = Cosine(offset=0.1, logsnr_min=None, logsnr_max=None)(zero)
    torch.testing.assert_close(Cosine(offset=0.1, logsnr_max=30.0)(zero), offset_alone)
    torch.testing.assert_close(Cosine(offset=1e-9, logsnr_max=9.0)(zero), zero + 9.0)


# The density of λ


@pytest.mark.parametrize("schedule", [
    example for example in flat(SCHEDULES) if not isinstance(example.values[0], Clipped)
])
def test_density_integrates_to_one(schedule):
    # In steps that are even in t at the middle of the range and even in λ in the tails.
    high, low = schedule(torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)).tolist()
    logsnr = torch.cat([torch.linspace(low, high, 40_001, dtype=torch.float64),
                        schedule(torch.linspace(1e-6, 1 - 1e-6, 20_001, dtype=torch.float64))]).sort().values
    assert torch.trapezoid(density(schedule, logsnr), logsnr).item() == pytest.approx(1, abs=2e-4)


@given(st.floats(0.25, 32))
def test_density_of_the_shifted_cosine(factor):
    schedule = Shifted(base=UNLIMITED, factor=factor)
    logsnr = torch.linspace(-20, 20, 81, dtype=torch.float64)
    sech = 1 / torch.cosh((logsnr + 2 * math.log(factor)) / 2)
    torch.testing.assert_close(density(schedule, logsnr), sech / (2 * math.pi))


def test_density_is_zero_out_of_range():
    outside = torch.tensor([-15.1, 15.1, -torch.inf, torch.inf])
    torch.testing.assert_close(density(Cosine(), outside), torch.zeros(4))


# The shift to a resolution


@given(st.floats(0.1, 64))
def test_shift_equals_the_closed_forms(factor):
    """β̄_high = sβ̄/√(1 + (s²−1)β̄²), ᾱ_high = ᾱ/√(1 + (s²−1)β̄²); Su 2024, §5.2, §10.3."""
    alpha, sigma = alpha_sigma(UNLIMITED(TIMES))
    root = torch.sqrt(1 + (factor**2 - 1) * sigma**2)
    high_alpha, high_sigma = alpha_sigma(Shifted(base=UNLIMITED, factor=factor)(TIMES))
    torch.testing.assert_close(high_alpha, alpha / root, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(high_sigma, factor * sigma / root, rtol=1e-11, atol=1e-14)


@given(st.floats(0.1, 64))
def test_shift_equals_the_time_shift_of_the_straight_path(factor):
    """t' = st/(1 + (s−1)t); Esser et al. 2024, eq. 23."""
    shifted = Shifted(base=FlowMatching(), factor=factor)(INNER)
    moved = factor * INNER / (1 + (factor - 1) * INNER)
    torch.testing.assert_close(FlowMatching()(moved), shifted, rtol=1e-11, atol=1e-11)
    alpha, sigma = Straight().alpha_sigma(shifted)
    torch.testing.assert_close(sigma, moved, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(alpha, 1 - moved, rtol=1e-9, atol=1e-13)


@given(st.floats(0.1, 64))
def test_the_closed_forms_equal_the_time_shift(factor):
    """The same SNR, reached by the closed forms under VP and by the time shift on the straight path."""
    alpha, sigma = alpha_sigma(FlowMatching()(INNER))
    root = torch.sqrt(1 + (factor**2 - 1) * sigma**2)
    closed = 2 * torch.log((alpha / root) / (factor * sigma / root))
    moved = factor * INNER / (1 + (factor - 1) * INNER)
    torch.testing.assert_close(closed, FlowMatching()(moved), rtol=1e-10, atol=1e-10)


def test_shift_by_one_changes_nothing():
    torch.testing.assert_close(Shifted(base=Cosine(), factor=1.0)(TIMES), Cosine()(TIMES), rtol=0, atol=0)


def test_shift_at_little_and_much_noise():
    """β̄_high ≈ sβ̄ and ᾱ_high ≈ ᾱ where β̄ → 0; β̄_high → 1, ᾱ_high → 0 where β̄ → 1; Su 2024, §5.4."""
    times = torch.tensor([1e-7, 1.0], dtype=torch.float64)
    alpha, sigma = alpha_sigma(UNLIMITED(times))
    high_alpha, high_sigma = alpha_sigma(Shifted(base=UNLIMITED, factor=8.0)(times))
    torch.testing.assert_close(high_sigma, torch.stack([8 * sigma[0], torch.ones(()).double()]), rtol=1e-9, atol=0)
    torch.testing.assert_close(high_alpha, torch.stack([alpha[0], torch.zeros(()).double()]), rtol=1e-9, atol=1e-15)


def test_shifts_compose():
    twice = Shifted(base=Shifted(base=Cosine(), factor=2.0), factor=4.0)
    torch.testing.assert_close(twice(TIMES), Shifted(base=Cosine(), factor=8.0)(TIMES))


def test_ends_move_or_stay():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    moved = for_resolution(Cosine(), image=(512, 512))
    torch.testing.assert_close(moved(ends), Cosine()(ends) - 2 * math.log(8))
    for base in (Cosine(), UniformLogSnr(), UniformPower(power=-0.1)):
        stayed = for_resolution(base, image=(512, 512), ends="stay")
        torch.testing.assert_close(stayed(ends), base(ends))
    # In between, the limited cosine is shifted as the moved one is, but for the angle lost at the ends.
    stayed = for_resolution(Cosine(), image=(512, 512), ends="stay")
    torch.testing.assert_close(stayed(INNER[9:-9]), moved(INNER[9:-9]), rtol=0, atol=0.1)
    unlimited = for_resolution(UNLIMITED, image=(512, 512), ends="stay")
    torch.testing.assert_close(unlimited(TIMES), Shifted(base=UNLIMITED, factor=8.0)(TIMES))


def test_ends_stay_only_for_schedules_with_limits():
    with pytest.raises(SnriseError, match=r"for_resolution\.base: got 'LinearBeta'.*use ends='move'"):
        for_resolution(LinearBeta(), image=(128, 128), ends="stay")
    with pytest.raises(SnriseError, match=r"for_resolution\.ends: no such name 'stays'; did you mean 'stay'"):
        for_resolution(Cosine(), image=(128, 128), ends="stays")


@pytest.mark.parametrize(("image", "reference", "factor"), [
    ((512, 512), (64, 64), 8.0), ((256, 1024), (64, 64), 8.0), ((64, 64), (64, 64), 1.0), ((32, 32), (64, 64), 0.5),
    ((96, 64), (64, 64), math.sqrt(1.5)), ((300, 200), (30, 20), 10.0), ((128, 32), (32, 128), 1.0),
])
def test_factor_of_images_that_need_not_be_square(image, reference, factor):
    assert shift_factor(image, reference) == pytest.approx(factor, rel=1e-15)
    schedule = for_resolution(Cosine(), image, reference)
    assert schedule.factor == pytest.approx(factor, rel=1e-15)
    # s² = wh/(w₀h₀): the SNR of the pooled image is that of the base at the reference.
    pooled = schedule(INNER) + math.log(image[0] * image[1] / (reference[0] * reference[1]))
    torch.testing.assert_close(pooled, Cosine()(INNER))


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_width_and_height_are_alike(height, width):
    assert shift_factor((height, width)) == shift_factor((width, height))


# Other formulas


def test_linear_beta_is_an_integral():
    """α = exp(−½∫β); Su 2024, §10.2."""
    schedule = LinearBeta(beta_min=0.2, beta_max=15.0)
    grid = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(0.2 + grid * 14.8, grid)
    alpha, _ = alpha_sigma(schedule(grid[1:]))
    torch.testing.assert_close(alpha, torch.exp(-0.5 * integral), rtol=1e-9, atol=0)


def test_linear_beta_is_the_limit_of_the_table():
    """∏√(1 − β/N) → exp(−½∫β)."""
    steps = 100_000
    grid = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    product = torch.cumsum(torch.log1p(-(0.1 + 19.9 * grid) / steps), 0)
    alpha, _ = alpha_sigma(LinearBeta()((torch.arange(steps, dtype=torch.float64) + 1) / steps))
    torch.testing.assert_close(alpha, torch.exp(0.5 * product), rtol=2e-3, atol=0)


def test_uniform_logsnr_is_uniform():
    torch.testing.assert_close(UniformLogSnr()(TIMES), 15 - 30 * TIMES)
    inside = torch.linspace(-14.9, 14.9, 9)
    torch.testing.assert_close(density(UniformLogSnr(), inside), torch.full((9,), 1 / 30))


@pytest.mark.parametrize("power", [1.0, -1.0, 0.5, -1 / 14])
def test_uniform_power_moves_linearly(power):
    """The grids τ = SNR and τ = 1/SNR; Su 2024, §7.2."""
    schedule = UniformPower(power=power, logsnr_min=-4.0, logsnr_max=3.0)
    moved = torch.exp(power * schedule(TIMES)).diff()
    torch.testing.assert_close(moved, moved[:1].expand(200), rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule(TIMES[[0, -1]]), torch.tensor([3.0, -4.0], dtype=torch.float64))


def test_uniform_power_with_rho_is_the_grid_of_karras():
    """σ^{1/ρ} is linear, here from the clean end; Karras et al. 2022, eq. 5."""
    rho, low, high = 7, 0.002, 80.0
    schedule = UniformPower(power=-1 / (2 * rho), logsnr_min=-2 * math.log(high), logsnr_max=-2 * math.log(low))
    sigma = (low ** (1 / rho) + TIMES * (high ** (1 / rho) - low ** (1 / rho))) ** rho
    torch.testing.assert_close(torch.exp(-0.5 * schedule(TIMES)), sigma, rtol=1e-10, atol=0)


def test_uniform_power_keeps_its_end_in_float32():
    """SNR^4 spans e^120, more than float32 holds."""
    ends = UniformPower(power=4.0)(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([15.0, -15.0]))


def test_uniform_power_tends_to_uniform_logsnr():
    torch.testing.assert_close(UniformPower(power=1e-7)(TIMES), UniformLogSnr()(TIMES), rtol=1e-5, atol=2e-5)


def test_log_normal_has_normal_log_sigma():
    """log σ at even quantiles has the mean −1.2 and the deviation 1.2; Karras et al. 2022, table 1."""
    log_sigma = -0.5 * LogNormal()((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000)
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=1e-9)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=1e-3)


# Tables


def diffusers_table(name):
    return DDPMScheduler(beta_schedule=name, beta_start=0.00085, beta_end=0.012)


@pytest.mark.parametrize("name", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_table_equals_diffusers_at_its_entries(name):
    theirs = diffusers_table(name)
    times = torch.arange(1000, dtype=torch.float64) / 999
    from_alphas = Tabulated.from_alphas_cumprod(theirs.alphas_cumprod)
    alpha, _ = alpha_sigma(from_alphas(times))
    torch.testing.assert_close(alpha**2, theirs.alphas_cumprod.double(), rtol=1e-12, atol=1e-15)
    alpha, _ = alpha_sigma(Tabulated.from_betas(theirs.betas)(times))
    torch.testing.assert_close(alpha**2, theirs.alphas_cumprod.double(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["linear", "scaled_linear"])
def test_zero_terminal_snr_equals_diffusers(name):
    theirs = diffusers_table(name)
    rescaled = 1 - rescale_zero_terminal_snr(theirs.betas.double())
    schedule = ZeroTerminalSnr(base=Tabulated.from_betas(theirs.betas))
    alpha, _ = alpha_sigma(schedule(torch.arange(1000, dtype=torch.float64) / 999))
    torch.testing.assert_close(alpha**2, torch.cumprod(rescaled, 0), rtol=1e-6, atol=1e-6)
    assert schedule(torch.tensor(1.0)) == -torch.inf
    assert schedule(torch.tensor(0.0)).item() == pytest.approx(schedule.base(torch.tensor(0.0)).item(), rel=1e-6)


def test_zero_terminal_snr_is_exact_at_any_place_of_a_batch():
    """λ(1) = −∞ does not depend on how many others are computed with it."""
    schedule = ZeroTerminalSnr(base=LinearBeta())
    for count in (1, 2, 7, 16, 33, 100):
        times = torch.linspace(0, 1, count + 1, dtype=torch.float64)[1:]
        logsnr = schedule(torch.cat([times, torch.ones(3, dtype=torch.float64)]))
        assert (logsnr[-4:] == -torch.inf).all()
        assert logsnr[:-4].isfinite().all()


@pytest.mark.parametrize("form", ["from_betas", "from_alphas_cumprod"])
def test_a_list_is_a_table(form):
    values = [0.1, 0.2, 0.3] if form == "from_betas" else [0.9, 0.72, 0.504]
    alpha, _ = alpha_sigma(getattr(Tabulated, form)(values)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)))
    torch.testing.assert_close(alpha**2, torch.tensor([0.9, 0.72, 0.504], dtype=torch.float64))


# Wrappers


def test_clipped_stands_still_beyond_its_limits():
    schedule = Clipped(base=UNLIMITED, logsnr_min=-5.0, logsnr_max=6.0)
    times = torch.tensor([0.0, 0.01, 0.5, 0.99, 1.0], dtype=torch.float64)
    torch.testing.assert_close(schedule(times), torch.tensor([6.0, 6.0, 0.0, -5.0, -5.0], dtype=torch.float64))
    torch.testing.assert_close(schedule.derivative(times),
                               torch.tensor([0.0, 0.0, -2 * math.pi, 0.0, 0.0], dtype=torch.float64))


def test_interpolated_holds_at_each_end():
    """Hoogeboom et al. 2023, sec. 3.1."""
    clean, noisy = Shifted(base=Cosine(), factor=2.0), Shifted(base=Cosine(), factor=8.0)
    schedule = Interpolated(clean=clean, noisy=noisy)
    torch.testing.assert_close(schedule(TIMES), (1 - TIMES) * clean(TIMES) + TIMES * noisy(TIMES))
    torch.testing.assert_close(schedule(TIMES[:1]), clean(TIMES[:1]))
    torch.testing.assert_close(schedule(TIMES[-1:]), noisy(TIMES[-1:]))


def test_interpolated_the_wrong_way_round_is_found_out():
    little, much = Shifted(base=Cosine(), factor=1.0), Shifted(base=Cosine(), factor=64.0)
    wrong, right = Interpolated(clean=much, noisy=little), Interpolated(clean=little, noisy=much)
    assert (wrong(TIMES).diff() > 0).any()
    assert (right(TIMES).diff() < 0).all()
    report = diagnose(wrong, image=(512, 512))
    assert not report.decreasing
    assert any("does not decrease" in problem for problem in report.problems)
    assert diagnose(right, image=(512, 512)).decreasing


# Errors


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Cosine(offset=-0.1), r"Cosine\.offset: got -0\.1; allowed: a number, 0 or more"),
    (lambda: Cosine(offset=math.inf), r"Cosine\.offset: got inf"),
    (lambda: Cosine(offset=1e4), r"Cosine\.offset: got 10000\.0; allowed: .* start above logsnr_min=-15\.0"),
    (lambda: Cosine(logsnr_min=3.0, logsnr_max=2.0), r"Cosine\.logsnr_min: got 3\.0; .* below logsnr_max=2\.0"),
    (lambda: Cosine(logsnr_min=math.nan), r"Cosine\.logsnr_min: got nan"),
    (lambda: LinearBeta(beta_min=0.0), r"LinearBeta\.beta_min: got 0\.0; allowed: a number above 0"),
    (lambda: LinearBeta(beta_min=2.0, beta_max=1.0), r"LinearBeta\.beta_max: got 1\.0; .* above beta_min=2\.0"),
    (lambda: UniformLogSnr(logsnr_max=math.inf), r"UniformLogSnr\.logsnr_max: got inf; .*use -15 and 15"),
    (lambda: UniformLogSnr(logsnr_min=15.0), r"UniformLogSnr\.logsnr_min: got 15\.0"),
    (lambda: UniformPower(power=0.0), r"UniformPower\.power: got 0\.0; .*use UniformLogSnr"),
    (lambda: UniformPower(power=50.0), r"UniformPower\.power: got 50\.0; allowed: a number in \[-23\.33, 23\.33\]"),
    (lambda: UniformPower(logsnr_min=-math.inf), r"UniformPower\.logsnr_min: got -inf; allowed: a finite number"),
    (lambda: LogNormal(std=0.0), r"LogNormal\.std: got 0\.0; allowed: a number above 0"),
    (lambda: Shifted(base=Cosine(), factor=0.0), r"Shifted\.factor: got 0\.0; allowed: a number above 0"),
    (lambda: Shifted(base=Cosine(), factor=math.inf), r"Shifted\.factor: got inf"),
    (lambda: Clipped(base=Cosine(), logsnr_min=1.0, logsnr_max=0.0), r"Clipped\.logsnr_min: got 1\.0"),
    (lambda: Tabulated((1.0,)), r"Tabulated: got '1 entries'; allowed: 2 entries or more"),
    (lambda: Tabulated((1.0, 0.5, 0.5)), r"Tabulated\[2\]: got 0\.5; allowed: .* below the entry before it, 0\.5"),
    (lambda: Tabulated.from_alphas_cumprod([0.9, 1.5]), r"from_alphas_cumprod\[1\]: got 1\.5; allowed: .* \[0, 1\]"),
    (lambda: Tabulated.from_betas([0.1, math.nan]), r"from_betas\[1\]: got nan"),
    (lambda: Tabulated.from_betas(torch.zeros(2, 2)), r"from_betas: got '2 dimensions'; allowed: one dimension"),
    (lambda: shift_factor((0, 64)), r"shift_factor\.image: got \(0, 64\); allowed: \(height, width\), both 1 or more"),
    (lambda: for_resolution(Cosine(), (64, 64), (64, 0)), r"shift_factor\.reference: got \(64, 0\)"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
