"""How good a trained network is, in one call."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from snrise._errors import invalid
from snrise.data import ByIndex, as_data
from snrise.evaluation.fitting import fit
from snrise.evaluation.judging import Judgement, judge
from snrise.evaluation.reference import Reference
from snrise.metrics import extractor_named
from snrise.parallel import ALONE, World
from snrise.trained import Trained, load

__all__ = ["evaluate"]


def evaluate(
    model: Trained | str | Path, n: int = 5000, *, data: Any = None, validation: Any = None, held_out: int = 256,
    features: str = "efficientnet-lite0", seed: int = 0, batch: int = 64,
    world: World = ALONE,
) -> Judgement:
    """Judge images number 0 … n − 1 of a seed: kernel and Fréchet distance, precision, recall, spectrum, neighbours.

    Args:
        model: a trained network, or what `snrise.load` takes.
        n: how many images; a network that attends to context vectors gets those of the data.
        data: what to compare them with, a map-style data set or one of snrise's; by default the training data, which
            have to be given for a run on data of one's own.
        validation: images that the run has not seen, likewise, to measure loss and likelihood on: `fit` of the result.
        held_out: how many of them, at most.
        features: one of `metrics.FEATURES`.
        seed: that of the images.
        batch: how many are generated at a time.
        world: the processes that do it together, such as `World.from_environment()`; all of them have to call it, and
            get the same judgement.

    Raises:
        SnriseError: for unknown features, data that are not known or have no indices, held-out images of another size.

    >>> report = evaluate("emoji-32", n=500)  # doctest: +SKIP
    >>> report["KID-EffNet"], report["precision"]  # doctest: +SKIP
    """
    extractor = extractor_named(features, "features")
    trained = model if isinstance(model, Trained) else load(model)
    images = trained.data() if data is None else _by_index(data, "data")
    unseen = None if validation is None else _by_index(validation, "validation")
    world.agree("snrise.evaluate", {"weights": trained.fingerprint})
    samples = trained.samples(n, context=images.contexts(n), seed=seed, batch=batch, world=world)
    judgement = judge(samples, Reference.of(images, extractor, world=world), world=world)
    return judgement if unseen is None else replace(judgement, fit=fit(trained, unseen, held_out, world=world))


def _by_index(data: Any, where: str) -> ByIndex:
    known = as_data(data)
    if not isinstance(known, ByIndex):
        raise invalid(where, type(data).__name__, "images by number: a map-style data set, or one of snrise.data")
    return known
