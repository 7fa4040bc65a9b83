"""Jobs that train a network: judged by its samples, or by its fit of images that it has not seen."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import exp
from pathlib import Path
from statistics import geometric_mean
from typing import Any, final

import torch
from torch import Tensor

from benchmarks.claims.texts import digest, one_line
from snrise import documents, experiment, plots
from snrise._errors import SnriseError
from snrise.config import RunConfig
from snrise.construct import plain
from snrise.data import ByIndex
from snrise.encoding import encoded
from snrise.evaluation import Reference, fit, judge
from snrise.experiment import Experiment
from snrise.metrics import FEATURES, Extractor, nearest
from snrise.networks import cost
from snrise.runs import Run
from snrise.runs.summary import summarize
from snrise.trained import Trained, load
from snrise.training import checkpoints

__all__ = ["JUDGES", "Fitted", "Judged", "config", "judged", "seconds", "trained", "v_loss"]

#: Every set of samples is judged by features of two kinds.
JUDGES: tuple[Extractor, ...] = (FEATURES["efficientnet-lite0"], FEATURES["stlpips-alex"])
#: Trainings, whichever claims ask for them.
TRAINED = Path("runs/claims/trained")
#: The data sets of `benchmarks.claims.data`.
DATA = Path("runs/claims/data")
#: λ at which held-out losses are taken, of those of `fit`.
LEVELS = (-6.0, -3.0, 0.0, 3.0, 6.0)
#: A sample counts as near a training image where only so large a share of held-out images is as near to one.
NEAR = 0.05


def config(*settings: str, images: int, recipe: str = "emoji-32") -> RunConfig:
    """The settings of a run, which logs seldom and keeps one checkpoint."""
    quiet = ["log.grid=16", f"log.samples={images}", f"log.checkpoint={max(1600, images // 8)}", "log.keep=1"]
    return documents.load(recipe, [*settings, f"training.images={images}", "log.tensorboard=false", *quiet])


def trained(config: RunConfig, seed: int) -> tuple[Trained, Path]:
    """A network trained with these settings, and the folder of its run, which it goes on from if it was begun."""
    _ready(config)
    folder = folder_of(config, seed)
    files = checkpoints(folder / "checkpoints")
    if not files or int(files[-1].stem) < config.training.images:
        how = encoded(Experiment.of(replace(config, seed=seed)))
        with Run(how, folder, tell=lambda line: None) as run:
            for _ in run:
                pass
            run.save()
    return load(folder), folder


def folder_of(config: RunConfig, seed: int) -> Path:
    """The folder of a run: its name, the size of its images, a digest of all settings, and the seed."""
    side = "x".join(map(str, config.data.resolution))
    return TRAINED / f"{config.name}-{side}-{digest(_told(config))}" / f"seed{seed}"


def seconds(folder: Path) -> float:
    """The seconds that a run has trained, by the speeds in its log."""
    lines = summarize(folder).lines
    seen = [0, *(line["images_seen"] for line in lines)]
    return sum((b - a) / line["images_per_second"] for a, b, line in zip(seen, seen[1:], lines, strict=False))


def judged(
    samples: Tensor, data: ByIndex, unseen: ByIndex | None = None, references: int = 50_000
) -> dict[str, float]:
    """The scores of pictures, uint8 [n 3 h w], beside up to so many images of a data set, by both kinds of features.

    unseen: images of the same kind that were not trained on. With them, also the share of the samples that are nearer
    to a training image than 95 % of these are: 0.05 is what new pictures have.
    """
    scores: dict[str, float] = {}
    for extractor in JUDGES:
        reference = Reference.of(data, extractor, references)
        told = judge(torch.split(samples, 64), reference).as_json()
        for name in (extractor.kernel_name, extractor.frechet_name, "precision", "recall"):
            suffix = f" ({extractor.kernel_name.removeprefix('KID-')})" if name in ("precision", "recall") else ""
            scores[name + suffix] = told[name]
        scores["spectral distance"] = told["spectral distance"]
        if unseen is not None and extractor is JUDGES[0]:
            far = nearest(Reference.of(unseen, extractor, references).features, reference.features).distances[:, 0]
            mine = nearest(extractor(samples), reference.features).distances[:, 0]
            scores["near copies"] = float((mine < far.quantile(NEAR)).float().mean())
    return scores


@final
@dataclass(frozen=True, kw_only=True)
class Judged:
    """Train with these settings, sample, and judge: distances by two kinds of features, spectrum, seconds.

    pictures: so many samples, compared with up to `references` images of the data.
    """

    config: RunConfig
    pictures: int = 256
    references: int = 50_000

    @cached_property
    def settings(self) -> str:
        return f"{_told(self.config)} {self.pictures} pictures beside {self.references}"

    def __call__(self, seed: int) -> Mapping[str, float]:
        config = self.config
        model, folder = trained(config, seed)
        unseen = experiment.held_out(config)
        samples = _samples(model, folder, self.pictures)
        scores = judged(samples, experiment.dataset(config), unseen, self.references)
        return {**scores, **_spent(model, folder)}

    def picture(self, seed: int) -> Path:
        """The file with its first samples."""
        return folder_of(self.config, seed) / "samples.png"


@final
@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Train with these settings, which hold images out: the v-loss of `number` of these, and of images trained on.

    Levels count alike, by the geometric mean: a mean would be that of the cleanest one, where errors of x weigh most.
    """

    config: RunConfig
    number: int = 128

    @cached_property
    def settings(self) -> str:
        return f"{_told(self.config)} {self.number} held out"

    def __call__(self, seed: int) -> Mapping[str, float]:
        model, folder = trained(self.config, seed)
        unseen, seen = experiment.held_out(self.config), experiment.dataset(self.config)
        assert unseen is not None
        scores: dict[str, float] = {}
        for name, images in (("held out", unseen), ("trained on", seen)):
            by_level = v_loss(model, images, self.number)
            scores |= {f"v-loss at λ = {level:g}, {name}": loss for level, loss in by_level.items()}
            scores[f"v-loss, {name}"] = geometric_mean(by_level.values())
        return {**scores, **_spent(model, folder)}


