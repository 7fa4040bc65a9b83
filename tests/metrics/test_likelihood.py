import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from examples import PROCESSES, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.data import to_float
from snrise.denoisers import from_network, gaussian
from snrise.metrics import ContinuousTime, DiscreteTime, diffusion_loss, joined, variational_bound
from snrise.metrics.likelihood import prior_loss, reconstruction_loss
from snrise.metrics.validation import eps_loss
from snrise.process import Prediction, diffuse, posterior_mean, posterior_variance
from snrise.samplers import generators, normal_like
from snrise.schedules import Cosine

every_process = pytest.mark.parametrize("process", flat(PROCESSES))
MEAN, VARIANCE = 0.1, 0.02
EDGES = torch.tensor([-10.0, -3.0, 0.0, 1.0, 3.0, 5.0, 8.0, 14.0], dtype=torch.float64)


def wide(value):
    return torch.tensor(value, dtype=torch.float64)


def normal_images(count, side=16):
    x = torch.empty(count, 1, side, side, dtype=torch.float64)
    return MEAN + VARIANCE**0.5 * normal_like(x, generators(9, 0, count))


def information(logsnr):
    """½ log(1 + SNR·s): what z tells of a Gaussian x, in nats. Its slope in λ is half the ε-loss."""
    return 0.5 * torch.nn.functional.softplus(logsnr + math.log(VARIANCE))


# The diffusion loss of Gaussian data


@every_process
def test_diffusion_loss_is_information(process):
    """Guo et al. 2005: the loss of the exact denoiser between two λ is the growth of the mutual information."""
    found = diffusion_loss(gaussian(wide(MEAN), wide(VARIANCE), process), normal_images(80), EDGES,
                           generators(0, 0, 80), time=ContinuousTime(draws=12))
    wanted, error = information(EDGES).diff(), found.std(dim=0) / 80**0.5
    assert ((found.mean(dim=0) - wanted).abs() < 4 * error).all()
    assert (error < 0.02 * wanted).all()
    assert found.sum(dim=1).mean().item() == pytest.approx(wanted.sum().item(), rel=0.005)


def test_continuous_bound_of_gaussian_data_is_their_entropy():
    """½ log 2πe(s + e^−λ): prior, diffusion, and the entropy of the noise at the clean end."""
    x, edges = normal_images(150), torch.linspace(-14, 12, 14, dtype=torch.float64)
    losses = diffusion_loss(gaussian(wide(MEAN), wide(VARIANCE)), x, edges, generators(0, 0, 150),
                            time=ContinuousTime(draws=6))
    noise = 0.5 * (math.log(2 * math.pi * math.e) - edges[-1])
    bound = prior_loss(x, edges[0]) + losses.sum(dim=1) + noise
    entropy = 0.5 * math.log(2 * math.pi * math.e * (VARIANCE + math.exp(-12)))
    error = bound.std() / 150**0.5
    assert error < 0.01
    assert (bound.mean() - entropy).abs() < 4 * error


@pytest.mark.parametrize("steps", [4, 32])
def test_discrete_loss_has_its_closed_form(steps):
    grid = torch.linspace(-8, 8, steps + 1, dtype=torch.float64)
    found = diffusion_loss(gaussian(wide(MEAN), wide(VARIANCE)), normal_images(60), grid, generators(0, 0, 60),
                           time=DiscreteTime())
    wanted = 0.5 * torch.expm1(grid.diff()) * torch.sigmoid(grid[:-1] + math.log(VARIANCE))
    assert ((found.mean(dim=0) - wanted).abs() < 4 * found.std(dim=0) / 60**0.5).all()
    # Fewer steps lose more: continuous time is the limit.
    excess = wanted.sum() - information(grid).diff().sum()
    assert excess > {4: 5.0, 32: 0.3}[steps]


