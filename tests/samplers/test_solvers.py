"""Heun and DPM-Solver++: what they are the same as, and diffusers' schedulers of their names."""

import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler

from examples import PROCESSES, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.denoisers import Denoiser, from_network
from snrise.process import Prediction, Target, VarianceExploding, VariancePreserving
from snrise.samplers import Ancestral, Ddim, DpmSolverPP, Heun, Karras, generators, last, uniform_time
from snrise.schedules import Cosine

GRID = Karras()(Cosine(logsnr_min=-5.0, logsnr_max=7.0), 9)
TO_THE_IMAGE = torch.cat([GRID, GRID.new_full((1,), torch.inf)])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def follow(sampler, denoise, z, grid):
    return torch.stack(list(sampler(denoise, z, grid, generators(7, 0, len(z)))))


# Identities


@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("grid", [GRID, TO_THE_IMAGE], ids=["finite", "to the image"])
def test_order_1_is_ancestral_sampling(process, grid):
    z, denoise = noise(2, 3, 4, 4), from_network(FakeNetwork(), Target(Prediction.X, process))
    for eta in (0.0, 0.5, 1.0):
        found = follow(DpmSolverPP(order=1, eta=eta), denoise, z, grid)
        assert torch.equal(found, follow(Ancestral(eta=eta), denoise, z, grid))
        assert torch.equal(found, follow(Ddim(), denoise, z, grid)) == (eta == 0)


@pytest.mark.parametrize("sampler", [Heun(), DpmSolverPP(lower_order_final=False)], ids=["Heun", "2M"])
def test_with_an_unchanging_answer_the_second_order_is_the_first(sampler):
    z, image = noise(2, 3, 4, 4), noise(1, 3, 4, 4, seed=1)
    constant = under_vp(lambda z, logsnr: image.expand(2, 3, 4, 4))
    torch.testing.assert_close(
        follow(sampler, constant, z, GRID), follow(Ddim(), constant, z, GRID)
    )


@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("kind", [Heun, DpmSolverPP, Ddim])
def test_the_image_does_not_depend_on_the_process(kind, process):
    """z/α obeys one equation under all of them; a network that is told z/α cannot know which it is."""
    network = FakeNetwork()

    def sample(process):
        def denoise(z, logsnr):
            return network(z / process.alpha_sigma(logsnr)[0].reshape(-1, 1, 1, 1) / 12, logsnr)

        z = process.alpha_sigma(TO_THE_IMAGE[0])[0] * noise(2, 3, 4, 4) * 12
        return last(kind()(Denoiser(denoise, process), z, TO_THE_IMAGE))

    torch.testing.assert_close(sample(process), sample(VariancePreserving()))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_last_step_is_of_lower_order_if_wanted_and_always_into_infinity(eta):
    z, denoise = noise(2, 3, 4, 4), from_network(FakeNetwork(), Prediction.X)
    for grid in (GRID, TO_THE_IMAGE):
        lower, full = (follow(DpmSolverPP(eta=eta, lower_order_final=way), denoise, z, grid) for way in (True, False))
        assert torch.equal(lower[:-1], full[:-1])
        assert torch.equal(lower[-1], full[-1]) == (grid is TO_THE_IMAGE)


def test_a_first_step_out_of_pure_noise_is_not_carried_on():
    """After a step of infinite length x̂ is taken as it is."""
    grid = uniform_time(Cosine(logsnr_min=None, logsnr_max=None), 5)
    z, denoise = noise(2, 3, 4, 4), from_network(FakeNetwork(), Prediction.X)
    assert torch.equal(follow(DpmSolverPP(), denoise, z, grid)[:3], follow(Ddim(), denoise, z, grid)[:3])


@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize("fall", [3.9, 4.1, 100.0])
def test_heun_is_heuns_method_in_one_of_two_coordinates(process, fall):
    """For z/α over s = σ/α, or in a long step for z/σ over 1/s, written as the textbook does."""
    grid = torch.tensor([-3.0, 0.0, 1.0], dtype=torch.float64)
    grid[1] = grid[0] + 2 * math.log(fall)
    grid[2] = grid[1] + 1
    z, denoise = noise(2, 3, 4, 4), from_network(FakeNetwork(), Target(Prediction.X, process))
    alpha, sigma = process.alpha_sigma(grid)

    def textbook(y, u, slope):
        first = slope(y, 0)
        second = slope(y + (u[1] - u[0]) * first, 1)
        return y + (u[1] - u[0]) * (first + second) / 2

    def x(z, at):
        return denoise(z, grid[at].expand(2))

    if fall < 4:
        s = sigma / alpha
        wanted = alpha[1] * textbook(z / alpha[0], s, lambda y, at: (y - x(alpha[at] * y, at)) / s[at])
    else:
        wanted = sigma[1] * textbook(z / sigma[0], alpha / sigma, lambda w, at: x(sigma[at] * w, at))
    torch.testing.assert_close(follow(Heun(), denoise, z, grid)[1], wanted)


