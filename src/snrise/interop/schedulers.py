"""Schedules as schedulers of diffusers, and back."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from snrise._errors import invalid, require, unknown
from snrise._typing import StrEnum
from snrise.codecs.architectures import diffusers_class
from snrise.process import Prediction
from snrise.schedules import FlowMatching, Schedule, Shifted, Tabulated

__all__ = ["SCHEDULERS", "Scheduler", "betas_of", "flow_sigmas", "from_diffusers", "to_diffusers"]


class Scheduler(StrEnum):
    """The schedulers of diffusers that a schedule can become."""

    DDPM = "ddpm"
    DDIM = "ddim"
    DPM_SOLVER = "dpm_solver"
    FLOW_EULER = "flow_euler"


Name = TypeVar("Name", bound=StrEnum)

#: The class of each.
SCHEDULERS: dict[Scheduler, str] = {
    Scheduler.DDPM: "DDPMScheduler", Scheduler.DDIM: "DDIMScheduler",
    Scheduler.DPM_SOLVER: "DPMSolverMultistepScheduler", Scheduler.FLOW_EULER: "FlowMatchEulerDiscreteScheduler",
}
#: The least first β: 1 − β is the largest float32 below 1.
LEAST = 2.0**-24
#: What α² counts as at least.
TINY = 1e-30
#: diffusers' names of what a network predicts.
PREDICTIONS = {Prediction.X: "sample", Prediction.EPS: "epsilon", Prediction.V: "v_prediction"}


def to_diffusers(
    schedule: Schedule, scheduler: Scheduler | str = Scheduler.DDIM, *, prediction: Prediction | str = Prediction.V,
    steps: int = 1000,
) -> Any:
    """The schedule as a scheduler of diffusers, to train with or to sample with.

    Entry n of the table of `steps` entries stands at t = n/(steps − 1), as in `Tabulated`; the timesteps of sampling
    are spaced from the noisiest one on (`trailing`: Lin et al. 2023, sec. 3.3), and images are not clipped.
    `flow_euler` is of networks that predict ε − x on the straight path; sample with
    `set_timesteps(sigmas=flow_sigmas(schedule, n))`: without `sigmas` it shifts twice.

    Args:
        schedule: λ(t); of `flow_euler` a `FlowMatching`, shifted or not.
        scheduler: a name in `SCHEDULERS`.
        prediction: what the network predicts; `flow_euler` is told nothing, as it is always u.
        steps: `num_train_timesteps`.

    Raises:
        SnriseError: for unknown names, a schedule or prediction that the scheduler cannot have, or without diffusers.

    >>> from snrise.schedules import Cosine, for_resolution
    >>> made = to_diffusers(for_resolution(Cosine(), image=(256, 256)))
    >>> a = made.alphas_cumprod[500]
    >>> torch.log(a / (1 - a)), for_resolution(Cosine(), image=(256, 256))(torch.tensor(500 / 999))
    (tensor(-2.7757), tensor(-2.7757))
    """
    kind = _named("scheduler", scheduler, Scheduler)
    says = _named("prediction", prediction, Prediction)
    if kind is Scheduler.FLOW_EULER:
        return _class(kind)(num_train_timesteps=steps, shift=_flow_shift(schedule))
    require(says in PREDICTIONS, "to_diffusers.prediction", str(says), "x, eps or v", "use scheduler='flow_euler'")
    betas = betas_of(schedule, steps)
    common = {"num_train_timesteps": steps, "trained_betas": betas, "prediction_type": PREDICTIONS[says]}
    common["timestep_spacing"] = "trailing"
    if kind is Scheduler.DPM_SOLVER:  # it needs a finite λ, and has its own for a last β of 1
        return _class(kind)(**common, rescale_betas_zero_snr=betas[-1] == 1)
    return _class(kind)(**common, clip_sample=False)


def betas_of(schedule: Schedule, steps: int = 1000) -> list[float]:
    """β of each step, 1 − α²_n/α²_{n−1}, for diffusers' `trained_betas`.

    diffusers multiplies 1 − β in float32; each β makes up for the rounding of those before, which else add up where λ
    changes slowly. What is left is that of α² itself, 6e-8: up to λ = 10 less than 0.001 of λ, at λ = 15 up to 0.1. The
    first β is at least 6e-8, λ ≤ 16.6, for diffusers takes the logarithm of σ.

    Raises:
        SnriseError: for fewer than 2 steps.

    >>> from snrise.schedules import LinearBeta
    >>> [round(beta, 4) for beta in betas_of(LinearBeta(), 4)]
    [0.0, 0.6798, 0.9649, 0.9962]
    """
    require(steps >= 2, "betas_of.steps", steps, "2 or more")
    t = torch.linspace(0, 1, steps, dtype=torch.float64)
    betas, product = list[float](), torch.tensor(1.0)  # in float32, as there
    for square in torch.sigmoid(schedule(t)).tolist():
        beta = max(0.0 if betas else LEAST, 1 - square / max(float(product), TINY))
        betas.append(beta)
        product = product * (1 - torch.tensor(beta))
    return betas


def flow_sigmas(schedule: Schedule, steps: int) -> list[float]:
    """What to give `FlowMatchEulerDiscreteScheduler.set_timesteps(sigmas=…)`, for steps at t = 1, 1 − 1/steps, …

    Of a shifted `FlowMatching` these are t itself, as the scheduler of `to_diffusers` shifts what it is given. Of any
    other schedule they are σ = sigmoid(−λ/2), for a scheduler without a shift: `FlowMatchEulerDiscreteScheduler()`.

    Raises:
        SnriseError: for fewer than 1 step.

    >>> flow_sigmas(FlowMatching(), 4)
    [1.0, 0.75, 0.5, 0.25]
    """
    require(steps >= 1, "flow_sigmas.steps", steps, "1 or more")
    t = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    found: list[float] = t.tolist() if _is_flow(schedule) else torch.sigmoid(-0.5 * schedule(t)).tolist()
    return found


def from_diffusers(scheduler: Any) -> Schedule:
    """The schedule of a scheduler of diffusers: its table of α², or the straight path with its shift.

    Raises:
        SnriseError: for an object that has neither.

    >>> from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
    >>> from_diffusers(DDPMScheduler())(torch.tensor([0.0, 1.0]))
    tensor([  9.2102, -10.1177])
    >>> from_diffusers(FlowMatchEulerDiscreteScheduler(shift=3.0))
    Shifted(base=FlowMatching(), factor=3.0)
    """
    if hasattr(scheduler, "alphas_cumprod"):
        betas = torch.as_tensor(scheduler.betas, dtype=torch.float64)
        return Tabulated.from_betas(betas)
    dynamic = getattr(getattr(scheduler, "config", None), "use_dynamic_shifting", None)
    if dynamic is None:
        got = f"{type(scheduler).__name__} without alphas_cumprod"
        raise invalid("from_diffusers", got, "a scheduler of α² or of flow matching, such as DDPMScheduler")
    require(not dynamic, "from_diffusers", "use_dynamic_shifting=True", "a shift that is a number", "give shift=…")
    shift = float(scheduler.config.shift)
    return FlowMatching() if shift == 1 else Shifted(base=FlowMatching(), factor=shift)


def _is_flow(schedule: Schedule) -> bool:
    return isinstance(schedule.base if isinstance(schedule, Shifted) else schedule, FlowMatching)


def _flow_shift(schedule: Schedule) -> float:
    """The time shift s of the straight path: exactly −2 log s of λ (Esser et al. 2024, eq. 23)."""
    if not _is_flow(schedule):
        fix = "take FlowMatchEulerDiscreteScheduler() and set_timesteps(sigmas=flow_sigmas(schedule, steps))"
        raise invalid("to_diffusers.schedule", type(schedule).__name__, "FlowMatching, or Shifted of it", fix)
    return schedule.factor if isinstance(schedule, Shifted) else 1.0


def _named(where: str, given: str, table: type[Name]) -> Name:
    if given not in tuple(table):
        raise unknown(f"to_diffusers.{where}", given, table)
    return table(given)


def _class(kind: Scheduler) -> Callable[..., Any]:
    return diffusers_class(SCHEDULERS[kind], "to_diffusers")
