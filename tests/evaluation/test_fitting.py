"""The loss on images that a run has not seen is that of the network without dropout, however it is handed over."""

import pytest
import torch

from snrise import experiment
from snrise.evaluation import fit
from snrise.trained import Trained
from tiny import config, perturbed


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


def test_the_images_done_are_told(trained):
    told = []
    fit(trained, experiment.held_out(trained.config), 5, batch=2, watch=told.append)
    assert told == [2, 4, 5]
