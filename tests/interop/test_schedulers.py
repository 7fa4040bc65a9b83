"""Schedules in diffusers: the λ of their entries, training by them and sampling by them."""

import pytest
import torch
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.denoisers import from_network, gaussian
from snrise.interop import SCHEDULERS, Scheduler, betas_of, flow_sigmas, from_diffusers, to_diffusers
from snrise.process import VP, Prediction, Straight, Target, diffuse
from snrise.samplers import Ddim, DpmSolverPP, Trailing, last
from snrise.schedules import (
    Cosine,
    FlowMatching,
    LinearBeta,
    Shifted,
    Tabulated,
    UniformLogSnr,
    ZeroTerminalSnr,
    for_resolution,
)

diffusers = pytest.importorskip("diffusers")

SCHEDULES = {
    "shifted": for_resolution(Cosine(), (256, 256)),
    "limits that stay": for_resolution(Cosine(), (512, 512), ends="stay"), "beta": LinearBeta(),
    "zero": ZeroTerminalSnr(base=LinearBeta()),
}
TABLES = [kind for kind in Scheduler if kind is not Scheduler.FLOW_EULER]
MEAN, DEVIATION = 0.3, 0.5


def logsnrs_of(scheduler):
    a = scheduler.alphas_cumprod.double()
    return torch.log(a) - torch.log1p(-a)


@pytest.mark.parametrize("steps", [100, 1000])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", TABLES)
def test_entries_have_the_schedules_log_snr(kind, name, steps):
    """To what float32 keeps of α²: half a unit of 6e-8 of 1 − α²."""
    made, t = to_diffusers(SCHEDULES[name], kind, steps=steps), torch.linspace(0, 1, steps, dtype=torch.float64)
    assert type(made).__name__ == SCHEDULERS[kind]
    wanted = SCHEDULES[name](t)
    kept = wanted.abs() < 16.5  # float32 knows none between 16.6 and ∞; the solver's end is not −∞
    error = (logsnrs_of(made) - wanted).abs()[kept]
    assert (error <= 1.2e-7 / torch.sigmoid(-wanted[kept]) + 1e-4).all()
    assert len(made.alphas_cumprod) == steps


def test_of_a_cosine_that_is_shifted_to_256_pixels():
    made = to_diffusers(SCHEDULES["shifted"])
    error = logsnrs_of(made) - SCHEDULES["shifted"](torch.linspace(0, 1, 1000, dtype=torch.float64))
    assert error.abs()[10:].max() < 2e-5
    assert error.abs().max() < 1.5e-3  # at λ = 12.2, where float32 cannot do better


@pytest.mark.parametrize("steps", [1000, 4000])
def test_rounding_does_not_add_up(steps):
    """Where β is below what float32 keeps of 1 − β, step after step."""
    schedule = UniformLogSnr()
    made, wanted = to_diffusers(schedule, steps=steps), schedule(torch.linspace(0, 1, steps, dtype=torch.float64))
    near = wanted.abs() < 12
    assert_close(logsnrs_of(made)[near], wanted[near], rtol=0, atol=6e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_there_and_back(name):
    found, t = from_diffusers(to_diffusers(SCHEDULES[name])), torch.linspace(0.05, 0.95, 7)
    assert_close(found(t), SCHEDULES[name](t), rtol=0, atol=2e-2)


def test_a_prediction_is_that_of_its_name():
    names = {"x": "sample", "eps": "epsilon", "v": "v_prediction"}
    for prediction, theirs in names.items():
        assert to_diffusers(Cosine(), prediction=prediction).config.prediction_type == theirs


@pytest.mark.parametrize("prediction", [Prediction.X, Prediction.EPS, Prediction.V])
@pytest.mark.parametrize(("kind", "sampler"), [
    (Scheduler.DDIM, Ddim()), (Scheduler.DPM_SOLVER, DpmSolverPP(order=2)),
])
@pytest.mark.parametrize("name", ["shifted", "zero"])
def test_samples_are_those_of_ours(kind, sampler, prediction, name):
    """Data of N(0.3, 0.25), whose best prediction is known: the same images, by their scheduler and by our sampler."""
    if name == "zero" and (prediction is Prediction.EPS or kind is Scheduler.DPM_SOLVER):
        pytest.skip("ε says nothing of x in pure noise; their solver has an end of its own")
    theirs, steps = to_diffusers(SCHEDULES[name], kind, prediction=prediction), 10  # a divisor: their DDIM rounds else
    theirs.set_timesteps(steps)
    ideal, target = gaussian(torch.tensor(MEAN), torch.tensor(DEVIATION).log() * 2), Target(prediction)
    z = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = Trailing()(Tabulated.from_alphas_cumprod(theirs.alphas_cumprod), steps)
    ours = last(sampler(ideal, z, grid))

    def network(z, logsnr):
        x = ideal(z, logsnr)
        alpha, sigma = VP.alpha_sigma(logsnr.clamp(-60, 60))
        return target(x, (z - alpha.view(-1, 1, 1, 1) * x) / sigma.view(-1, 1, 1, 1), logsnr)

    for timestep, logsnr in zip(theirs.timesteps, grid[:-1], strict=True):
        z = theirs.step(network(z, logsnr.expand(1)), timestep, z).prev_sample.double()
    assert_close(z, ours, rtol=1e-3, atol=1e-3)


def test_noise_is_added_as_ours():
    """What a training loop does with `add_noise` and `get_velocity`."""
    made, schedule = to_diffusers(SCHEDULES["shifted"], Scheduler.DDPM), SCHEDULES["shifted"]
    x, eps = torch.rand(4, 3, 4, 4), torch.randn(4, 3, 4, 4)
    timesteps = torch.tensor([0, 300, 700, 999])
    logsnr = schedule(timesteps.double() / 999).float()
    assert_close(made.add_noise(x, eps, timesteps), diffuse(x, eps, logsnr), rtol=1e-4, atol=1e-4)
    assert_close(made.get_velocity(x, eps, timesteps), Target(Prediction.V)(x, eps, logsnr), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 4.0])
