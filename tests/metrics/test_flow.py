import math

import pytest
import torch
from scipy.integrate import solve_ivp

from examples import PROCESSES, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.denoisers import Denoiser, from_network, gaussian
from snrise.metrics import Basis, Rademacher, flow_likelihood, flow_log_density, joined
from snrise.metrics.flow import heun_step, rk4_step
from snrise.process import VP, Prediction, sde
from snrise.samplers import generators, normal_like

MEAN, VARIANCE = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64)
GRID = torch.linspace(-34, 10, 161, dtype=torch.float64)


def normal_images(count, channels=1, side=2):
    x = torch.empty(count, channels, side, side, dtype=torch.float64)
    return MEAN + VARIANCE.sqrt() * normal_like(x, generators(7, 0, count))


# Gaussian data


@pytest.mark.parametrize("probes", [Basis(), Rademacher()])
@pytest.mark.parametrize("process", flat(PROCESSES))
def test_it_is_the_density_of_a_gaussian(process, probes):
    """Blurred by the noise of the clean end. A diagonal derivative has the same trace for any signs."""
    x = normal_images(4)
    found = flow_log_density(gaussian(MEAN, VARIANCE, process), x, GRID, generators(0, 0, 4),
                             probes=probes)
    blurred = torch.distributions.Normal(MEAN, (VARIANCE + torch.exp(-GRID[-1])).sqrt())
    torch.testing.assert_close(found, blurred.log_prob(x).sum(dim=(1, 2, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("step", "order"), [(heun_step, 2), (rk4_step, 4)])
def test_order_of_convergence(step, order):
    """Along the flow a Gaussian keeps z's distance from its mean in standard deviations."""
    x, low, high = normal_images(3), -8.0, 8.0

    def moments(logsnr):
        alpha, sigma = VP.alpha_sigma(torch.tensor(logsnr, dtype=torch.float64))
        return alpha, (alpha**2 * VARIANCE + sigma**2).sqrt()

    (alpha_0, std_0), (alpha_1, std_1) = moments(low), moments(high)
    z = alpha_0 * MEAN + std_0 / std_1 * alpha_1 * (x - MEAN)
    exact = (torch.distributions.Normal(0.0, 1.0).log_prob(z) + (std_0 / std_1 * alpha_1).log()).sum(dim=(1, 2, 3))
    counts, errors = torch.tensor([20, 40, 80, 160]), []
    for count in counts.tolist():
        grid = torch.linspace(low, high, count + 1, dtype=torch.float64)
        found = flow_log_density(gaussian(MEAN, VARIANCE), x, grid, generators(0, 0, 3), probes=Basis(), step=step)
        errors.append((found - exact).abs().max())
    slopes = torch.stack(errors).log().diff() / counts.log().diff()
    assert errors[-1] < 0.01
    assert slopes[-1].item() == pytest.approx(-order, abs=0.15)


def correlated(covariance):
    """The exact denoiser of 2×2 images from N(0, covariance), VP."""

    @under_vp
    def denoise(z, logsnr):
        alpha, sigma = VP.alpha_sigma(logsnr[:1])
        gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(4))
        return (z.flatten(1) @ gain.T).reshape(z.shape)

    return denoise


@pytest.mark.slow
def test_probes_estimate_the_trace_without_bias():
    """Pixels that hang together: the exact trace gives the exact density, random signs have it as their mean."""
    root = torch.tensor([[0.5, 0, 0, 0], [0.4, 0.2, 0, 0], [0.1, -0.3, 0.3, 0], [0.3, 0.1, 0.2, 0.1]]).double()
    covariance, x = root @ root.T, torch.tensor([0.3, -0.1, 0.4, 0.2], dtype=torch.float64).reshape(1, 1, 2, 2)
    blurred = torch.distributions.MultivariateNormal(torch.zeros(4).double(), covariance + 1e-3 * torch.eye(4))
    grid = torch.linspace(-26, math.log(1e3), 221, dtype=torch.float64)
    wanted = blurred.log_prob(x.flatten())
    denoise = correlated(covariance)
    exact = flow_log_density(denoise, x, grid, generators(0, 0, 1), probes=Basis())
    assert exact.item() == pytest.approx(wanted.item(), abs=1e-5)
    spreads = []
    for count in (1, 4):
        found = flow_log_density(denoise, x.expand(400, -1, -1, -1), grid, generators(0, 0, 400),
                                 probes=Rademacher(count=count))
        spreads.append(found.std().item())
        assert found.mean().item() == pytest.approx(wanted.item(), abs=4 * spreads[-1] / 20)
    assert spreads[0] > 0.1
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=0.25)