def v_loss(model: Trained, data: ByIndex, number: int) -> dict[float, float]:
    """The v-loss by λ, one of `LEVELS`, of images evenly spaced in a data set: (1 + 1/SNR) times the ε-loss.

    The same images and noise for whichever network; it is comparable between whatever networks predict.
    """
    found = fit(model, data, number, bound=False).loss
    losses = dict(zip(found.logsnrs.tolist(), found.mean.tolist(), strict=True))
    return {level: (1 + exp(-level)) * losses[level] for level in LEVELS}


def _spent(model: Trained, folder: Path) -> dict[str, float]:
    """What a training cost: images, multiplications of the network for one, and seconds, whatever ran beside it."""
    multiplications = cost(model.network, model.config.shape[1:]).macs / 1e9
    spent = round(seconds(folder), 1)
    return {"images": model.images_seen, "GMAC an image": multiplications, "training seconds": spent}


def _samples(model: Trained, folder: Path, number: int) -> Tensor:
    """Samples of a run with its own settings; the first 16 go to a file beside it."""
    samples = model.sample(number)
    plots.sample_grid(samples[:16], columns=8).save(folder / "samples.png")
    return samples


def _ready(config: RunConfig) -> None:
    """Raise if the settings name a data set of the claims that has not been made, with the command that makes it."""
    place = Path(getattr(config.data.source, "path", ""))
    if place.parent == DATA and not place.is_dir():
        raise SnriseError(f"claims: no data in {place}; run python -m benchmarks.claims.data {place.name}")


@lru_cache
def _told(config: RunConfig) -> str:
    """All settings but the seed, as one line."""
    document: dict[str, Any] = plain(replace(config, seed=0))
    for key in ("log", "made_with", "seed"):
        document.pop(key, None)
    return one_line(document)
