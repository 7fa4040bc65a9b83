import math

import pytest
import torch

from examples import PROCESSES, WEIGHTINGS, flat
from snrise._errors import SnriseError
from snrise.losses import denoising_loss
from snrise.process import Prediction, Straight, Target, diffuse
from snrise.weightings import P2, Constant, Edm, MinSnr, Sigmoid, SoftMinSnr, TruncatedSnr, ULoss, VLoss, XLoss
from snrise.weightings import WEIGHTINGS as TABLE

every_weighting = pytest.mark.parametrize("name", list(TABLE))
LEVELS = torch.linspace(-15, 15, 61, dtype=torch.float64)


def batch(count=7):
    generator = torch.Generator().manual_seed(0)
    x, eps, error = torch.randn(3, count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return x, eps, error, torch.linspace(-5, 5, count, dtype=torch.float64)


@every_weighting
def test_formula_in_snr(name):
    weighting, formula = WEIGHTINGS[name]
    torch.testing.assert_close(weighting(LEVELS), formula(LEVELS.exp()), rtol=1e-8, atol=0)
    torch.testing.assert_close(weighting(LEVELS.float()), formula(LEVELS.exp()).float(), rtol=1e-5, atol=1e-7)


@every_weighting
def test_finite_at_infinite_levels(name):
    weighting, _ = WEIGHTINGS[name]
    levels = torch.tensor([torch.inf, -torch.inf], requires_grad=True)
    weight = weighting(levels)
    assert weight.isfinite().all()
    if weight.requires_grad:
        assert torch.autograd.grad(weight.sum(), levels)[0].isfinite().all()


@every_weighting
@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("prediction", list(Prediction))
def test_the_loss_does_not_depend_on_the_prediction(name, process, prediction):
    """A network that knows ε̂ says it in each prediction; the loss is w·‖ε̂ − ε‖² at every scale."""
    weighting, formula = WEIGHTINGS[name]
    x, eps, error, logsnr = batch()
    target = Target(prediction, process)

    def network(z, logsnr, labels=None):
        x_hat = Target(Prediction.EPS, process).to_x(eps + error, z, logsnr)
        return target(x_hat, eps + error, logsnr)

    loss, plain = denoising_loss(network, target, x, eps, logsnr, weighting=weighting, factors=(1, 2))
    fine = error.square().mean((1, 2, 3))
    coarse = error.reshape(7, 3, 4, 2, 4, 2).mean((3, 5)).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, formula(logsnr.exp()) * (fine + 2 * coarse), rtol=2e-4, atol=0)
    torch.testing.assert_close(plain, fine, rtol=2e-4, atol=0)


@pytest.mark.parametrize(("weighting", "target"), [
    (Constant(), Target(Prediction.EPS)), (VLoss(), Target(Prediction.V)), (XLoss(), Target(Prediction.X)),
    (ULoss(), Target(Prediction.U, Straight())),
])
def test_plain_losses(weighting, target):
    """Each plain mean square error, of ε, v, x and u, is one weight on the ε-error."""
    x, eps, error, logsnr = batch()

    def network(z, logsnr, labels=None):
        return target(x, eps, logsnr) + error

    loss, _ = denoising_loss(network, target, x, eps, logsnr, weighting=weighting)
    torch.testing.assert_close(loss, error.square().mean((1, 2, 3)), rtol=2e-5, atol=0)


def test_soft_min_snr_is_a_sigmoid():
    for gamma in (0.5, 1.0, 5.0):
        torch.testing.assert_close(SoftMinSnr(gamma=gamma)(LEVELS), Sigmoid(bias=math.log(gamma))(LEVELS))


def test_edm_in_its_own_words():
    """λ(σ)‖D − y‖² with λ(σ) = (σ² + σ_d²)/(σσ_d)²; Karras et al. 2022, table 1."""
    sigma = torch.exp(-0.5 * LEVELS)
    on_x = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    torch.testing.assert_close(Edm(sigma_data=0.5)(LEVELS) * LEVELS.exp(), on_x)


def test_loss_is_finite_at_infinite_levels():
    logsnr = torch.tensor([torch.inf, -torch.inf])
    x, eps = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    for prediction in Prediction:
        target = Target(prediction)
        scale = torch.ones((), requires_grad=True)
        loss, plain = denoising_loss(lambda z, *_, s=scale: s * z, target, x, eps, logsnr)
        assert loss.isfinite().all()
        assert plain.isfinite().all()
        loss.sum().backward()
        assert scale.grad is not None
        assert scale.grad.isfinite()


def test_network_sees_the_noisy_image_and_the_labels():
    x, eps, _, logsnr = batch()
    seen = []

    def network(z, logsnr, labels=None):
        seen.append((z, logsnr, labels))
        return torch.zeros_like(z)

    labels = torch.arange(7)
    denoising_loss(network, Target(Prediction.V), x, eps, logsnr, labels)
    torch.testing.assert_close(seen[0], (diffuse(x, eps, logsnr), logsnr, labels))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: TruncatedSnr(limit=0.0), r"TruncatedSnr\.limit: got 0\.0; allowed: a number above 0"),
    (lambda: MinSnr(gamma=-1.0), r"MinSnr\.gamma: got -1\.0"),
    (lambda: SoftMinSnr(gamma=0.0), r"SoftMinSnr\.gamma: got 0\.0"),
    (lambda: P2(k=0.0), r"P2\.k: got 0\.0"),
    (lambda: Edm(sigma_data=0.0), r"Edm\.sigma_data: got 0\.0"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
