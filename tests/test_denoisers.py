import pytest
import torch

from examples import PROCESSES, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.denoisers import (
    Denoiser,
    Projected,
    clipped,
    dynamically_clipped,
    from_network,
    gaussian,
    guided,
    guided_within,
    ideal,
    rescaled,
    upsampled,
)
from snrise.pooling import pool
from snrise.process import VP, Prediction, Straight, Target, diffuse

LEVELS = torch.tensor([-6.0, -1.0, 2.0, 9.0], dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@under_vp
def strong(z, logsnr):
    return 0.5 * z


@under_vp
def weak(z, logsnr):
    return 0.2 * z + 0.1


def test_from_network_means_what_the_target_means():
    z, network = noise(4, 3, 8, 8), FakeNetwork()
    for prediction in Prediction:
        target = Target(prediction, Straight())
        wanted = target.to_x(network(z, LEVELS), z, LEVELS)
        torch.testing.assert_close(from_network(network, target)(z, LEVELS), wanted)
        torch.testing.assert_close(from_network(network, Target(prediction, Straight()))(z, LEVELS), wanted)


def test_from_network_passes_labels_and_returns_to_the_precision_of_z():
    seen = []

    def network(z, logsnr, labels=None):
        seen.append(labels)
        return z.bfloat16()

    labels = torch.arange(4)
    x = from_network(network, Prediction.V, labels)(noise(4, 3, 8, 8), LEVELS)
    assert x.dtype == torch.float64
    assert seen == [labels]


def test_clipped():
    z = noise(4, 3, 8, 8)
    torch.testing.assert_close(clipped(under_vp(lambda z, logsnr: 3 * z))(z, LEVELS), (3 * z).clamp(-1, 1))
    torch.testing.assert_close(clipped(under_vp(lambda z, logsnr: z), -0.1, 0.2)(z, LEVELS), z.clamp(-0.1, 0.2))


def test_guided():
    z = noise(4, 3, 8, 8)
    assert torch.equal(guided(strong, weak, 1.0)(z, LEVELS), strong(z, LEVELS))
    torch.testing.assert_close(guided(strong, weak, 0.0)(z, LEVELS), weak(z, LEVELS))
    steered = weak(z, LEVELS) + 2.5 * (strong(z, LEVELS) - weak(z, LEVELS))
    torch.testing.assert_close(guided(strong, weak, 2.5)(z, LEVELS), steered)


def test_guided_within_steers_only_inside_and_skips_the_reference_outside():
    z, calls = noise(4, 3, 8, 8), []

    @under_vp
    def counted(z, logsnr):
        calls.append(len(z))
        return weak(z, logsnr)

    guide = guided_within(strong, counted, 2.5, (-2.0, 5.0))
    both = guide(z, LEVELS)
    assert len(calls) == 1
    torch.testing.assert_close(both[[0, 3]], strong(z, LEVELS)[[0, 3]])
    torch.testing.assert_close(both[1:3], guided(strong, weak, 2.5)(z, LEVELS)[1:3])
    guide(z, torch.full((4,), 6.0))
    guide(z, torch.full((4,), -2.1))
    assert len(calls) == 1
    guide(z, torch.full((4,), 5.0))
    assert len(calls) == 2


def test_projected_guidance_without_limits_is_guidance():
    z = noise(4, 3, 8, 8)
    found = Projected(scale=2.5, parallel=1.0, interval=(-2.0, 5.0))(strong, weak)(z, LEVELS)
    torch.testing.assert_close(found, guided_within(strong, weak, 2.5, (-2.0, 5.0))(z, LEVELS))
    assert Projected(scale=2.5)(strong, None) is strong
    assert Projected(scale=1.0)(strong, weak) is strong


def test_projected_guidance_steers_across_the_image_and_no_further_than_its_limit():
    z = noise(4, 3, 8, 8).double()
    x = strong(z, LEVELS)
    change = Projected(scale=3.0)(strong, weak)(z, LEVELS) - x
    torch.testing.assert_close((change * x).sum(dim=(1, 2, 3)), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-9)
    gap = x - weak(z, LEVELS)
    torch.testing.assert_close((change * gap).sum(), change.square().sum() / 2)
    limited = Projected(scale=3.0, parallel=1.0, limit=2.0)(strong, weak)(z, LEVELS) - x
    torch.testing.assert_close(limited, 2 * gap * (2.0 / gap.flatten(1).norm(dim=1))[:, None, None, None])


def test_autoguidance_corrects_what_the_weaker_network_does_worse():
    """Both err in the same direction, the weaker one twice as much: at scale 2 the error is gone."""
    z, truth = noise(4, 3, 8, 8), noise(4, 3, 8, 8, seed=1)
    error = noise(4, 3, 8, 8, seed=2)
    guide = guided(under_vp(lambda z, logsnr: truth + error), under_vp(lambda z, logsnr: truth + 2 * error), 2.0)
    torch.testing.assert_close(guide(z, LEVELS), truth)


def test_dynamic_clipping_scales_images_that_leave_the_range_and_only_those():
    z = noise(4, 3, 16, 16)
    z[1] *= 0.1
    x = dynamically_clipped(under_vp(lambda z, logsnr: 3 * z), 0.9)(z, LEVELS)
    for i in (0, 2, 3):
        limit = (3 * z[i]).abs().flatten().sort().values[round(0.9 * (z[i].numel() - 1))]
        torch.testing.assert_close(x[i], (3 * z[i]).clamp(-limit, limit) / limit, rtol=1e-2, atol=1e-2)
        assert x[i].abs().max() == 1
    torch.testing.assert_close(x[1], 3 * z[1])
    assert dynamically_clipped(under_vp(lambda z, logsnr: z.bfloat16()))(z, LEVELS).abs().max() <= 1


def test_rescaled_has_the_contrast_of_the_unguided_image():
    x, steered = noise(4, 3, 8, 8), 3 * noise(4, 3, 8, 8, seed=1) + 0.5
    had, has = (images.std(dim=(1, 2, 3)) for images in (x, steered))
    torch.testing.assert_close(rescaled(steered, x, 0.0), steered)
    for phi in (0.7, 1.0):
        found = rescaled(steered, x, phi)
        torch.testing.assert_close(found.std(dim=(1, 2, 3)), phi * had + (1 - phi) * has, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found, steered * (found.std() / steered.std()), rtol=0.2, atol=0.2)
    plain = torch.full((1, 3, 8, 8), 0.4)
    torch.testing.assert_close(rescaled(2 * plain, plain, 1.0), 2 * plain)


def test_guidance_is_rescaled_inside_its_interval_alone():
    z = noise(4, 3, 8, 8)
    found = guided_within(strong, weak, 2.5, (-2.0, 5.0), rescale=0.7)(z, LEVELS)
    torch.testing.assert_close(found[[0, 3]], strong(z, LEVELS)[[0, 3]])
    torch.testing.assert_close(found[1:3], rescaled(guided(strong, weak, 2.5)(z, LEVELS), strong(z, LEVELS), 0.7)[1:3])
    torch.testing.assert_close(guided(strong, weak, 2.5, 0.7)(z, LEVELS)[1:3], found[1:3])


# Images larger than the network knows


SMALL = (2, 3)


def repeated(images, factor):
    return images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)


