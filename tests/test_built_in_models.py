"""What comes with the package opens by its name, knows its data, and is small."""

import itertools
from pathlib import Path

import pytest
import torch

import snrise
from snrise import experiment, models
from snrise.data import to_float
from snrise.denoisers import from_network
from snrise.process import Target, diffuse

pytestmark = pytest.mark.precision

NAMES = sorted(models.models())


def test_there_is_one_for_the_default_recipe():
    assert "emoji-32" in NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_trained_denoiser(name):
    path = models.models()[name]
    assert path.stat().st_size < 15e6
    trained = snrise.load(models.located(path.relative_to(models.FOLDER).with_suffix("")))
    config = trained.config
    assert config.name == name
    dataset = experiment.dataset(config)
    assert trained.classes == tuple(dataset.source.classes)
    pick = range(0, len(dataset), len(dataset) // 32)
    x, labels = to_float(dataset.images(pick)), dataset.labels[list(pick)]
    logsnr = config.schedule(config.data.resolution)(torch.full((len(x),), 0.5, dtype=torch.float64)).float()
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    target = Target(config.loss.prediction, config.process)
    with torch.no_grad():
        seen, other = (
            (from_network(trained.network, target, given)(diffuse(x, eps, logsnr), logsnr) - x).square().mean()
            for given in (labels, labels.roll(1))
        )
    # At 32 px half of the power at the middle of the schedule is noise; the variance of the pictures is 0.3.
    assert seen < 0.03
    assert seen < 0.8 * other


@pytest.mark.parametrize(("low", "high"), list(itertools.pairwise(sorted(NAMES, key=lambda n: int(n.split("-")[1])))))
def test_each_is_the_coarse_half_of_the_next(low, high):
    inner, alone = snrise.load(Path(high)).network.inner.state_dict(), snrise.load(Path(low)).network.state_dict()
    assert inner.keys() == alone.keys()
    assert all(torch.equal(inner[name], weight) for name, weight in alone.items())
