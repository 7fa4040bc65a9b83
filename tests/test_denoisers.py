import pytest
import torch

from examples import PROCESSES, FakeNetwork, flat
from snrise._errors import SnriseError
from snrise.denoisers import clipped, from_network, gaussian, guided, guided_within, ideal
from snrise.process import Prediction, Straight, Target, diffuse

LEVELS = torch.tensor([-6.0, -1.0, 2.0, 9.0], dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def strong(z, logsnr):
    return 0.5 * z


def weak(z, logsnr):
    return 0.2 * z + 0.1


def test_from_network_means_what_the_target_means():
    z, network = noise(4, 3, 8, 8), FakeNetwork()
    for prediction in Prediction:
        target = Target(prediction, Straight())
        wanted = target.to_x(network(z, LEVELS), z, LEVELS)
        torch.testing.assert_close(from_network(network, target)(z, LEVELS), wanted)
        torch.testing.assert_close(from_network(network, prediction, process=Straight())(z, LEVELS), wanted)


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
    torch.testing.assert_close(clipped(lambda z, logsnr: 3 * z)(z, LEVELS), (3 * z).clamp(-1, 1))
    torch.testing.assert_close(clipped(lambda z, logsnr: z, -0.1, 0.2)(z, LEVELS), z.clamp(-0.1, 0.2))


def test_guided():
    z = noise(4, 3, 8, 8)
    assert torch.equal(guided(strong, weak, 1.0)(z, LEVELS), strong(z, LEVELS))
    torch.testing.assert_close(guided(strong, weak, 0.0)(z, LEVELS), weak(z, LEVELS))
    steered = weak(z, LEVELS) + 2.5 * (strong(z, LEVELS) - weak(z, LEVELS))
    torch.testing.assert_close(guided(strong, weak, 2.5)(z, LEVELS), steered)


def test_guided_within_steers_only_inside_and_skips_the_reference_outside():
    z, calls = noise(4, 3, 8, 8), []

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
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