@pytest.mark.parametrize("steps", [1, 10])
def test_flow_shifts_once(factor, steps):
    schedule = Shifted(base=FlowMatching(), factor=factor)
    made = to_diffusers(schedule, Scheduler.FLOW_EULER)
    made.set_timesteps(sigmas=flow_sigmas(schedule, steps))
    t = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    wanted = Straight().alpha_sigma(schedule(t))[1]
    assert_close(made.sigmas[:-1].double(), wanted, rtol=1e-5, atol=1e-6)
    assert made.sigmas[-1] == 0
    assert from_diffusers(made) == (FlowMatching() if factor == 1 else schedule)


def test_flow_of_another_schedule():
    made, schedule = diffusers.FlowMatchEulerDiscreteScheduler(), SCHEDULES["shifted"]
    made.set_timesteps(sigmas=flow_sigmas(schedule, 8))
    wanted = Straight().alpha_sigma(schedule(torch.linspace(1, 1 / 8, 8, dtype=torch.float64)))[1]
    assert_close(made.sigmas[:-1].double(), wanted, rtol=1e-5, atol=1e-6)


def test_flow_samples_are_eulers():
    """A step from σ to σ' adds (σ' − σ)u: on straight paths from one image that is exact at once."""
    schedule, x = Shifted(base=FlowMatching(), factor=4.0), torch.full((1, 3, 2, 2), 0.25)
    made, z = to_diffusers(schedule, Scheduler.FLOW_EULER), torch.randn(1, 3, 2, 2)
    made.set_timesteps(sigmas=flow_sigmas(schedule, 3))
    denoise = from_network(lambda z, logsnr, *_: x, Prediction.X)
    for sigma, timestep in zip(made.sigmas, made.timesteps, strict=False):
        z = made.step((z - denoise(z, torch.zeros(1))) / sigma, timestep, z).prev_sample
    assert_close(z, x)


def test_a_clean_end_is_the_last_number_below_one():
    """So that σ is nowhere 0, of which the solver takes the logarithm."""
    made = to_diffusers(LinearBeta(), Scheduler.DPM_SOLVER)
    assert made.alphas_cumprod[0] == 1 - 2**-24
    made.set_timesteps(10)


def test_betas_end_at_one_where_nothing_is_left():
    betas = betas_of(SCHEDULES["zero"])
    assert betas[-1] == 1
    assert 0 <= min(betas) <= max(betas[:-1]) < 1


@pytest.mark.parametrize(("make", "message"), [
    (lambda: to_diffusers(Cosine(), "dim"), r"^to_diffusers\.scheduler: no such .*'dim'; did you mean 'ddim'"),
    (lambda: to_diffusers(Cosine(), prediction="vv"), r"^to_diffusers\.prediction: no such .*'vv'; did you mean 'v'"),
    (lambda: to_diffusers(Cosine(), prediction="u"), r"^to_diffusers\.prediction: got 'u'; allowed: x, eps or v"),
    (lambda: to_diffusers(Cosine(), "flow_euler"),
     r"^to_diffusers\.schedule: got 'Cosine'; allowed: FlowMatching, or Shifted of it; take FlowMatchEuler"),
    (lambda: betas_of(Cosine(), 1), r"^betas_of\.steps: got 1; allowed: 2 or more"),
    (lambda: flow_sigmas(Cosine(), 0), r"^flow_sigmas\.steps: got 0; allowed: 1 or more"),
    (lambda: from_diffusers(3), r"^from_diffusers: got 'int without alphas_cumprod'; allowed: a scheduler of α²"),
    (lambda: from_diffusers(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)),
     r"^from_diffusers: got 'use_dynamic_shifting=True'; allowed: a shift that is a number"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
