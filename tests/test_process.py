import itertools

import mpmath as mp
import pytest
import torch

import exact
from examples import PROCESSES, SCHEDULES, flat, growing_rho
from snrise._errors import SnriseError
from snrise.process import (
    Prediction,
    Relaxed,
    Straight,
    Target,
    VarianceExploding,
    VariancePreserving,
    diffuse,
    posterior_mean,
    posterior_variance,
    sde,
)
from snrise.schedules import Cosine, LinearBeta

VP, VE = VariancePreserving(), VarianceExploding()
LEVELS = torch.linspace(-20, 20, 41, dtype=torch.float64)

every_process = pytest.mark.parametrize("process", flat(PROCESSES))
every_prediction = pytest.mark.parametrize("prediction", list(Prediction))


def images(count, seed=0, size=4):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, rtol=1e-10, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# α and σ


@pytest.mark.parametrize(("process", "alpha_of", "sigma_of"), [
    (VP, lambda snr: mp.sqrt(snr / (1 + snr)), lambda snr: mp.sqrt(1 / (1 + snr))),
    (VE, lambda snr: mp.mpf(1), lambda snr: 1 / mp.sqrt(snr)),
    (Straight(), lambda snr: mp.sqrt(snr) / (1 + mp.sqrt(snr)), lambda snr: 1 / (1 + mp.sqrt(snr))),
    (Relaxed(0.3), lambda snr: mp.sqrt(snr / (snr + mp.mpf(0.3))), lambda snr: mp.sqrt(1 / (snr + mp.mpf(0.3)))),
], ids=["vp", "ve", "straight", "relaxed"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 5e-6)])
def test_alpha_sigma_to_40_digits(process, alpha_of, sigma_of, dtype, rtol):
    assert exact.mp.mp.dps >= 40
    levels = torch.tensor([-50.0, -20.0, -3.3, -1e-3, 0.0, 0.7, 12.0, 20.0, 50.0], dtype=dtype)
    snr = [mp.exp(mp.mpf(level)) for level in levels.tolist()]
    alpha, sigma = process.alpha_sigma(levels)
    close(alpha, torch.tensor([float(alpha_of(r)) for r in snr], dtype=dtype), rtol, 0)
    close(sigma, torch.tensor([float(sigma_of(r)) for r in snr], dtype=dtype), rtol, 0)


@every_process
def test_the_ratio_is_the_snr(process):
    alpha, sigma = process.alpha_sigma(LEVELS)
    close(2 * torch.log(alpha) - 2 * torch.log(sigma), LEVELS)


def test_what_each_process_preserves():
    def of(process):
        return process.alpha_sigma(LEVELS)

    one = torch.ones_like(LEVELS)
    close(of(VP)[0] ** 2 + of(VP)[1] ** 2, one)
    close(of(VE)[0], one)
    close(sum(of(Straight())), one)
    alpha, sigma = of(Relaxed(0.3))
    close(alpha**2 + 0.3 * sigma**2, one)
    alpha, sigma = of(Relaxed(growing_rho))
    close(alpha**2 + growing_rho(LEVELS) * sigma**2, one)


def test_relaxed_is_between_preserving_and_exploding():
    levels = torch.cat([LEVELS, torch.tensor([torch.inf, -torch.inf], dtype=torch.float64)])
    for ours, theirs in ((Relaxed(1.0), VP), (Relaxed(0.0), VE)):
        for got, wanted in zip(ours.alpha_sigma(levels), theirs.alpha_sigma(levels), strict=True):
            close(got, wanted)
        close(ours.log_alpha_slope(levels), theirs.log_alpha_slope(levels))


def test_variance_of_noisy_images():
    """Var z = α² Var x + σ²: 1 under VP, 1 + σ² under VE, for data of variance 1; Su 2024, §9.1, §9.2."""
    x, eps = images(4000, 0), images(4000, 1)
    levels = torch.zeros(4000, dtype=torch.float64)
    error = 5 * (2 / x.numel()) ** 0.5
    assert diffuse(x, eps, levels, VP).var().item() == pytest.approx(1, abs=error)
    assert diffuse(x, eps, levels, VE).var().item() == pytest.approx(2, abs=2 * error)


@every_process
def test_slope_of_log_alpha(process):
    levels = LEVELS.clone().requires_grad_()
    value = process.log_alpha(levels)
    slope = torch.autograd.grad(value.sum(), levels)[0] if value.requires_grad else torch.zeros_like(LEVELS)
    close(process.log_alpha_slope(LEVELS), slope)


@every_process
def test_no_nan_at_infinite_levels(process):
    for dtype in (torch.float32, torch.float64):
        levels = torch.tensor([torch.inf, -torch.inf, 0.0], dtype=dtype)
        alpha, sigma = process.alpha_sigma(levels)
        assert not alpha.isnan().any()
        assert not sigma.isnan().any()
        levels = levels[sigma.isfinite()].requires_grad_()  # σ explodes at the noisy end of some
        alpha, sigma = process.alpha_sigma(levels)
        (slope,) = torch.autograd.grad(alpha.sum() + sigma.sum(), levels)
        assert not slope.isnan().any()


