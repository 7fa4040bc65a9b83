"""One or more instances of every member of the tables, for the tests that hold for all of them.

A new member without an example here fails tests/contracts/test_examples.py.
"""

from functools import partial

import pytest
import torch
from torch import nn

from snrise.denoisers import Denoiser
from snrise.optimizers import AdamW, Muon
from snrise.process import VP, Relaxed, Straight, VarianceExploding, VariancePreserving
from snrise.samplers import Ancestral, Ddim, DpmSolverPP, Heun, Karras, Trailing, uniform_logsnr, uniform_time
from snrise.schedules import (
    Clipped,
    Cosine,
    FlowMatching,
    Interpolated,
    LinearBeta,
    LogNormal,
    Shifted,
    Tabulated,
    UniformLogSnr,
    UniformPower,
    ZeroTerminalSnr,
    for_resolution,
)
from snrise.weightings import (
    P2,
    Constant,
    Edm,
    LogSnr1p,
    MinSnr,
    Sigmoid,
    Snr,
    SoftMinSnr,
    TruncatedSnr,
    ULoss,
    VLoss,
    XLoss,
)

UNLIMITED = Cosine(logsnr_min=None, logsnr_max=None)


def growing_rho(logsnr):
    """ρ(λ) from 0.5 at the noisy end to 1.5 at the clean end."""
    return 0.5 + torch.sigmoid(logsnr)


PROCESSES = {
    "vp": {"vp": VariancePreserving()},
    "ve": {"ve": VarianceExploding()},
    "relaxed": {"relaxed 0.3": Relaxed(0.3), "relaxed 0": Relaxed(0.0), "relaxed growing": Relaxed(growing_rho)},
    "straight": {"straight": Straight()},
}

GRIDS = {
    "karras": {"karras": Karras(), "karras of rho 1": Karras(rho=1.0)}, "trailing": {"trailing": Trailing()},
    "uniform_logsnr": {"uniform log-SNR": uniform_logsnr}, "uniform_time": {"uniform time": uniform_time},
}

OPTIMIZERS = {"adamw": {"adamw": AdamW()}, "muon": {"muon": Muon(), "muon at a tenth": Muon(scale=2.0)}}

SCHEDULES = {
    "cosine": {"cosine": Cosine(), "cosine unlimited": UNLIMITED,
               "cosine with offset": Cosine(offset=0.008, logsnr_min=None, logsnr_max=None),
               "cosine with all": Cosine(offset=0.01, logsnr_min=-9.0, logsnr_max=20.0)},
    "linear_beta": {"linear beta": LinearBeta()},
    "uniform_logsnr": {"uniform log-SNR": UniformLogSnr()},
    "uniform_power": {"uniform SNR": UniformPower(power=1.0), "uniform 1/SNR": UniformPower(power=-1.0),
                      "Karras": UniformPower(power=-1 / 14, logsnr_min=-9.0, logsnr_max=13.0)},
    "log_normal": {"log-normal": LogNormal()},
    "flow_matching": {"flow matching": FlowMatching()},
    "tabulated": {"DDPM's table": Tabulated.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
                  "table with infinite ends": Tabulated.from_alphas_cumprod([1.0, 0.9, 0.5, 0.2, 0.0])},
    "shifted": {"shifted": Shifted(base=Cosine(), factor=8.0),
                "shifted, ends stay": for_resolution(Cosine(), image=(512, 256), ends="stay"),
                "shifted table": Shifted(base=Tabulated.from_alphas_cumprod([0.999, 0.5, 1e-5]), factor=4.0)},
    "clipped": {"clipped": Clipped(base=UNLIMITED, logsnr_min=-12.0, logsnr_max=10.0),
                "clipped flow": Clipped(base=Shifted(base=FlowMatching(), factor=3.0), logsnr_min=-18.0)},
    "interpolated": {"interpolated": Interpolated(clean=Shifted(base=Cosine(), factor=2.0),
                                                  noisy=Shifted(base=Cosine(), factor=8.0)),
                     "interpolated unlimited": Interpolated(clean=UNLIMITED,
                                                            noisy=Shifted(base=UNLIMITED, factor=16.0))},
    "zero_terminal_snr": {"zero terminal SNR": ZeroTerminalSnr(base=LinearBeta()),
                          "zero terminal SNR of the limited": ZeroTerminalSnr(base=Shifted(base=Cosine(), factor=4.0)),
                          "zero terminal SNR of zero": ZeroTerminalSnr(base=UNLIMITED)},
}

#: Each weighting with its formula in SNR.
WEIGHTINGS = {
    "constant": (Constant(), lambda snr: torch.ones_like(snr)),
    "snr": (Snr(), lambda snr: snr),
    "truncated_snr": (TruncatedSnr(limit=3.0), lambda snr: snr.clamp(max=3.0)),
    "logsnr1p": (LogSnr1p(), lambda snr: torch.log(1 + snr)),
    "min_snr": (MinSnr(gamma=4.0), lambda snr: (4.0 / snr).clamp(max=1.0)),
    "soft_min_snr": (SoftMinSnr(gamma=4.0), lambda snr: 4.0 / (4.0 + snr)),
    "sigmoid": (Sigmoid(bias=-1.0), lambda snr: 1 / (1 + snr * torch.e)),
    "v_loss": (VLoss(), lambda snr: (snr + 1) / snr),
    "x_loss": (XLoss(), lambda snr: 1 / snr),
    "u_loss": (ULoss(), lambda snr: (1 + snr**-0.5) ** 2),
    "p2": (P2(k=2.0, gamma=1.5), lambda snr: (2.0 + snr) ** -1.5),
    "edm": (Edm(sigma_data=0.4), lambda snr: (1 / snr + 0.4**2) / 0.4**2),
}

SAMPLERS = {
    "ancestral": {"DDPM": Ancestral(), "simple diffusion": Ancestral(gamma=0.3), "half": Ancestral(eta=0.5)},
    "ddim": {"DDIM": Ddim()},
    "heun": {"Heun": Heun()},
    "dpm_solver_pp": {"DPM++ 2M": DpmSolverPP(), "DPM++ 2M SDE": DpmSolverPP(eta=1.0), "DPM++ 1": DpmSolverPP(order=1),
                      "DPM++ 2M half, to the end": DpmSolverPP(eta=0.5, lower_order_final=False)},
}


#: A function of z and λ as a denoiser under the variance-preserving process.
under_vp = partial(Denoiser, process=VP)


def flat(table):
    """The instances of a table of tables, as pytest parameters."""
    return [pytest.param(example, id=name) for examples in table.values() for name, example in examples.items()]


class FakeNetwork(nn.Module):
    """A fixed nonlinear network whose every output pixel depends on its neighbours and on λ."""

    def forward(self, z, logsnr, labels=None):
        around = torch.roll(z, 1, dims=-1) - 0.5 * torch.roll(z, 1, dims=-2)
        scale = 0.5 + 0.3 * torch.tanh(logsnr / 7).reshape(-1, 1, 1, 1)
        return torch.sin(2 * scale * z) + 0.3 * torch.cos(around)
