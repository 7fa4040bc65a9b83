import math

import pytest
import torch

from examples import PROCESSES, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.denoisers import from_network, gaussian
from snrise.losses import denoising_loss
from snrise.metrics import joined, loss_by_logsnr
from snrise.metrics.validation import eps_loss
from snrise.process import Prediction, Target
from snrise.samplers import generators, normal_like

MEAN, VARIANCE = torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.02, dtype=torch.float64)
LOGSNRS = torch.tensor([-8.0, -1.0, 2.0, 4.0, 6.0, 12.0])


def normal_images(count, seed=0):
    """Within [−1, 1] by six standard deviations."""
    shape = torch.empty(count, 1, 16, 16, dtype=torch.float64)
    return MEAN + VARIANCE.sqrt() * normal_like(shape, generators(seed, 0, count))


@pytest.mark.parametrize("process", flat(PROCESSES))
def test_gaussian_data_have_a_closed_form(process):
    """SNR·mmse = SNR·s/(1 + SNR·s), whatever the scale of α."""
    found = loss_by_logsnr(gaussian(MEAN, VARIANCE, process), normal_images(100), LOGSNRS, generators(1, 0, 100))
    wanted = torch.sigmoid(LOGSNRS.double() + VARIANCE.log())
    assert ((found.mean - wanted).abs() < 4 * found.standard_error).all()
    assert (found.standard_error < 0.015 * wanted).all()


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("process", flat(PROCESSES))
def test_it_is_the_eps_loss_of_training(prediction, process):
    x, eps = normal_images(5), normal_images(5, seed=3)
    logsnr = torch.tensor([-9.0, -2.0, 0.0, 3.0, 9.0], dtype=torch.float64)
    network, target = FakeNetwork(), Target(prediction, process)
    _, wanted = denoising_loss(network, target, x, eps, logsnr)
    found = eps_loss(from_network(network, target), x, eps, logsnr)
    torch.testing.assert_close(found, wanted.double(), rtol=1e-3, atol=1e-6)


def test_both_ends_keep_their_digits():
    """Where ε̂ is nothing the loss is ε²; where x̂ is the mean it is SNR·(x − mean)²."""
    x, own = normal_images(3), generators(1, 0, 3)
    ends = torch.tensor([-40.0, 36.0], dtype=torch.float64)
    found = loss_by_logsnr(gaussian(MEAN, VARIANCE), x, ends, own).losses
    eps = normal_like(x, generators(1, 0, 3))
    torch.testing.assert_close(found[:, 0], math.exp(-40) * (x - MEAN).square().mean(dim=(1, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[:, 1], eps.square().mean(dim=(1, 2, 3)), rtol=1e-5, atol=0)


def test_float32_is_enough_up_to_15():
    x, levels = normal_images(3), torch.tensor([-15.0, 0.0, 15.0])
    wide, narrow = (
        loss_by_logsnr(gaussian(MEAN.to(x), VARIANCE.to(x)), x, levels, generators(0, 0, 3)).losses
        for x in (x, x.float())
    )
    assert narrow.dtype == torch.float64
    torch.testing.assert_close(narrow, wide, rtol=2e-4, atol=0)


def test_precision_of_what_the_denoiser_gets_and_of_the_mean():
    told = []

    @under_vp
    def denoise(z, logsnr):
        told.append((z.dtype, logsnr.dtype, torch.is_grad_enabled()))
        return torch.zeros_like(z)

    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = normal_images(2).to(dtype)
        found = loss_by_logsnr(denoise, x, LOGSNRS[:1], generators(0, 0, 2)).losses[:, 0]
        wanted = math.exp(LOGSNRS[0]) * x.double().square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    assert told == [(torch.bfloat16, torch.float32, False), (torch.float32, torch.float32, False),
                    (torch.float64, torch.float64, False)]


def test_an_image_has_the_same_noise_in_any_batch_and_at_any_levels():
    x, denoise = normal_images(5).float(), from_network(FakeNetwork(), Prediction.V)
    whole = loss_by_logsnr(denoise, x, LOGSNRS, generators(0, 0, 5))
    by_two = loss_by_logsnr(denoise, x, LOGSNRS, generators(0, 0, 5), batch=2)
    parts = [slice(0, 1), slice(1, 5)]
    apart = joined([loss_by_logsnr(denoise, x[part], LOGSNRS[2:], generators(0, 0, 5)[part]) for part in parts])
    torch.testing.assert_close(by_two.losses, whole.losses)
    torch.testing.assert_close(apart.losses, whole.losses[:, 2:])
    assert whole.losses[:, 2].unique().numel() == 5


def test_mean_and_error_over_images():
    x = normal_images(7)
    found = loss_by_logsnr(under_vp(lambda z, logsnr: z), x, LOGSNRS, generators(0, 0, 7))
    torch.testing.assert_close(found.mean, found.losses.mean(dim=0))
    torch.testing.assert_close(found.standard_error, found.losses.std(dim=0) / 7**0.5)
    one = loss_by_logsnr(under_vp(lambda z, logsnr: z), x[:1], LOGSNRS, generators(0, 0, 1))
    assert one.standard_error.isnan().all()
    lines = str(found).splitlines()
    assert lines[0] == "ε-loss of 7 images"
    assert lines[2].split() == ["-8.00", f"{found.mean[0]:.5f}", f"{found.standard_error[0]:.5f}"]
    assert len(lines) == 2 + len(LOGSNRS)


def measure(images=None, logsnrs=LOGSNRS, count=2, batch=64):
    images = torch.zeros(2, 1, 2, 2) if images is None else images
    return loss_by_logsnr(under_vp(lambda z, logsnr: z), images, logsnrs, generators(0, 0, count), batch=batch)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: measure(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)),
     r"loss_by_logsnr\.images: got 'torch\.uint8'; allowed: floating point, -1…1; use data\.to_float"),
    (lambda: measure(torch.full((2, 1, 2, 2), 255.0)),
     r"loss_by_logsnr\.images: got 'values 255…255'; allowed: numbers in \[-1, 1\]; use data\.to_float on uint8"),
    (lambda: measure(torch.full((2, 1, 2, 2), torch.nan)), r"loss_by_logsnr\.images: got 'values nan…nan'"),
    (lambda: measure(torch.zeros(1, 2, 2)), r"loss_by_logsnr\.images: got \(1, 2, 2\); allowed: \[n c h w\], one"),
    (lambda: measure(logsnrs=torch.tensor([0.0, torch.inf])),
     r"loss_by_logsnr\.logsnrs: got 'an infinite λ'; .*limit the schedule with schedules\.Clipped"),
    (lambda: measure(logsnrs=torch.tensor([1.0, 0.0])), r"logsnrs: got 'values that do not increase'"),
    (lambda: measure(logsnrs=torch.tensor([torch.nan])), r"logsnrs: got 'values that do not increase'"),
    (lambda: measure(logsnrs=torch.zeros(0)), r"logsnrs: got \(0,\); allowed: one dimension, 1 values or more"),
    (lambda: measure(count=3), r"loss_by_logsnr\.generators: got '3 generators'; allowed: one for each of 2 images"),
    (lambda: measure(batch=0), r"loss_by_logsnr\.batch: got 0; allowed: a whole number above 0"),
    (lambda: joined([]), r"joined\.parts: got 0; allowed: one result or more"),
    (lambda: joined([measure(), measure(logsnrs=LOGSNRS + 1)]),
     r"joined\.parts: got 'results at different noise levels'; allowed: the same logsnrs in each"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
