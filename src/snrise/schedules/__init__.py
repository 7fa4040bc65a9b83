r"""Noise schedules: t → λ, from the clean end t = 0 to the noisy end t = 1.

Every schedule gives λ(t), dλ/dt and t(λ), element by element, in the dtype of its argument; λ outside a schedule's
range comes from its nearest end. A schedule sampled uniformly in t puts the density p(λ) = −dt/dλ on noise levels: it
is itself a weight (for the cosine, sech((λ − shift)/2)/2π).

>>> import torch
>>> schedule = for_resolution(Cosine(), image=(512, 512))
>>> schedule(torch.tensor([0.0, 0.5, 1.0]))
tensor([ 10.8411,  -4.1589, -19.1589])
"""

from snrise.schedules.base import Schedule, density
from snrise.schedules.formulas import Cosine, FlowMatching, LinearBeta, LogNormal, UniformLogSnr, UniformPower
from snrise.schedules.resolution import ByResolution, Ends, for_resolution, interpolated_for_resolution, shift_factor
from snrise.schedules.tabulated import Tabulated
from snrise.schedules.wrappers import Clipped, Interpolated, Shifted, ZeroTerminalSnr

__all__ = [
    "SCHEDULES", "ByResolution", "Clipped", "Cosine", "Ends", "FlowMatching", "Interpolated", "LinearBeta",
    "LogNormal", "Schedule",
    "Shifted", "Tabulated", "UniformLogSnr", "UniformPower", "ZeroTerminalSnr", "density", "for_resolution",
    "interpolated_for_resolution", "shift_factor",
]

#: Every schedule by the name that a config gives it.
SCHEDULES: dict[str, type[Schedule]] = {
    "cosine": Cosine, "linear_beta": LinearBeta, "uniform_logsnr": UniformLogSnr, "uniform_power": UniformPower,
    "log_normal": LogNormal, "flow_matching": FlowMatching, "tabulated": Tabulated, "shifted": Shifted,
    "clipped": Clipped, "interpolated": Interpolated, "zero_terminal_snr": ZeroTerminalSnr,
}
