"""Pixel-space image diffusion at high resolution: the noise schedule follows the resolution.

The mathematics is in `process`, `schedules`, `pooling`, `weightings`, `levels`, `losses`, `denoisers`, `samplers` and
`diagnostics`; a run is in `data`, `networks`, `training`, `config`, `build` and `runs`; pictures are in `plots`.
Modules are imported when they are first asked for.

>>> import snrise
>>> snrise.schedules.Cosine()
Cosine(offset=0.0, logsnr_min=-15.0, logsnr_max=15.0)
"""

import importlib
from typing import TYPE_CHECKING, Any

from snrise._errors import SnriseError

if TYPE_CHECKING:
    from snrise import (
        build,
        config,
        data,
        denoisers,
        diagnostics,
        documents,
        evaluation,
        growing,
        levels,
        losses,
        metrics,
        models,
        nest,
        networks,
        planning,
        plots,
        pooling,
        process,
        runs,
        samplers,
        schedules,
        training,
        weightings,
    )

    __version__: str

__all__ = [
    "SnriseError", "__version__", "build", "config", "data", "denoisers", "diagnostics", "documents", "evaluation",
    "growing", "levels", "losses", "metrics", "models", "nest", "networks", "planning", "plots", "pooling", "process",
    "runs", "samplers", "schedules", "training", "weightings",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("snrise")
    if name in __all__:
        return importlib.import_module(f"snrise.{name}")
    raise AttributeError(f"module 'snrise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