@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_upsampled_is_exact_for_images_without_fine_structure(process, factor):
    """Repeated pixels of mean m and variance v are each seen s² times, so E[x|z] = m + αvs²/(α²vs² + σ²)·(D z − αm).

    The network knows small images only; of large ones it says nothing.
    """
    mean, variance = torch.tensor([0.3, 0.6], dtype=torch.float64)
    small = gaussian(mean, variance, process)

    def network(z, logsnr):
        return small(z, logsnr) if z.shape[-2:] == SMALL else torch.zeros_like(z)

    x = repeated(mean + variance.sqrt() * noise(4, 3, *SMALL), factor)
    z = diffuse(x, noise(*x.shape, seed=1), LEVELS, process)
    alpha, sigma = (a[:, None, None, None] for a in process.alpha_sigma(LEVELS))
    seen = variance * factor**2
    wanted = mean + alpha * seen / (alpha**2 * seen + sigma**2) * (pool(z, factor) - alpha * mean)
    torch.testing.assert_close(upsampled(Denoiser(network, process), factor)(z, LEVELS), repeated(wanted, factor))


def test_upsampled_equals_the_formula_of_the_paper():
    """Under VP, in ε: ε̂ + U(ε̂_low/s − D ε̂), with ε̂_low at D z/√(α² + σ²/s²) and s² times the SNR."""
    network, factor = FakeNetwork(), 2
    denoise = from_network(network, Prediction.EPS)
    z, levels = noise(4, 3, 8, 8), torch.tensor([-6.0, -1.0, 2.0, 9.0], dtype=torch.float64)
    alpha, sigma = (a[:, None, None, None] for a in VP.alpha_sigma(levels))
    power = alpha**2 + sigma**2 / factor**2
    snr = factor**2 * (alpha / sigma).flatten() ** 2
    low = network(pool(z, factor) / power.sqrt(), snr.log())
    eps = network(z, levels)
    eps = eps + repeated(low / factor - pool(eps, factor), factor)
    x = upsampled(denoise, factor)(z, levels)
    torch.testing.assert_close((z - alpha * x) / sigma, eps)


