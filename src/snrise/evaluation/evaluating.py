"""How good a trained network is, in one call."""

from pathlib import Path
from typing import Any

from snrise._errors import invalid
from snrise.data import Dataset, Indexed, as_data
from snrise.evaluation.judging import Judgement, judge
from snrise.evaluation.reference import Reference
from snrise.metrics import extractor_named
from snrise.trained import Trained, load

__all__ = ["evaluate"]


def evaluate(
    model: Trained | str | Path, n: int = 5000, *, data: Any = None, features: str = "efficientnet-lite0",
    seed: int = 0, batch: int = 64,
) -> Judgement:
    """Judge images number 0 … n − 1 of a seed: kernel and Fréchet distance, precision, recall, spectrum, neighbours.

    Args:
        model: a trained network, or what `snrise.load` takes.
        n: how many images; those of a network that attends to context vectors are told those of the data.
        data: what to compare them with, a map-style data set or one of snrise's; by default that of the training, which
            has to be given for a run on data of one's own.
        features: one of `metrics.FEATURES`.
        seed: that of the images.
        batch: how many are made at a time.

    Raises:
        SnriseError: for features that there are not, or data that are not known.

    >>> report = evaluate("emoji-32", n=500)  # doctest: +SKIP
    >>> report["KID-EffNet"], report["precision"]  # doctest: +SKIP
    """
    extractor = extractor_named(features, "features")
    trained = model if isinstance(model, Trained) else load(model)
    images = trained.data() if data is None else as_data(data)
    if not isinstance(images, Dataset | Indexed):
        raise invalid("data", type(data).__name__, "images by number: a map-style data set, or one of snrise.data")
    made = trained.samples(n, context=images.contexts(n), seed=seed, batch=batch)
    return judge(made, Reference.of(images, extractor))