@every_process
def test_discrete_loss_is_the_divergence_of_ancestral_steps(process):
    """KL between q(z_s|z_t, x) and p(z_s|z_t), Gaussians of one variance: ‖difference of means‖²/2 variance."""
    x, denoise = normal_images(3), gaussian(wide(-0.2), wide(0.3), process)
    eps = normal_like(x, generators(0, 0, 3))
    grid = torch.tensor([-6.0, -1.0, 0.5, 7.0], dtype=torch.float64)
    levels, weights = DiscreteTime()(grid, generators(0, 0, 3))
    for n, (t, s) in enumerate(pairwise(grid)):
        t, s = t.expand(3), s.expand(3)
        z = diffuse(x, eps, t, process)
        gap = posterior_mean(z, x, t, s, process=process) - posterior_mean(z, denoise(z, t), t, s, process=process)
        wanted = gap.square().mean(dim=(1, 2, 3)) / (2 * posterior_variance(t, s, process=process))
        found = 0.5 * weights[n] * eps_loss(denoise, x, eps, levels[:, n, 0])
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_continuous_time_draws_from_every_stratum():
    levels, weights = ContinuousTime(draws=5)(EDGES, generators(0, 0, 400))
    assert levels.shape == (400, 7, 5)
    torch.testing.assert_close(weights, EDGES.diff())
    part = (levels - EDGES[:-1, None]) / EDGES.diff()[:, None] * 5
    assert (part.floor() == torch.arange(5)).all()
    torch.testing.assert_close((part - part.floor()).mean(dim=0), torch.full((7, 5), 0.5).double(), rtol=0, atol=0.06)


# Prior and reconstruction


@every_process
@pytest.mark.parametrize("logsnr", [-12.0, -3.0, 2.0])
def test_prior_is_a_divergence_of_gaussians(process, logsnr):
    x, logsnr = normal_images(2), wide(logsnr)
    alpha, sigma = process.alpha_sigma(logsnr)
    prior = torch.distributions.Normal(wide(0.0), (alpha**2 + sigma**2).sqrt())
    wanted = torch.distributions.kl_divergence(torch.distributions.Normal(alpha * x, sigma), prior)
    torch.testing.assert_close(prior_loss(x, logsnr), wanted.mean(dim=(1, 2, 3)), rtol=1e-6, atol=1e-15)