def test_upsampling_takes_coarse_structure_from_one_and_fine_structure_from_the_other():
    denoise, z = from_network(FakeNetwork(), Prediction.X), noise(4, 3, 8, 12)
    plain, both = denoise(z, LEVELS), upsampled(denoise, 4)(z, LEVELS)
    torch.testing.assert_close(both - repeated(pool(both, 4), 4), plain - repeated(pool(plain, 4), 4))
    half = upsampled(denoise, 4, scale=0.5)(z, LEVELS)
    torch.testing.assert_close(half, (plain + both) / 2)


def test_upsampling_asks_for_the_small_image_within_the_interval_alone_and_costs_little():
    z, asked = noise(4, 3, 8, 12), []

    @under_vp
    def denoise(z, logsnr):
        asked.append(tuple(z.shape))
        return z

    within = upsampled(denoise, 2, interval=(-2.0, 5.0))
    torch.testing.assert_close(within(0 * z + 1, LEVELS)[[0, 3]], torch.ones_like(z)[[0, 3]])
    assert asked == [(4, 3, 8, 12), (4, 3, 4, 6)]
    within(z, torch.full((4,), 6.0))
    assert asked[2:] == [(4, 3, 8, 12)]


@pytest.mark.parametrize("process", [VP, Straight()])
def test_upsampling_at_infinite_levels(process):
    levels = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
    z, small = noise(2, 3, 8, 8), []

    def denoise(z, logsnr):
        small.append((z, logsnr))
        return torch.tanh(z)

    assert upsampled(Denoiser(denoise, process), 2)(z, levels).isfinite().all()
    # Pooled noise is made whole again; a clean image is left as it is.
    low, told = small[1]
    torch.testing.assert_close(low, pool(z, 2) * torch.tensor([2.0, 1.0], dtype=torch.float64)[:, None, None, None])
    assert torch.equal(told, levels)


