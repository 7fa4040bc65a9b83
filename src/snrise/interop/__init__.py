"""To and from other libraries: schedules and pipelines of diffusers."""

from typing import TYPE_CHECKING, Any

from snrise.interop.export import export_pipeline
from snrise.interop.schedulers import SCHEDULERS, Scheduler, betas_of, flow_sigmas, from_diffusers, to_diffusers

if TYPE_CHECKING:
    from snrise.interop.pipeline import SnriseModel, SnrisePipeline

__all__ = [
    "SCHEDULERS", "Scheduler", "SnriseModel", "SnrisePipeline", "betas_of", "export_pipeline", "flow_sigmas",
    "from_diffusers", "to_diffusers",
]


def __getattr__(name: str) -> Any:
    if name in ("SnriseModel", "SnrisePipeline"):  # of classes of diffusers, which is not always there
        from snrise.interop import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'snrise.interop' has no attribute {name!r}")
