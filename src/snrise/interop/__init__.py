"""To and from other libraries: schedules of diffusers."""

from snrise.interop.schedulers import SCHEDULERS, Scheduler, betas_of, flow_sigmas, from_diffusers, to_diffusers

__all__ = ["SCHEDULERS", "Scheduler", "betas_of", "flow_sigmas", "from_diffusers", "to_diffusers"]
