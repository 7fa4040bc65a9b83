"""Runs and networks small enough to train in a test."""

import contextlib
import itertools
import json
import os
import random
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from snrise import checkpoint, cli, experiment
from snrise.config import parse, to_yaml
from snrise.documents import override, resolve
from snrise.experiment import Experiment
from snrise.generation import Generation
from snrise.metrics import Extractor
from snrise.nest import Link
from snrise.networks import Kind, Level, Nested, NestedConfig, Skip, Stem, UNetConfig, UViTConfig, ViTConfig
from snrise.networks import build as build_network
from snrise.process import Prediction, Target
from snrise.training import TrainState, save_state, train

V = Target(Prediction.V)

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
        "residual": UViTConfig(
            levels=(Level(channels=16, blocks=1), Level(channels=16, blocks=0),
                    Level(channels=32, blocks=1, kind=Kind.TRANSFORMER, head=8)),
            skip=Skip.RESIDUAL, embedding=32,
        ),
        "wavelet": UViTConfig(levels=(Level(channels=16, blocks=1),), stem=4, stem_kind=Stem.WAVELET, embedding=32),
    },
    "unet": {
        "flat": UNetConfig(levels=(Level(channels=16, blocks=2),), embedding=32),
        "deep": UNetConfig(
            levels=(Level(channels=16, blocks=1), Level(channels=24, blocks=2, attention=True, head=8),
                    Level(channels=32, blocks=0)),
            middle=1, embedding=32,
        ),
        "unshuffle": UNetConfig(
            levels=(Level(channels=16, blocks=1), Level(channels=16, blocks=1)), middle=0, stem=2,
            stem_kind=Stem.UNSHUFFLE, embedding=32,
        ),
    },
    "vit": {
        "class tokens": ViTConfig(
            width=32, depth=3, patch=4, head=8, bottleneck=16, class_tokens=2, class_tokens_from=1,
        ),
        "no class tokens": ViTConfig(width=32, depth=1, patch=8, head=16, bottleneck=64, class_tokens=0),
    },
}
MIXED = NETWORKS["uvit"]["mixed"]
SMALL = UViTConfig(levels=(Level(channels=16, blocks=1), Level(channels=16, blocks=1)), embedding=32)
NEST = NestedConfig(
    inner=SMALL, level=Level(channels=16, blocks=1), variances=(0.02, 0.03, 0.004), frozen=False, embedding=32,
)
NETWORKS["nested"] = {
    "nest": NEST,
    "nest in a nest": NestedConfig(
        inner=NEST, level=Level(channels=16, blocks=2), variances=(0.01, 0.01, 0.002), frozen=False, embedding=32,
    ),
    "local": NestedConfig(
        inner=SMALL, level=Level(channels=16, blocks=1, kind=Kind.LOCAL), variances=(0.02, 0.03, 0.004), frozen=False,
        embedding=32,
    ),
    "around a vit": NestedConfig(
        inner=NETWORKS["vit"]["class tokens"], level=Level(channels=16, blocks=1, attention=True, head=8),
        variances=(0.02, 0.03, 0.004), frozen=False, embedding=32,
    ),
}
#: Its outer level alone learns, from a part of each image. It is in no table: its inner network has no gradients.
CROPPED = replace(NETWORKS["nested"]["local"], frozen=True, crop=8)

#: Features that cost nothing: pixels pooled to 4x4.
POOLED = Extractor(
    name="pooled", dimensions=48, frechet_name="FD-pooled", kernel_name="KID-pooled",
    load=lambda: lambda images: torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1),
)

#: A run of 16 px and 3 classes that takes a few ms a step.
DOCUMENT = """
name: tiny
data: {source: emoji, resolution: [16, 16], only: [activities, flags, symbols], classes: class}
network:
  kind: uvit
  embedding: 32
  levels: [{channels: 16, blocks: 1, dropout: 0.2}, {channels: 32, blocks: 1, attention: true}]
training: {images: 64, batch: 8, warmup: 16, ema_half_life: 1, precision: fp32}
sampling: {steps: 2}
log: {every: 16, samples: 1000, grid: 4, checkpoint: 1000, tensorboard: false}
"""


