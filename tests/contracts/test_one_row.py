"""A new member is one class and one row of its table: settings, runs, files, images and plans know it from then on."""

from dataclasses import dataclass

import torch
import yaml
from torch import nn

import snrise
from snrise import networks, optimizers, planning
from snrise.config import parse
from snrise.experiment import Experiment
from snrise.networks import NetworkConfig
from tiny import DOCUMENT


def trained(changes, folder):
    """Two steps of the tiny run with some sections of its settings changed, saved; and the run opened again."""
    document = yaml.safe_load(DOCUMENT)
    for section, settings in changes.items():
        document[section] = settings if section == "network" else document[section] | settings
    experiment = Experiment.of(parse(document | {"training": document["training"] | {"images": 16}}))
    with snrise.Run(experiment, folder, tell=lambda line: None) as run:
        assert len(list(run)) == 2
        run.save()
    model = snrise.load(folder)
    assert model.config == experiment.config
    assert all(torch.equal(p, run.state.ema.parameters[name]) for name, p in model.network.named_parameters())
    assert model.sample(2, seed=1, classes=["flags"]).shape == (2, 3, 16, 16)
    return model, planning.plan(experiment, planning.device("h100"))


# A network.


@dataclass(frozen=True, kw_only=True)
class ToyConfig(NetworkConfig):
    width: int = 8

    def build(self, classes):
        return Toy(self, classes)


class Toy(nn.Module):
    def __init__(self, config, classes):
        super().__init__()
        self.config, self.classes = config, classes
        self.enter = nn.Conv2d(3, config.width, 3, padding=1)
        self.condition = nn.Linear(1, config.width)
        self.label = nn.Embedding(classes + 1, config.width)
        self.leave = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, z, logsnr, labels=None):
        labels = torch.full((len(z),), self.classes, device=z.device) if labels is None else labels
        h = self.enter(z) + (self.condition(logsnr[:, None] / 10) + self.label(labels))[:, :, None, None]
        return self.leave(torch.relu(h))


def test_network(tmp_path, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "toy", ToyConfig)
    model, plan = trained({"network": {"kind": "toy", "width": 4}}, tmp_path / "run")
    assert isinstance(model.network, Toy)
    assert model.config.network == ToyConfig(width=4)
    assert plan.whole.parameters == sum(p.numel() for p in model.network.parameters())
    assert [row.name for row in plan.rows] == ["enter", "condition", "label", "leave", "loss"]


# An optimizer.


@dataclass(frozen=True, kw_only=True)
class ToySgd:
    momentum: float = 0.9

    def __call__(self, network, *, betas=(0.9, 0.99), weight_decay=0.0, precision=None):
        return torch.optim.SGD(network.parameters(), lr=0.0, momentum=self.momentum, weight_decay=weight_decay)


def test_optimizer(tmp_path, monkeypatch):
    monkeypatch.setitem(optimizers.OPTIMIZERS, "toy_sgd", ToySgd)
    model, plan = trained({"training": {"optimizer": {"kind": "toy_sgd", "momentum": 0.5}}}, tmp_path / "run")
    assert model.config.training.optimizer == ToySgd(momentum=0.5)
    assert plan.step.static["optimizer"] == plan.step.static["parameters"]