# Nonlinear denoisers


CENTRES = torch.tensor([-0.5, 0.1, 0.7], dtype=torch.float64)


def mixture(z, variance):
    """log p of an even mixture of three Gaussians, element by element."""
    log_parts = torch.distributions.Normal(CENTRES, variance.sqrt()[..., None]).log_prob(z[..., None])
    return torch.logsumexp(log_parts, dim=-1) - math.log(3)


@under_vp
def mixture_denoiser(z, logsnr):
    """E[x|z] of pixels from that mixture, with variance 0.01 around each centre, VP."""
    alpha, sigma = (a.reshape(-1, 1, 1, 1, 1) for a in VP.alpha_sigma(logsnr))
    total = alpha**2 * 0.01 + sigma**2
    gap = z[..., None] - alpha * CENTRES
    means = CENTRES + alpha * 0.01 / total * gap
    return (torch.softmax(-0.5 * gap**2 / total, dim=-1) * means).sum(dim=-1)


def test_it_is_the_density_of_a_mixture():
    x = torch.linspace(-0.9, 1.1, 8, dtype=torch.float64).reshape(2, 1, 2, 2)
    grid = torch.linspace(-34, 10, 401, dtype=torch.float64)
    found = flow_log_density(mixture_denoiser, x, grid, generators(0, 0, 2))
    wanted = mixture(x, 0.01 + torch.exp(-grid[-1])).sum(dim=(1, 2, 3))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@under_vp
def coupled(z, logsnr):
    return from_network(FakeNetwork(), Prediction.V)(z, logsnr)


@pytest.mark.slow
def test_against_scipy_along_the_time_of_a_schedule():
    """dz/dt = fz − ½g²·score with score = −ε̂/σ, and its trace pixel by pixel, by scipy's adaptive solver."""
    x, low, high = normal_images(1), -5.0, 5.0

    def slope(t, state):
        # λ(t) = high + t(low − high).
        z = torch.tensor(state[:4]).reshape(1, 1, 2, 2)
        logsnr = torch.tensor([high + t * (low - high)], dtype=torch.float64)
        f, g_squared = sde(logsnr, torch.full_like(logsnr, low - high))
        alpha, sigma = VP.alpha_sigma(logsnr)

        def drift(z):
            return f * z + 0.5 * g_squared * (z - alpha * coupled(z, logsnr)) / sigma**2

        trace = torch.autograd.functional.jacobian(drift, z).reshape(4, 4).trace()
        return [*drift(z).flatten().tolist(), trace.item()]

    alpha, _ = VP.alpha_sigma(torch.tensor(high, dtype=torch.float64))
    end = solve_ivp(slope, (0, 1), [*(alpha * x).flatten().tolist(), 0.0], rtol=1e-7, atol=1e-9).y[:, -1]
    noise = torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(end[:4])).sum()
    wanted = noise + end[4] + 4 * alpha.log()
    grid = torch.linspace(low, high, 161, dtype=torch.float64)
    found = flow_log_density(coupled, x, grid, generators(0, 0, 1), probes=Basis())
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)


@pytest.mark.parametrize("process", flat(PROCESSES))
def test_every_process_has_the_same_flow(process):
    def rescaled(z, logsnr):
        ratio = (VP.log_alpha(logsnr) - process.log_alpha(logsnr)).exp().reshape(-1, 1, 1, 1)
        return coupled(z * ratio, logsnr)

    x, grid = normal_images(2), torch.linspace(-12, 12, 25, dtype=torch.float64)
    wanted = flow_log_density(coupled, x, grid, generators(0, 0, 2))
    found = flow_log_density(Denoiser(rescaled, process), x, grid, generators(0, 0, 2))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


# Probes, pixels, errors