# Targets


@every_process
@every_prediction
def test_prediction_to_x_and_eps_and_back(process, prediction):
    levels = torch.linspace(-8, 8, 9, dtype=torch.float64)
    x, eps = images(9, 0), images(9, 1)
    target, z = Target(prediction, process), diffuse(x, eps, levels, process)
    p = target(x, eps, levels)
    x_back, eps_back = target.to_x(p, z, levels), target.to_eps(p, z, levels)
    close(x_back, x)
    close(eps_back, eps)
    close(target(x_back, eps_back, levels), p)


@every_process
@every_prediction
def test_gain_turns_any_error_into_an_eps_error(process, prediction):
    levels = torch.linspace(-8, 8, 9, dtype=torch.float64)
    x, eps, error = images(9, 0), images(9, 1), images(9, 2)
    target, z = Target(prediction, process), diffuse(x, eps, levels, process)
    p = target(x, eps, levels)
    gain = target.gain(levels).reshape(-1, 1, 1, 1)
    eps_error = target.to_eps(p + error, z, levels) - eps
    close(gain * error, eps_error)
    # ‖x̂ − x‖² = ‖ε̂ − ε‖²/SNR; Su 2024, §8.4.
    x_error = target.to_x(p + error, z, levels) - x
    close(x_error.square().sum((1, 2, 3)), eps_error.square().sum((1, 2, 3)) / levels.exp())


def test_gains_in_closed_form():
    alpha, sigma = VP.alpha_sigma(LEVELS)
    one = torch.ones_like(alpha)
    for prediction, gain in ((Prediction.EPS, one), (Prediction.X, -alpha / sigma), (Prediction.V, alpha),
                             (Prediction.U, alpha / (alpha + sigma))):
        close(Target(prediction, VP).gain(LEVELS), gain)
    close(Target(Prediction.U, Straight()).gain(LEVELS), Straight().alpha_sigma(LEVELS)[0])


def test_v_is_alpha_eps_minus_sigma_x():
    """v = αε − σx = (αz − x)/σ under VP; Su 2024, §6.6."""
    levels = torch.linspace(-3, 3, 5, dtype=torch.float64)
    x, eps = images(5, 0), images(5, 1)
    alpha, sigma = (a.reshape(-1, 1, 1, 1) for a in VP.alpha_sigma(levels))
    v = Target(Prediction.V)(x, eps, levels)
    close(v, alpha * eps - sigma * x)
    close(v, (alpha * diffuse(x, eps, levels) - x) / sigma)


@every_process
@every_prediction
def test_targets_at_infinite_levels(process, prediction):
    levels = torch.tensor([torch.inf, -torch.inf], requires_grad=True)
    x = torch.ones(2, 3, 2, 2)
    target = Target(prediction, process)
    for value in (target.gain(levels), target(x, x, levels), target.to_x(x, x, levels), target.to_eps(x, x, levels)):
        assert value.isfinite().all()
        if value.requires_grad:
            assert torch.autograd.grad(value.sum(), levels, retain_graph=True)[0].isfinite().all()


# The SDE


@every_process
@pytest.mark.parametrize("schedule", flat({name: SCHEDULES[name] for name in ("cosine", "linear_beta")}))
def test_sde(process, schedule):
    """f = d log α/dt, and dσ²/dt = 2fσ² + g² for any process; Su 2024, §7.6."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    f, g_squared = sde(schedule(t), schedule.derivative(t), process)
    h = 1e-6
    (alpha_up, sigma_up), (alpha_down, sigma_down) = (process.alpha_sigma(schedule(t + d)) for d in (h, -h))
    close(f, (alpha_up.log() - alpha_down.log()) / (2 * h), 1e-6, 1e-6)
    sigma_squared = process.alpha_sigma(schedule(t))[1] ** 2
    close(2 * f * sigma_squared + g_squared, (sigma_up**2 - sigma_down**2) / (2 * h), 1e-6, 1e-6)


def test_sde_of_linear_beta():
    """f = −½β(t) and g² = β(t)."""
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    f, g_squared = sde(LinearBeta()(t), LinearBeta().derivative(t))
    beta = 0.1 + 19.9 * t
    close(f, -0.5 * beta)
    close(g_squared, beta)


def test_snr_falls_as_the_quotient_rule_says():
    """dSNR/dt = 2αα'/σ⁴ under VP; Su 2024, §3.1, §3.3."""
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    schedule = Cosine(logsnr_min=None, logsnr_max=None)
    logsnr = schedule(t)
    alpha, sigma = VP.alpha_sigma(logsnr)
    alpha_slope = -0.5 * torch.pi * torch.sin(0.5 * torch.pi * t)
    close(logsnr.exp() * schedule.derivative(t), 2 * alpha * alpha_slope / sigma**4)