@every_process
@pytest.mark.parametrize("logsnr", [-4.0, 6.0, 10.0, 13.0])
def test_reconstruction_is_a_softmax_over_the_levels(process, logsnr):
    pixels = torch.tensor([0, 1, 3, 77, 128, 200, 254, 255], dtype=torch.uint8).reshape(1, 1, 2, 4)
    x, levels = pixels.double() / 127.5 - 1, torch.arange(256, dtype=torch.float64) / 127.5 - 1
    torch.testing.assert_close(levels.float(), to_float(torch.arange(256, dtype=torch.uint8)))
    eps = 2.5 * normal_like(x, generators(0, 0, 1))
    alpha, sigma = process.alpha_sigma(wide(logsnr))
    z = alpha * x + sigma * eps
    logits = -0.5 * ((z[..., None] - alpha * levels) / sigma).square()
    wanted = torch.logsumexp(logits, dim=-1) - logits.gather(-1, pixels[..., None].long())[..., 0]
    torch.testing.assert_close(reconstruction_loss(pixels, eps, wide(logsnr)), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("logsnr", [-4.0, 5.0, 9.0, 14.0])
@pytest.mark.parametrize("at", [-3.0, 0.0, 100.4, 254.5, 260.0])
def test_chances_of_the_levels_sum_to_one(logsnr, at):
    """From one z, anywhere, each of the 256 levels in turn as the true one."""
    pixels = torch.arange(256, dtype=torch.uint8)
    eps = (at - pixels.double()) * (2 / 255) * math.exp(logsnr / 2)
    chances = torch.exp(-reconstruction_loss(pixels, eps, wide(logsnr)))
    assert chances.sum().item() == pytest.approx(1, abs=1e-12)
    assert chances.argmax().item() == min(max(math.floor(at + 0.5), 0), 255) or at == 254.5


@pytest.mark.parametrize(("pixel", "logsnr"), [(0, 8.0), (100, 8.0), (100, 11.0), (255, 12.0)])
def test_mean_reconstruction_equals_a_numeric_integral(pixel, logsnr):
    sigma, levels = math.exp(-logsnr / 2), np.arange(256) / 127.5 - 1

    def integrand(eps):
        logits = -0.5 * ((levels[pixel] + sigma * eps - levels) / sigma) ** 2
        return stats.norm.pdf(eps) * (special.logsumexp(logits) - logits[pixel])

    wanted = integrate.quad(integrand, -8, 8, limit=200)[0]
    pixels = torch.full((100, 1, 20, 20), pixel, dtype=torch.uint8)
    losses = reconstruction_loss(pixels, normal_like(torch.empty(pixels.shape), generators(0, 0, 100)), wide(logsnr))
    assert losses.mean().item() == pytest.approx(wanted, abs=4 * losses.std().item() / 200)


# The whole bound


def chances(spread):
    """A pmf of the 256 levels: a Gaussian with every third level left out, so that it is no density in disguise."""
    n = torch.arange(256, dtype=torch.float64)
    weights = torch.exp(-0.5 * ((n - 120) / spread) ** 2) * (n % 3 != 0)
    return weights / weights.sum()


def exact_denoiser(pmf):
    """E[x|z] of independent pixels of that pmf, VP."""
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1

    @under_vp
    def denoise(z, logsnr):
        y = z.double() / torch.sigmoid(logsnr.double()).sqrt().reshape(-1, 1, 1, 1)
        precision = logsnr.double().exp().reshape(-1, 1, 1, 1, 1)
        log_chance = pmf.log() - 0.5 * precision * (y[..., None] - levels).square()
        return (torch.softmax(log_chance, dim=-1) @ levels).to(z.dtype)

    return denoise


def pixels_of(pmf, count, side=6):
    drawn = torch.multinomial(pmf, count * side**2, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.reshape(count, 1, side, side).to(torch.uint8)


def test_exact_denoiser_reaches_the_log_chance_of_discrete_data():
    """In continuous time the bound is tight, image by image, and its mean is the entropy."""
    pmf = chances(spread=12.0)
    pixels = pixels_of(pmf, 60)
    bound = variational_bound(exact_denoiser(pmf), pixels, torch.linspace(-12, 14, 14), generators(0, 0, 60),
                              time=ContinuousTime(draws=16))
    log_chance = -pmf.log2()[pixels.long()].mean(dim=(1, 2, 3))
    gap = bound.per_image - log_chance
    error = gap.std() / 60**0.5
    assert error < 0.03
    assert gap.mean().abs() < 4 * error
    assert bound.reconstruction.value < 0.01


@pytest.mark.parametrize("time", [ContinuousTime(draws=4), DiscreteTime()])
@pytest.mark.parametrize("clean_end", [6.0, 10.0, 14.0])
def test_any_denoiser_stays_above_the_entropy(time, clean_end):
    pmf = chances(spread=12.0)
    pixels = pixels_of(pmf, 60)
    entropy = -(pmf * torch.where(pmf > 0, pmf, 1).log2()).sum()
    wrong = {
        "another mean": gaussian(torch.tensor(0.2), torch.tensor(0.01)),
        "a Gaussian": gaussian(torch.tensor(-0.06), torch.tensor((12 / 127.5) ** 2)),
        "noise is signal": under_vp(lambda z, logsnr: 0.9 * z),
        "network": from_network(FakeNetwork(), Prediction.V),
    }
    edges = torch.linspace(-10, clean_end, 21)
    for name, denoise in wrong.items():
        bound = variational_bound(denoise, pixels, edges, generators(0, 0, 60), time=time)
        assert bound.total.value > entropy + 4 * bound.total.standard_error, name


def test_every_process_has_the_same_bound():
    pixels, edges = pixels_of(chances(30.0), 3), torch.linspace(-8, 12, 6)
    first, *others = [
        variational_bound(
            gaussian(torch.tensor(0.1), torch.tensor(0.2), process), pixels, edges, generators(0, 0, 3)
        ).per_image
        for process in (p.values[0] for p in flat(PROCESSES))
    ]
    assert first.min() > 3
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=0)


def test_parts_of_the_bound():
    schedule = Cosine(logsnr_min=-2.0, logsnr_max=6.0)
    pixels, edges = pixels_of(chances(30.0), 5), schedule(torch.linspace(1, 0, 41, dtype=torch.float64))
    denoise = gaussian(torch.tensor(0.1), torch.tensor(0.2))
    bound = variational_bound(denoise, pixels, edges, generators(0, 0, 5))
    parts = (bound.prior, bound.diffusion, bound.reconstruction)
    assert all(part.value > 0.01 for part in parts)
    assert bound.total.value == pytest.approx(sum(part.value for part in parts))
    assert bound.diffusion.value == pytest.approx(bound.by_logsnr.sum().item())
    assert bound.total.standard_error == pytest.approx(bound.per_image.std().item() / 5**0.5)
    # Nats of float images, in bits.
    losses = diffusion_loss(denoise, to_float(pixels), edges, generators(0, 0, 5), time=ContinuousTime(draws=4))
    torch.testing.assert_close(bound.diffusions, losses / math.log(2))
    torch.testing.assert_close(bound.priors, prior_loss(to_float(pixels), edges[0]) / math.log(2))
    lines = str(bound).splitlines()
    assert lines[0] == f"{bound.total} bits per dimension or fewer, 5 images"
    rows = [line.split() for line in lines[5:]]
    assert len(rows) == 16
    assert (rows[0][0], rows[-1][1]) == ("-2.00", "6.00")
    assert sum(float(row[2]) for row in rows) == pytest.approx(bound.diffusion.value, abs=0.001)


def test_an_image_has_the_same_bound_in_any_batch():
    pixels, edges = pixels_of(chances(30.0), 5), torch.linspace(-8, 12, 6)
    denoise = from_network(FakeNetwork(), Prediction.V)
    whole = variational_bound(denoise, pixels, edges, generators(0, 0, 5))
    by_two = variational_bound(denoise, pixels, edges, generators(0, 0, 5), batch=2)
    cuts = [slice(0, 1), slice(1, 5)]
    apart = joined([variational_bound(denoise, pixels[cut], edges, generators(0, 0, 5)[cut]) for cut in cuts])
    for other in (by_two, apart):
        torch.testing.assert_close(other.per_image, whole.per_image)
        torch.testing.assert_close(other.diffusions, whole.diffusions)


def bound(images=None, logsnrs=EDGES, **settings):
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8) if images is None else images
    return variational_bound(under_vp(lambda z, logsnr: z), images, logsnrs, generators(0, 0, 2), **settings)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: bound(torch.zeros(2, 1, 2, 2)),
     r"variational_bound\.images: got 'torch\.float32'; allowed: uint8, levels 0…255; use data\.to_uint8"),
    (lambda: bound(torch.zeros(2, 2, 2, dtype=torch.uint8)), r"variational_bound\.images: got \(2, 2, 2\)"),
    (lambda: bound(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)), r"variational_bound\.generators: got '2 generators'"),
    (lambda: bound(logsnrs=torch.tensor([-torch.inf, 0.0])),
     r"variational_bound\.logsnrs: got 'an infinite λ'; allowed: finite λ; limit the schedule with schedules\.Clipped"),
    (lambda: bound(logsnrs=torch.zeros(1)), r"variational_bound\.logsnrs: got \(1,\); allowed: one dimension, 2"),
    (lambda: bound(batch=0), r"variational_bound\.batch: got 0"),
    (lambda: ContinuousTime(draws=0), r"ContinuousTime\.draws: got 0; allowed: a whole number above 0"),
    (lambda: diffusion_loss(under_vp(lambda z, logsnr: z), torch.full((1, 1, 2, 2), 3.0), EDGES, generators(0, 0, 1)),
     r"diffusion_loss\.images: got 'values 3…3'"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
