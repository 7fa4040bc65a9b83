"""Runs and networks small enough to train in a test."""

import itertools
import random

import torch

from snrise import build
from snrise.documents import load
from snrise.networks import Kind, Level, UViTConfig
from snrise.training import train

#: Every member of NETWORKS by name: configs of each sort.
NETWORKS = {
    "uvit": {
        "conv": UViTConfig(levels=(Level(channels=16, blocks=1), Level(channels=32, blocks=1)), embedding=32),
        "transformer": UViTConfig(
            levels=(Level(channels=32, blocks=2, kind=Kind.TRANSFORMER, head=16),), stem=4, embedding=32
        ),
        "mixed": UViTConfig(
            levels=(
                Level(channels=16, blocks=1), Level(channels=16, blocks=1, attention=True, head=8),
                Level(channels=32, blocks=2, kind=Kind.TRANSFORMER, head=16),
            ),
            embedding=32,
        ),
    },
}
MIXED = NETWORKS["uvit"]["mixed"]

#: The settings of a run of 16 px and 3 classes that takes a few ms a step.
SETTINGS = (
    "data.resolution=[16, 16]", "data.only=[activities, flags, symbols]", "data.classes=class", "network.embedding=32",
    "network.levels=[{channels: 16, blocks: 1, dropout: 0.2}, {channels: 32, blocks: 1, attention: true}]",
    "training.images=64", "training.batch=8", "training.warmup=16", "training.ema_half_life=1",
    "training.precision=fp32", "sampling.steps=2", "log.every=16", "log.samples=1000", "log.grid=4",
    "log.checkpoint=1000", "log.tensorboard=false",
)


def config(*overrides):
    return load("emoji-32", [*SETTINGS, *overrides])


def perturbed(network, scale=0.1, seed=0):
    """The network with random numbers added to all of its weights, so that nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))
    return network


def network(which=MIXED, classes=None, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return perturbed(which.build(classes)).eval()


def inputs(batch=2, size=(16, 16), seed=0):
    """Z and λ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *size, generator=generator), 4 * torch.randn(batch, generator=generator)


def run(state, settings, steps=None, dataset=None):
    """Train some steps, or to the end; the reports."""
    dataset = dataset or build.dataset(settings)
    batches = dataset.batches(settings.training.batch, seed=settings.seed, position=state.images_seen)
    return list(itertools.islice(train(state, batches, build.recipe(settings)), steps))


def scramble(seed=0):
    """Set the global random states to something else, which nothing may depend on."""
    random.seed(seed)
    torch.manual_seed(seed)