def test_no_nan_in_the_sde_at_infinite_levels():
    levels = torch.tensor([torch.inf, -torch.inf, torch.inf])
    for value in sde(levels, torch.tensor([-torch.inf, -torch.inf, -1.0])):
        assert not value.isnan().any()


# The reverse process


def test_posterior_of_discrete_steps():
    """μ̃ = (ᾱ_{t−1}β_t/β̄_t²) x₀ + (√α_t β̄_{t−1}²/β̄_t²) x_t and β̃_t = (β̄_{t−1}²/β̄_t²) β_t; Su 2024, §8.1."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    signal = torch.cumprod((1 - betas).sqrt(), 0)
    noise = (1 - signal**2).sqrt()
    logsnr = 2 * torch.log(signal / noise)
    n = torch.tensor([1, 5, 100, 500, 999])
    x, z, eps = images(5, 0), images(5, 1), images(5, 2)

    def wide(a):
        return a.reshape(-1, 1, 1, 1)

    of_x = signal[n - 1] * betas[n] / noise[n] ** 2
    of_z = (1 - betas[n]).sqrt() * noise[n - 1] ** 2 / noise[n] ** 2
    close(posterior_mean(z, x, logsnr[n], logsnr[n - 1]), wide(of_x) * x + wide(of_z) * z)
    close(posterior_variance(logsnr[n], logsnr[n - 1]), noise[n - 1] ** 2 / noise[n] ** 2 * betas[n])
    # From ε: (x_t − β_t/β̄_t ε)/√α_t; §8.2, §8.3.
    x_of_eps = Target(Prediction.EPS).to_x(eps, z, logsnr[n])
    by_eps = (z - wide(betas[n] / noise[n]) * eps) / wide((1 - betas[n]).sqrt())
    close(posterior_mean(z, x_of_eps, logsnr[n], logsnr[n - 1]), by_eps)


@every_process
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_posterior_keeps_the_marginal(process, eta):
    """z_t ~ N(α_t x, σ_t²) -> z_s ~ N(α_s x, σ_s²): the coefficients add up, for every η."""
    t, s = torch.tensor([-3.0, 0.5], dtype=torch.float64), torch.tensor([-2.5, 4.0], dtype=torch.float64)
    zero, one = torch.zeros(2, 1, 1, 1, dtype=torch.float64), torch.ones(2, 1, 1, 1, dtype=torch.float64)
    of_z = posterior_mean(one, zero, t, s, eta=eta, process=process)[:, 0, 0, 0]
    of_x = posterior_mean(zero, one, t, s, eta=eta, process=process)[:, 0, 0, 0]
    (alpha_t, sigma_t), (alpha_s, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
    close(of_z * alpha_t + of_x, alpha_s)
    close((of_z * sigma_t) ** 2 + eta**2 * posterior_variance(t, s, process=process), sigma_s**2)
    if eta == 1:
        r = torch.exp(t - s)
        close(of_z, r * alpha_s / alpha_t)
        close(of_x, (1 - r) * alpha_s)


@every_process
def test_gamma_from_the_small_variance_to_the_large(process):
    t, s = torch.tensor([-3.0, 0.5], dtype=torch.float64), torch.tensor([-2.5, 4.0], dtype=torch.float64)
    (_, sigma_t), (_, sigma_s) = process.alpha_sigma(t), process.alpha_sigma(s)
    small, large = (1 - torch.exp(t - s)) * sigma_s**2, (1 - torch.exp(t - s)) * sigma_t**2
    close(posterior_variance(t, s, gamma=0.0, process=process), small)
    close(posterior_variance(t, s, gamma=1.0, process=process), large)
    close(posterior_variance(t, s, gamma=0.3, process=process), small**0.7 * large**0.3)


@every_process
def test_eta_0_is_ddim(process):
    """z_s = α_s x̂ + σ_s ε̂; Song et al. 2020, eq. 12."""
    t, s = torch.tensor([-3.0, 0.5], dtype=torch.float64), torch.tensor([-2.5, 4.0], dtype=torch.float64)
    x, eps = images(2, 0), images(2, 1)
    z = diffuse(x, eps, t, process)
    close(posterior_mean(z, x, t, s, eta=0.0, process=process), diffuse(x, eps, s, process))


@every_process
def test_no_nan_in_steps_from_and_to_infinite_levels(process):
    z = torch.ones(3, 1, 2, 2)
    for eta in (0.0, 0.5, 1.0):
        t = torch.tensor([-torch.inf, -torch.inf, 0.0], requires_grad=True)
        s = torch.tensor([0.0, torch.inf, torch.inf], requires_grad=True)
        mean = posterior_mean(z, z, t, s, eta=eta, process=process)
        variance = posterior_variance(t, s, gamma=0.3, process=process)
        for value, at in itertools.product((mean, variance), (t, s)):
            assert value.isfinite().all()
            assert torch.autograd.grad(value.sum(), at, retain_graph=True)[0].isfinite().all()


def test_errors():
    with pytest.raises(SnriseError, match=r"Relaxed\.rho: got -1\.0; allowed: a number, 0 or more, or a function of λ"):
        Relaxed(-1.0)
