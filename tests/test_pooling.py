import math

import pytest
import torch

from snrise._errors import SnriseError
from snrise.losses import multiscale
from snrise.pooling import factors_for, pool, pooled_logsnr, signal_power
from snrise.process import VP, diffuse


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [1, 2, 3, 6])
def test_pool_is_the_mean_of_squares(factor):
    """D[x](i,j) = 1/s² ΣΣ x(si+p, sj+q); Su 2024, §4.1."""
    images = noise(2, 3, 6, 12)
    wanted = torch.stack([
        torch.stack([images[..., i:i + factor, j:j + factor].mean((-2, -1)) for j in range(0, 12, factor)], -1)
        for i in range(0, 6, factor)
    ], -2)
    torch.testing.assert_close(pool(images, factor), wanted)


def test_pooling_is_linear():
    """D[αx + σε] = αD[x] + σD[ε]; Su 2024, §4.2."""
    x, eps, logsnr = noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=1), torch.tensor([-1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(pool(diffuse(x, eps, logsnr), 4), diffuse(pool(x, 4), pool(eps, 4), logsnr))


@pytest.mark.parametrize("factor", [2, 4])
def test_covariance_of_pooled_noise(factor):
    """cov(D_s ε) = I/s²: the pooling matrix times its transpose, without statistics; Su 2024, §4.3."""
    size = 8
    matrix = pool(torch.eye(size * size, dtype=torch.float64).reshape(-1, 1, size, size), factor).flatten(1).T
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix), dtype=torch.float64) / factor**2)


def test_variance_of_pooled_noise():
    for factor in (2, 4, 8):
        pooled = pool(noise(64, 3, 64, 64), factor)
        assert pooled.var().item() * factor**2 == pytest.approx(1, abs=5 * math.sqrt(2 / pooled.numel()))


def test_snr_of_pooled_images_as_measured():
    """s²·SNR·(power of D_s x / power of x), measured on smooth images and their noise; Su 2024, §4.4."""
    factor, logsnr = 4, torch.full((64,), 0.7, dtype=torch.float64)
    x = pool(noise(64, 3, 128, 128, seed=3), 2) + 0.3 * noise(64, 3, 64, 64, seed=4)
    eps = noise(64, 3, 64, 64, seed=5)
    alpha, sigma = VP.alpha_sigma(logsnr[:1])

    def measured(s):
        return torch.log((alpha * pool(x, s)).square().mean() / (sigma * pool(eps, s)).square().mean())

    ratio = signal_power([x], (1, factor)).power_ratio[1]
    assert ratio < 0.5
    wanted = pooled_logsnr(measured(1), factor, ratio)
    count = pool(eps, factor).numel()
    torch.testing.assert_close(measured(factor), wanted, rtol=0, atol=5 * math.sqrt(2 / count))
    # Without signal strength, the factor s² alone.
    assert pooled_logsnr(torch.tensor(0.0), 4).item() == pytest.approx(math.log(16))


def test_power_of_images_whose_power_is_known():
    constant = torch.full((2, 3, 8, 8), 0.5)
    assert signal_power([constant], (1, 2, 8)).power == (0.25, 0.25, 0.25)
    rows = torch.arange(8)
    checkerboard = ((-1.0) ** (rows[:, None] + rows)).expand(2, 3, 8, 8)
    assert signal_power([checkerboard], (2, 4)).power == (1.0, 0.0, 0.0)
    # About the mean colour: grey images of −½ and ½ keep all of their variation.
    grey = signal_power([torch.cat([constant, -constant])], (2,))
    assert grey.variance == (0.25, 0.25)
    both = signal_power([constant + 0.25 * checkerboard], (2,))
    assert both.variance_ratio == (1.0, 0.0)
    assert both.power_ratio == pytest.approx((1.0, 0.25 / 0.3125))
    assert all(math.isnan(ratio) for ratio in signal_power([constant], (2,)).variance_ratio)


def test_power_in_batches_is_power_at_once():
    images = noise(7, 3, 8, 8)
    once, streamed = signal_power([images], (1, 2, 4)), signal_power(images.split([3, 1, 3]), (1, 2, 4))
    assert streamed.images == once.images == 7
    assert streamed.power == pytest.approx(once.power)
    assert streamed.variance == pytest.approx(once.variance)
    assert "signal power of 7 images" in str(once)
    assert str(once).count("\n") == 4


@pytest.mark.parametrize(("image", "factors"), [
    ((512, 512), (1, 2, 4, 8, 16)), ((64, 64), (1, 2)), ((32, 32), (1,)), ((48, 48), (1,)), ((16, 16), (1,)),
    ((256, 512), (1, 2, 4, 8)), ((192, 130), (1, 2)),
])
def test_factors(image, factors):
    assert factors_for(image) == factors


# The multi-scale loss


def test_multiscale_is_a_sum_of_pooled_losses():
    """Σ_s w_s L_s; Su 2024, §6.3, §6.4."""
    error = noise(3, 3, 12, 24)
    parts = {s: pool(error, s).square().mean((1, 2, 3)) for s in (1, 2, 3, 4, 12)}
    torch.testing.assert_close(multiscale(error), parts[1])
    torch.testing.assert_close(multiscale(error, (1, 2, 4)), parts[1] + 2 * parts[2] + 4 * parts[4])
    torch.testing.assert_close(multiscale(error, (12, 2, 3), (0.5, 0.1, 0.7)),
                               0.5 * parts[12] + 0.1 * parts[2] + 0.7 * parts[3])


def test_multiscale_of_white_noise_does_not_alias():
    """White noise has the loss 1/s² at factor s; bilinear resizing would leave 0.25 at every s."""
    error = noise(16, 3, 64, 64)
    for factor in (2, 4, 8):
        loss = multiscale(error, (factor,), (1.0,)).mean().item()
        assert loss * factor**2 == pytest.approx(1, abs=5 * math.sqrt(2 * factor**2 / error.numel()))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: pool(torch.zeros(1, 1, 8, 12), 3), r"pool\.factor: got 3; allowed: a common divisor of 8 and 12.*fits: 4"),
    (lambda: pool(torch.zeros(1, 1, 8, 12), 0), r"pool\.factor: got 0; allowed: a whole number above 0"),
    (lambda: pooled_logsnr(torch.zeros(1), 0.0), r"pooled_logsnr\.factor: got 0\.0"),
    (lambda: pooled_logsnr(torch.zeros(1), 2.0, 0.0), r"pooled_logsnr\.power_ratio: got 0\.0"),
    (lambda: signal_power([], (1, 2)), r"signal_power\.batches: got 'no images'; allowed: one batch or more"),
    (lambda: multiscale(torch.zeros(1, 1, 4, 4), ()), r"multiscale\.factors: got \(\); allowed: one factor or more"),
    (lambda: multiscale(torch.zeros(1, 1, 4, 4), (1, 2), (1.0,)),
     r"multiscale\.weights: got '1 weights'; allowed: one for each of the 2 factors"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
