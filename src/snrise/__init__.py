"""Pixel-space image diffusion at high resolution: the noise schedule follows the resolution.

The mathematics is in `process`, `schedules`, `pooling`, `weightings`, `levels`, `losses`, `denoisers`, `samplers` and
`diagnostics`; a run is in `data`, `networks`, `experiment`, `config`, `training`, `checkpoint` and `runs`; images are
made in `trained` and `generation`; autoencoders in `autoencoding`, their codes in `encoding`; pictures in `plots`;
other libraries in `interop`, the Hub in `sharing`, a page for browsers in `explorer`, an app in `app`. Modules are
imported when they are first asked for.

>>> import snrise
>>> snrise.schedules.Cosine()
Cosine(offset=0.0, logsnr_min=-15.0, logsnr_max=15.0)
"""

import importlib
from typing import TYPE_CHECKING, Any

from snrise._errors import SnriseError

if TYPE_CHECKING:
    from snrise import (
        app,
        autoencoding,
        checkpoint,
        codecs,
        config,
        data,
        denoisers,
        diagnostics,
        documents,
        encoding,
        evaluation,
        experiment,
        explorer,
        export,
        generation,
        growing,
        interop,
        levels,
        losses,
        metrics,
        models,
        nest,
        networks,
        optimizers,
        parallel,
        planning,
        plots,
        pooling,
        precision,
        process,
        rates,
        runs,
        samplers,
        schedules,
        sharing,
        trained,
        training,
        weightings,
    )
    from snrise.evaluation import evaluate
    from snrise.experiment import Experiment
    from snrise.runs import Run, train
    from snrise.trained import Trained, load

    __version__: str

__all__ = [
    "Experiment", "Run", "SnriseError", "Trained", "__version__", "app", "autoencoding", "checkpoint", "codecs",
    "config", "data", "denoisers", "diagnostics", "documents", "encoding", "evaluate", "evaluation", "experiment",
    "explorer", "export", "generation", "growing", "interop", "levels", "load", "losses", "metrics", "models", "nest",
    "networks", "optimizers", "parallel", "planning", "plots", "pooling", "precision", "process", "rates", "runs",
    "samplers", "schedules", "sharing", "train", "trained", "training", "weightings",
]

#: Names that are not modules, and where they are.
_FROM = {
    "Experiment": "experiment", "Run": "runs", "Trained": "trained", "evaluate": "evaluation", "load": "trained",
    "train": "runs",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("snrise")
    if name in _FROM:
        return getattr(importlib.import_module(f"snrise.{_FROM[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"snrise.{name}")
    raise AttributeError(f"module 'snrise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
