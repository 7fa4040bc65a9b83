"""What a network says of a pooled image is, exactly, the pooled half of what one twice as large would say."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from examples import PROCESSES, flat
from snrise.nest import Link
from snrise.pooling import pool
from snrise.process import VP, Prediction, Target, diffuse, per_image

LOGSNRS = torch.tensor([-30.0, -7.0, -1.0, 0.0, 2.0, 9.0, 30.0], dtype=torch.float64)

every_target = pytest.mark.parametrize("target", [
    pytest.param(Target(prediction, case.values[0]), id=f"{prediction}, {case.id}")
    for prediction in Prediction for case in flat(PROCESSES)
])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_target
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_prediction_of_the_pooled_image_is_the_pooled_prediction(target, factor):
    """Of the exact predictions: of x and ε at λ, and of Dx and s·Dε, which is white, at λ + 2 log s."""
    x, eps = noise(7, 3, 16, 16), noise(7, 3, 16, 16, seed=1)
    z = diffuse(x, eps, LOGSNRS, target.process)
    found = Link(target).coarse(LOGSNRS, factor)
    low_x, low_eps = pool(x, factor), factor * pool(eps, factor)
    seen = per_image(found.gain, z) * pool(z, factor)
    assert_close(seen, diffuse(low_x, low_eps, found.logsnr, target.process), rtol=1e-9, atol=1e-9)
    said = target(low_x, low_eps, found.logsnr)
    whole = per_image(found.of_inner, z) * said + per_image(found.of_pooled, z) * pool(z, factor)
    assert_close(whole, pool(target(x, eps, LOGSNRS), factor), rtol=1e-9, atol=1e-9)


@every_target
def test_the_signal_in_the_pooled_image_is_what_the_inner_network_means(target):
    """α′Dx, of the exact prediction."""
    x, eps = noise(7, 3, 8, 8), noise(7, 3, 8, 8, seed=1)
    found = Link(target).coarse(LOGSNRS)
    low_x, low_eps = pool(x, 2), 2 * pool(eps, 2)
    seen, said = (f(low_x, low_eps, found.logsnr) for f in (partial(diffuse, process=target.process), target))
    signal = per_image(found.signal_of_inner, x) * said + per_image(found.signal_of_seen, x) * seen
    alpha, _ = target.process.alpha_sigma(found.logsnr)
    assert_close(signal, per_image(alpha, x) * low_x, rtol=1e-9, atol=1e-9)


@given(logsnr=st.floats(-40, 40), factor=st.sampled_from([2, 4, 8]))
def test_of_v_it_is_a_closed_form(logsnr, factor):
    """Dv = (g/s)·v′ − (1 − 1/s²)·α·σ·g²·Dz with g = (α² + σ²/s²)^(−½)."""
    at = torch.tensor([logsnr], dtype=torch.float64)
    alpha, sigma = VP.alpha_sigma(at)
    gain = (alpha**2 + sigma**2 / factor**2).rsqrt()
    found = Link(Target(Prediction.V)).coarse(at, factor)
    assert_close(found.gain, gain)
    assert_close(found.of_inner, gain / factor)
    assert_close(found.of_pooled, -(1 - 1 / factor**2) * alpha * sigma * gain**2, rtol=1e-9, atol=1e-15)


@every_target
def test_a_band_begins_as_its_best_linear_estimate(target):
    """F = 0 is αs²/(α²s² + σ²)·z, and F adds to x̂ at unit scale: the error of the estimate has variance s²σ²/Δ."""
    variances, z, said = torch.tensor([0.03, 1.0], dtype=torch.float64), noise(7, 2), noise(7, 2, seed=1)
    found = Link(target).detail(LOGSNRS, variances)
    alpha, sigma = (a[:, None] for a in target.process.alpha_sigma(LOGSNRS))
    delta = alpha**2 * variances + sigma**2
    assert_close(found.scale, delta.rsqrt())
    assert_close(found.whiten * sigma, torch.ones_like(found.scale))
    wanted_x = alpha * variances / delta * z + variances.sqrt() * sigma * delta.rsqrt() * said
    prediction = found.of_z * z + found.of_said * said
    within = LOGSNRS.abs() < 20  # where x̂ can be had back from any prediction
    x = target.to_x(prediction[..., None, None], z[..., None, None], LOGSNRS)[..., 0, 0]
    assert_close(x[within], wanted_x[within], rtol=1e-6, atol=1e-6)


@every_target
def test_coefficients_may_have_variances_of_their_own(target):
    own = noise(7, 3, 2, 4, 4).square()
    found = Link(target).detail(LOGSNRS, own)
    for i in range(7):
        one = Link(target).detail(LOGSNRS[i : i + 1], own[i].flatten())
        for mine, alone in zip(found, one, strict=True):
            assert_close(mine[i].flatten(), alone[0])


def test_a_band_as_strong_as_noise_is_an_image():
    """Of v, the network says −v."""
    found = Link(Target(Prediction.V)).detail(LOGSNRS, torch.ones(1, dtype=torch.float64))
    assert_close(found.of_said, -torch.ones(7, 1, dtype=torch.float64))
    assert_close(found.of_z, torch.zeros(7, 1, dtype=torch.float64))


@every_target
def test_it_is_finite_everywhere(target):
    at = torch.tensor([-torch.inf, torch.inf])
    link = Link(target)
    for value in (*link.coarse(at), *link.detail(at, torch.tensor([0.004, 0.03]))):
        assert value.isfinite().all()