def test_heun_out_of_pure_noise():
    """σ z + α·(the mean of both answers)."""
    grid = torch.tensor([-torch.inf, -1.0, 1.0], dtype=torch.float64)
    z, denoise = noise(2, 3, 4, 4), from_network(FakeNetwork(), Prediction.X)
    alpha, sigma = VariancePreserving().alpha_sigma(grid[1])
    first = denoise(z, grid[:1].expand(2))
    second = denoise(sigma * z + alpha * first, grid[1:2].expand(2))
    torch.testing.assert_close(follow(Heun(), denoise, z, grid)[1], sigma * z + alpha * (first + second) / 2)


# Against diffusers


def as_theirs(theirs, sigmas):
    """Their scheduler made to stop where ours does."""
    theirs.set_timesteps(len(sigmas) - 1)
    theirs.sigmas = sigmas.float()
    theirs.timesteps = torch.arange(len(sigmas) - 1, 0, -1).float()
    theirs.num_inference_steps = len(theirs.timesteps)
    return theirs


@pytest.mark.parametrize("grid", [GRID, TO_THE_IMAGE], ids=["finite", "to the image"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
def test_dpm_solver_equals_diffusers(algorithm, eta, order, lower, grid):
    end = "zero" if grid is TO_THE_IMAGE else "sigma_min"
    theirs = DPMSolverMultistepScheduler(
        algorithm_type=algorithm, solver_order=order, solver_type="midpoint", prediction_type="sample",
        lower_order_final=False, euler_at_final=lower, final_sigmas_type=end,
    )
    as_theirs(theirs, torch.exp(-grid / 2))
    denoise, z, source = from_network(FakeNetwork(), Prediction.X), noise(2, 3, 4, 4), torch.Generator()
    sampler = DpmSolverPP(order=order, eta=eta, lower_order_final=lower)
    states = sampler(denoise, z, grid, source.manual_seed(3))
    for timestep, logsnr, state in zip(theirs.timesteps, grid, states, strict=False):
        torch.testing.assert_close(state, z, rtol=1e-4, atol=1e-4)
        drawn = torch.randn(z.shape, generator=torch.Generator().manual_seed(int(timestep)))
        z = theirs.step(denoise(z, logsnr.expand(2)), timestep, z, variance_noise=drawn.double()).prev_sample
        source.manual_seed(int(timestep))
    torch.testing.assert_close(next(states), z, rtol=1e-4, atol=1e-4)
    assert next(states, None) is None


def eps_of(denoise, process, z, logsnr):
    """What a network that predicts ε says of z/α."""
    alpha, sigma = process.alpha_sigma(logsnr)
    return (z - alpha * denoise(z, logsnr.expand(len(z)))) / sigma


@pytest.mark.parametrize("process", [VariancePreserving(), VarianceExploding()], ids=["vp", "ve"])
def test_heun_equals_diffusers(process):
    """Theirs is in EDM's coordinate, z/α, and takes the two halves of a step as two."""
    sigmas = torch.exp(-TO_THE_IMAGE / 2)
    doubled = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    theirs = as_theirs(HeunDiscreteScheduler(prediction_type="epsilon"), doubled)
    denoise = from_network(FakeNetwork(), Target(Prediction.X, process))
    alphas, _ = process.alpha_sigma(TO_THE_IMAGE)
    z = noise(2, 3, 4, 4)
    y, states = z / alphas[0], list(Heun()(denoise, z, TO_THE_IMAGE))
    for n, timestep in enumerate(theirs.timesteps):
        level = TO_THE_IMAGE[(n + 1) // 2]
        if n % 2 == 0:
            torch.testing.assert_close(states[n // 2], y * alphas[n // 2], rtol=1e-4, atol=1e-4)
        y = theirs.step(eps_of(denoise, process, y * process.alpha_sigma(level)[0], level), timestep, y).prev_sample
    torch.testing.assert_close(states[-1], y, rtol=1e-4, atol=1e-4)


def test_ddim_is_diffusers_euler():
    sigmas, process = torch.exp(-TO_THE_IMAGE / 2), VarianceExploding()
    theirs = as_theirs(EulerDiscreteScheduler(prediction_type="epsilon"), sigmas)
    denoise, z = from_network(FakeNetwork(), Target(Prediction.X, process)), noise(2, 3, 4, 4)
    states = Ddim()(denoise, z, TO_THE_IMAGE)
    next(states)
    for timestep, level, state in zip(theirs.timesteps, TO_THE_IMAGE[:-1], states, strict=True):
        z = theirs.step(eps_of(denoise, process, z, level), timestep, z).prev_sample
        torch.testing.assert_close(state, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: DpmSolverPP(order=3), r"DpmSolverPP\.order: got 3; allowed: 1 or 2"),
    (lambda: DpmSolverPP(eta=-1.0), r"DpmSolverPP\.eta: got -1\.0; allowed: a number in \[0, 1\]"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