def test_probes():
    x = torch.zeros(3, 2, 2, 2)
    signs = Rademacher(count=4)(x, generators(0, 0, 3))
    assert signs.shape == (4, 3, 2, 2, 2)
    assert set(signs.flatten().tolist()) == {-0.5, 0.5}
    many = Rademacher(count=4000)(x[:1], generators(0, 0, 1)).flatten(1)
    torch.testing.assert_close(many.T @ many, torch.eye(8), rtol=0, atol=0.1)
    basis = Basis()(x, ()).flatten(2)
    for image in range(3):
        assert torch.equal(basis[:, image].T @ basis[:, image], torch.eye(8))


def test_bits_per_dimension_of_pixels():
    """The density at pixels with uniform noise of one level's width, and a level is 1/127.5 wide."""
    pixels = torch.randint(60, 190, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, variance, grid = torch.tensor(0.1), torch.tensor(0.2), torch.linspace(-16, 12, 81)
    found = flow_likelihood(gaussian(mean, variance), pixels, grid, generators(0, 0, 5))
    inside = torch.stack([torch.rand(3, 4, 4, generator=g) for g in generators(0, 0, 5)])
    x = (pixels + inside.double() - 0.5) / 127.5 - 1
    density = torch.distributions.Normal(mean, (variance + math.exp(-12)).sqrt()).log_prob(x).mean(dim=(1, 2, 3))
    torch.testing.assert_close(found.bits, (math.log(127.5) - density) / math.log(2), rtol=0, atol=1e-4)
    assert found.total.value == pytest.approx(found.bits.mean().item())
    assert found.total.standard_error == pytest.approx(found.bits.std().item() / 5**0.5)
    assert str(found) == f"{found.total} bits per dimension by the flow, 5 images, 80 steps"


def test_an_image_has_the_same_likelihood_in_any_batch():
    pixels = torch.randint(256, (5, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(-8, 8, 9)
    whole = flow_likelihood(coupled, pixels, grid, generators(0, 0, 5))
    by_two = flow_likelihood(coupled, pixels, grid, generators(0, 0, 5), batch=2)
    cuts = [slice(0, 1), slice(1, 5)]
    apart = joined([flow_likelihood(coupled, pixels[cut], grid, generators(0, 0, 5)[cut]) for cut in cuts])
    torch.testing.assert_close(by_two.bits, whole.bits)
    torch.testing.assert_close(apart.bits, whole.bits)
    assert whole.bits.unique().numel() == 5


def test_weights_get_no_gradient():
    weight = torch.tensor(0.5, requires_grad=True)
    found = flow_log_density(under_vp(lambda z, logsnr: weight * z), normal_images(1), GRID[::20], generators(0, 0, 1))
    assert not found.requires_grad
    assert weight.grad is None


def density(x=None, grid=GRID, denoise=coupled):
    x = torch.zeros(2, 1, 2, 2) if x is None else x
    return flow_log_density(denoise, x, grid, generators(0, 0, 2))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: density(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)), r"flow_log_density\.images: got 'torch\.uint8'"),
    (lambda: density(torch.zeros(1, 1, 2, 2)), r"flow_log_density\.generators: got '2 generators'"),
    (lambda: density(grid=torch.tensor([0.0, torch.inf])), r"flow_log_density\.logsnrs: got 'an infinite λ'"),
    (lambda: density(grid=GRID.flip(0)), r"flow_log_density\.logsnrs: got 'values that do not increase'"),
    (lambda: density(denoise=under_vp(torch.no_grad()(coupled.function))),
     r"flow_log_density\.denoise: got 'a denoiser without a gradient'; allowed: one that autograd can differentiate"),
    (lambda: flow_likelihood(coupled, torch.zeros(2, 1, 2, 2), GRID, generators(0, 0, 2)),
     r"flow_likelihood\.images: got 'torch\.float32'; allowed: uint8, levels 0…255"),
    (lambda: flow_likelihood(coupled, torch.zeros(2, 1, 2, 2).byte(), GRID, generators(0, 0, 1)),
     r"flow_likelihood\.generators: got '1 generators'"),
    (lambda: flow_likelihood(coupled, torch.zeros(2, 1, 2, 2).byte(), GRID, generators(0, 0, 2), batch=0),
     r"flow_likelihood\.batch: got 0"),
    (lambda: Rademacher(count=0), r"Rademacher\.count: got 0; allowed: a whole number above 0"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
