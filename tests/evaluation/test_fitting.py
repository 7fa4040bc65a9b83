"""Loss and likelihood on images that a run has not seen."""

import itertools
import math

import pytest
import torch
from torch import nn

import examples
import snrise
import tiny
from snrise import experiment
from snrise._errors import SnriseError
from snrise.data import Indexed
from snrise.denoisers import from_network
from snrise.evaluation import fit, likelihood
from snrise.metrics import FEATURES, Rademacher
from snrise.process import Prediction, Target
from snrise.samplers import generators
from snrise.trained import Trained
from tiny import POOLED, config, perturbed


@pytest.fixture(scope="module")
def trained():
    settings = config("data.hold_out=10", "network.levels.0.dropout=0.5")
    model = perturbed(experiment.network(settings, 3))
    return Trained(
        config=settings, network=model, images_seen=0, fingerprint="", classes=None, frequencies=None,
    )


def test_dropout_is_off_and_the_network_left_as_it_was(trained):
    data = experiment.held_out(trained.config)
    trained.network.eval()
    still = fit(trained, data, 4)
    trained.network.train()
    found = fit(trained, data, 4)
    assert trained.network.training
    assert torch.equal(found.loss.losses, still.loss.losses)
    assert found.bound.total.value == still.bound.total.value


def test_the_loss_is_the_same_without_a_bound(trained):
    data = experiment.held_out(trained.config)
    found = fit(trained, data, 4, bound=False)
    assert found.bound is None
    assert torch.equal(found.loss.losses, fit(trained, data, 4).loss.losses)


def test_the_images_done_are_told(trained):
    told = []
    fit(trained, experiment.held_out(trained.config), 5, batch=2, watch=told.append)
    assert told == [2, 4, 5]


# Gaussian data, whose entropy is known.

MEAN, DEVIATION = 0.1, 0.25


class Gaussian(nn.Module):
    """The exact ε of pixels from N(MEAN, DEVIATION²), under VP; its parameter is for the device."""

    classes = None

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, z, logsnr, labels=None):
        alpha2 = torch.sigmoid(logsnr).reshape(-1, 1, 1, 1)
        sigma2 = 1 - alpha2
        return self.one * sigma2.sqrt() * (z - alpha2.sqrt() * MEAN) / (alpha2 * DEVIATION**2 + sigma2)


def trained_on(network, size, classes=None, **changes):
    settings = config("loss.prediction=eps", f"data.resolution=[{size[0]},{size[1]}]")
    return Trained(
        config=settings, network=network, images_seen=0, fingerprint="", classes=classes, frequencies=None, **changes,
    )


def gaussian_pictures(count, size=(8, 8)):
    x = MEAN + DEVIATION * torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(3))
    return Indexed(((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))


def test_the_likelihood_of_gaussian_data_is_their_entropy():
    data = gaussian_pictures(32)
    model = trained_on(Gaussian(), (8, 8))
    found = likelihood(model, data, 32, batch=20)
    # Noise of λ = 10 and rounding widen the Gaussian by 1e-5 and 5e-6 of variance.
    entropy = math.log2(127.5 * DEVIATION * math.sqrt(2 * math.pi * math.e))
    assert len(found.bits) == 32
    assert found.total.value == pytest.approx(entropy, abs=4 * found.total.standard_error + 0.01)
    assert found.total.standard_error < 0.02
    # The exact denoiser's bound is tight, and no better than the likelihood of the levels.
    assert fit(model, data, 32).bound.total.value == pytest.approx(found.total.value, abs=0.03)


def test_the_likelihood_leaves_the_network_as_it_was_and_reports_its_progress():
    model, shares = trained_on(Gaussian().train(), (8, 8)), []
    likelihood(model, gaussian_pictures(3), 3, steps=2, batch=2, watch=shares.append)
    assert model.network.training
    assert model.network.one.requires_grad
    assert model.network.one.grad is None
    assert shares == [*(2 * i / 8 for i in range(1, 9)), *(2 + i / 8 for i in range(1, 9))]


@pytest.mark.parametrize("network", [*examples.flat(tiny.NETWORKS), pytest.param(tiny.CROPPED, id="cropped")])
def test_the_divergence_through_a_network_is_that_of_differences(network):
    """Along a random direction; also through the frozen inner network of a nest, which learns nothing."""
    model, target = tiny.network(network).double(), Target(Prediction.V)
    z, logsnr = (t.double() for t in tiny.inputs(batch=1))
    denoise = from_network(model, target)
    probe = Rademacher()(z, generators(0, 0, 1))[0]
    at = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(denoise(at, logsnr), at, probe)
    with torch.no_grad():
        ahead, behind = (denoise(z + sign * 1e-5 * probe, logsnr) for sign in (1, -1))
    assert (slope * probe).sum().item() == pytest.approx(((ahead - behind) / 2e-5 * probe).sum().item(), rel=1e-4)


# Networks and data of one's own.


class Shades:
    """Dark and bright pictures, 8 × 16 px."""

    def __init__(self, classes=None):
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((3, 8, 16), 60 + 130 * (index % 2) + index, dtype=torch.uint8), index % 2


class Labelled(Gaussian):
    """Predicts zero, and notes the labels that it gets."""

    classes = 2

    def __init__(self):
        super().__init__()
        self.labels = []

    def forward(self, z, logsnr, labels=None):
        self.labels.append(labels)
        return 0 * self.one * z


@pytest.mark.parametrize(("names", "of_data", "known"), [
    (("dark", "bright"), ("dark", "bright"), True), (("0", "1"), None, True),
    (("dark", "bright"), None, False), (("dark", "bright"), ("bright", "dark"), False),
    (None, ("dark", "bright"), False),
])
def test_labels_are_passed_where_they_mean_what_they_meant_in_training(names, of_data, known):
    network = Labelled()
    fit(trained_on(network, (8, 16), names), Indexed(Shades(of_data)), 4)
    assert all(labels.tolist() == [0, 1, 0, 1] if known else labels is None for labels in network.labels)


def test_the_fit_stands_beside_the_judgement(monkeypatch, tmp_path):
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = trained_on(Gaussian(), (8, 16))
    report = snrise.evaluate(model, 8, data=Shades(), validation=Shades(), held_out=5, features="pooled")
    alone = fit(model, Indexed(Shades()), 5)
    assert torch.equal(report.fit.loss.losses, alone.loss.losses)
    assert str(report).endswith(f"on images that the run has not seen:\n{alone}")
    assert report.as_json()["unseen"] == alone.as_json()
    flow = alone._replace(flow=likelihood(model, Indexed(Shades()), 5, steps=2)).as_json()
    assert (flow["flow_images"], flow["flow_steps"]) == (5, 2)
    assert flow["flow_bits_per_dimension"] > 0 < flow["flow_bits_per_dimension_error"]
    assert snrise.evaluate(model, 8, data=Shades(), features="pooled").fit is None


def test_errors():
    model = trained_on(Gaussian(), (8, 16))
    with pytest.raises(SnriseError, match=r"data\.size: got \(8, 8\); allowed: \(8, 16\), the size of"):
        fit(model, gaussian_pictures(4), 4)
    with pytest.raises(SnriseError, match=r"likelihood\.steps: got 0; allowed: a whole number above 0"):
        likelihood(model, Indexed(Shades()), 4, steps=0)
    with pytest.raises(SnriseError, match=r"validation: got 'count'; allowed: images by number"):
        snrise.evaluate(model, 8, data=Shades(), validation=itertools.count())
