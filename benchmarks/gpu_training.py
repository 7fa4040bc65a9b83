"""A run of a recipe within a given time: see gpu.py. Its learning rate falls over what the device can do in it."""

import argparse
import shutil
import tempfile
import time
from typing import Any

import torch

from snrise.documents import load
from snrise.experiment import Experiment, dataset
from snrise.export import export_weights
from snrise.networks import NestedConfig
from snrise.runs import Run, measure

#: The pictures at the end, logs and checkpoints; nothing is drawn or saved on the way.
QUIET = ["log.samples=1000000000000", "log.checkpoint=1000000000000", "log.tensorboard=false"]
SMALL = ["sampling.steps=2", "log.grid=4", "data.only=[flags]", "training.batch=4", "log.every=8"]
#: Images a second are a little fewer in a run, which logs.
CAREFUL = 0.94
#: A run that is slower than was measured is stopped after so many seconds more.
GRACE = 15


def reduced(recipe: str) -> list[str]:
    """What makes a recipe a matter of milliseconds a step."""
    network, where = load(recipe).network, "network"
    while isinstance(network, NestedConfig):
        network, where = network.inner, f"{where}.inner"
    return [*SMALL, f"{where}.levels.0.channels=16", f"{where}.levels.1.channels=32"]


def trained(recipe: str, before: str | None, minutes: float, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the speed, train so many images as the time allows, draw, export; what became of it.

    With a recipe `before`, it begins with the weights that this left; else as the recipe says.
    """
    device, out = torch.device(options.where), options.out
    start = [f"training.start={out / before}.safetensors"] if before else []
    settings = [*QUIET, *start, *(reduced(recipe) if options.reduced else []), *options.settings]
    config = load(recipe, settings)
    data = dataset(config)
    data.images(range(len(data)))  # decoded before time is taken
    how = Experiment.of(config, data=data, device=device)
    ends = time.time() + 60 * minutes
    pace = measure(how, seconds=min(8.0, 6 * minutes), grids=False)
    images = pace.images(CAREFUL * (ends - time.time()), how.batch)
    how = how.lasting(images)
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Run(how, folder, lines.append) as run:
        started = time.perf_counter()
        for report in run:  # noqa: B007  # the last one is told
            if time.time() > ends + GRACE:
                break
        spent = time.perf_counter() - started
        log = out / f"{recipe}.jsonl"
        shutil.copyfile(run.folder.log, log)
        weights = out / f"{recipe}.safetensors"
        weights.unlink(missing_ok=True)
        export_weights(run.save(), weights)
        drawing = time.perf_counter()
        picture = out / f"{recipe}.png"
        shutil.copyfile(run.draw(), picture)
    return {
        "recipe": recipe, "settings": options.settings, "batch": how.batch,
        "parameters": sum(p.numel() for p in how.network.parameters()), "images": report.images_seen,
        "images_planned": images, "images_per_second_before": pace.images_per_second, "training_seconds": spent,
        "images_per_second": report.images_seen / spent, "loss": report.loss, "faults": run.state.faults, "told": lines,
        "drawing_seconds": time.perf_counter() - drawing, "weights_mb": weights.stat().st_size / 1e6,
        "files": [picture.name, log.name, weights.name],
    }