@pytest.mark.parametrize("process", flat(PROCESSES))
def test_gaussian_is_the_posterior_mean(process):
    """The line of regression of x on z: E[x|z] = m + cov(x, z)/var(z)·(z − αm)."""
    mean, variance, count = 0.3, 0.6, 200_000
    x, eps = mean + variance**0.5 * noise(1, 1, 1, count), noise(1, 1, 1, count, seed=1)
    for logsnr in (torch.tensor([-1.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)):
        z = diffuse(x, eps, logsnr, process)
        fit = torch.cov(torch.cat([x.flatten(1), z.flatten(1)]))
        slope = fit[0, 1] / fit[1, 1]
        denoise = gaussian(torch.tensor(mean), torch.tensor(variance), process)
        wanted = x.mean() + slope * (z - z.mean())
        torch.testing.assert_close(denoise(z, logsnr), wanted, rtol=0, atol=0.03)


@pytest.mark.parametrize("process", flat(PROCESSES))
def test_ideal_is_a_softmax_by_brute_force(process):
    data, z = noise(5, 3, 4, 4), noise(4, 3, 4, 4, seed=1)
    levels = torch.tensor([-6.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    got = ideal(data, process)(z, levels)
    for i, logsnr in enumerate(levels):
        alpha, sigma = (a.item() for a in process.alpha_sigma(logsnr))
        chance = torch.stack([torch.exp(-(z[i] - alpha * x).square().sum() / (2 * sigma**2)) for x in data])
        mean = sum(c * x for c, x in zip(chance / chance.sum(), data, strict=True))
        torch.testing.assert_close(got[i], mean)


def test_ideal_of_one_image_is_that_image():
    data = noise(1, 3, 4, 4)
    levels = torch.tensor([torch.inf, -torch.inf, 0.0], dtype=torch.float64)
    torch.testing.assert_close(ideal(data)(noise(3, 3, 4, 4), levels), data.expand(3, 3, 4, 4))


def test_exact_denoisers_at_infinite_levels():
    data, levels = noise(2, 3, 4, 4), torch.tensor([torch.inf, -torch.inf], dtype=torch.float64)
    at_ends = ideal(data)(data, levels)
    torch.testing.assert_close(at_ends, torch.stack([data[0], data.mean(0)]))
    at_ends = gaussian(torch.tensor(0.3), torch.tensor(0.5))(data, levels)
    torch.testing.assert_close(at_ends, torch.stack([data[0], torch.full_like(data[0], 0.3)]))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: clipped(strong, 1.0, 1.0), r"clipped\.low: got 1\.0; allowed: a number below high=1\.0"),
    (lambda: guided_within(strong, weak, 2.0, (3.0, 1.0)), r"guided_within\.interval: got \(3\.0, 1\.0\)"),
    (lambda: guided(strong, weak, 2.0, 1.5), r"guided_within\.rescale: got 1\.5; allowed: a number in \[0, 1\]"),
    (lambda: dynamically_clipped(strong, 0.0), r"dynamically_clipped\.percentile: got 0\.0; allowed: a number above 0"),
    (lambda: Projected(scale=2.0, parallel=1.5), r"Projected\.parallel: got 1\.5; allowed: a share in \[0, 1\]"),
    (lambda: Projected(scale=2.0, limit=0.0), r"Projected\.limit: got 0\.0; allowed: a norm above 0, or None"),
    (lambda: upsampled(strong, 1), r"upsampled\.factor: got 1; allowed: a whole number, 2 or more"),
    (lambda: upsampled(strong, 2, interval=(1.0, 1.0)), r"upsampled\.interval: got \(1\.0, 1\.0\)"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()


@pytest.mark.parametrize("wrap", [
    clipped, dynamically_clipped, lambda d: guided(d, d, 2.0), lambda d: upsampled(d, 2),
], ids=["clipped", "dynamically clipped", "guided", "upsampled"])
def test_wrappers_keep_the_process(wrap):
    assert wrap(from_network(FakeNetwork(), Target(Prediction.V, Straight()))).process == Straight()


def test_guidance_between_processes_is_refused():
    told = r"guided_within\.reference: got 'a denoiser of Straight\(\)'; allowed: one of VariancePreserving\(\)"
    with pytest.raises(SnriseError, match=told):
        guided(strong, Denoiser(weak.function, Straight()), 2.0)