def config(*overrides):
    document = yaml.safe_load(DOCUMENT)
    for assignment in overrides:
        override(document, assignment)
    resolve(document)
    return parse(document)


def built(config, classes=None, device=None, target=V):
    """The network of a config; nests in it know that v is predicted."""
    network = build_network(config, classes, device)
    for module in network.modules():
        if isinstance(module, Nested):
            module.link = Link(target)
    return network


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
        return perturbed(built(which, classes)).eval()


def inputs(batch=2, size=(16, 16), seed=0):
    """Z and λ."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *size, generator=generator), 4 * torch.randn(batch, generator=generator)


def state_of(settings, classes=None):
    """The beginning of a run with these settings."""
    return TrainState.of(Experiment.imagined(settings, classes, "cpu"))


def recipe(settings):
    """How settings train a network: an experiment with no data and no weights."""
    return Experiment.imagined(settings)


def generation_of(settings):
    """How settings make images, of no network."""
    return Generation.of(settings, torch.nn.Identity())


def saved_run(folder, settings, names=None):
    """A run's folder, with weights that say something; `names` are its classes."""
    state = state_of(settings, None if names is None else len(names))
    run(state, settings, 1)
    perturbed(state.network)
    state.ema.update(state.network, 10**9, 10**9)
    save_state(state, folder / "checkpoints", to_yaml(settings),
               {"classes": names, "frequencies": None if names is None else [0.5, 0.25, 0.25]})
    return folder


def run(state, settings, steps=None, dataset=None):
    """Train some steps, or to the end; the reports."""
    dataset = dataset or experiment.dataset(settings)
    batches = dataset.batches(settings.training.batch, seed=settings.seed, position=state.images_seen)
    steps_taken = train(state, batches, recipe(settings), images=settings.training.images)
    return list(itertools.islice(steps_taken, steps))


def moments(state):
    """What the optimizer remembers, by the parameter's name."""
    names = {p: name for name, p in state.network.named_parameters()}
    return {names[p]: kept for p, kept in state.optimizer.state.items()}


def pretends_to_be_on_a_gpu():
    """Whether PyTorch's tensors without numbers may say that they are on a GPU where there is none: newer ones may."""
    try:
        with FakeTensorMode():
            torch.empty(2, device="cuda")[:, None].clamp(0)  # looked up by its index, it asks older ones for a driver
    except RuntimeError:
        return False
    return torch.backends.cuda.is_built()


def size_of(path):
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


def scramble(seed=0):
    """Set the global random states to something else, which nothing may depend on."""
    random.seed(seed)
    torch.manual_seed(seed)


def command(*arguments):
    """What a command that succeeds prints on standard output."""
    result = CliRunner().invoke(cli.app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def pixels(path):
    """Of a picture, as whole numbers: [h w 3]."""
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def fails(monkeypatch, capsys, *arguments):
    """The one line on standard error of a command that a user got wrong."""
    monkeypatch.setattr(sys, "argv", ["snrise", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", error), error
    return error.removeprefix("error: ").rstrip()


def train_apart(arguments):
    """`snrise train`, to be run in a process of its own."""
    torch.set_num_threads(1)
    sys.argv = ["snrise", "train", *map(str, arguments)]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        cli.main()


def edited(path, out, change=lambda tensors: None, header=lambda header: None, sums=True):
    """A copy of a checkpoint with its tensors and header changed, with the checksums of that or those it had."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors, told = load_file(path), json.loads(metadata["snrise"])
    change(tensors)
    header(told)
    metadata |= {"snrise": json.dumps(told)}
    if sums:
        parts = {part: checkpoint.checksum(sorted((name, t) for name, t in tensors.items() if name.startswith(part)))
                 for part in checkpoint.PARTS}
        metadata["checksums"] = json.dumps(parts | {"header": checkpoint.header_sum(metadata)})
    save_file(tensors, out, metadata)
    return out


def objects(path):
    """The JSON objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def comparable(path):
    """The lines of a log without what no two runs share."""
    timed = ("images_per_second", "data_share", "memory_gib")
    return [{k: v for k, v in line.items() if k not in timed} for line in objects(path)]
