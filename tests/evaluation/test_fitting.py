"""The loss on images that a run has not seen is that of the network without dropout, however it is handed over."""

import pytest
import torch

from snrise import build
from snrise.build import Trained
from snrise.evaluation import fit
from tiny import config, perturbed


@pytest.fixture(scope="module")
def trained():
    settings = config("data.hold_out=10", "network.levels.0.dropout=0.5")
    return Trained(
        config=settings, network=perturbed(build.network(settings, 3)), images_seen=0, fingerprint="", classes=None,
        frequencies=None,
    )


def test_dropout_is_off_and_the_network_left_as_it_was(trained):
    data = build.held_out(trained.config)
    trained.network.eval()
    still = fit(trained, data, 4)
    trained.network.train()
    found = fit(trained, data, 4)
    assert trained.network.training
    assert torch.equal(found.loss.losses, still.loss.losses)
    assert found.bound.total.value == still.bound.total.value


def test_the_images_done_are_told(trained):
    told = []
    fit(trained, build.held_out(trained.config), 5, batch=2, watch=told.append)
    assert told == [2, 4, 5]
