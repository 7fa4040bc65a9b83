import gc
import weakref

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from examples import PROCESSES, SAMPLERS, UNLIMITED, FakeNetwork, flat, under_vp
from snrise._errors import SnriseError
from snrise.denoisers import Denoiser, from_network, gaussian, ideal
from snrise.process import VP, Prediction
from snrise.samplers import Ancestral, Ddim, DpmSolverPP, Heun, generators, last, normal_like, start, uniform_time
from snrise.schedules import Cosine, LinearBeta, Tabulated, ZeroTerminalSnr

every_sampler = pytest.mark.parametrize("sampler", flat(SAMPLERS))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What every sampler does


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_states(sampler, dtype):
    grid, z = uniform_time(Cosine(), 5), noise(2, 3, 4, 6).to(dtype)
    asked, states, first = [], [], []

    @under_vp
    def denoise(z, logsnr):
        asked.append((z, logsnr))
        return 0.5 * z

    for state in sampler(denoise, z, grid, generators(0, 0, 2)):
        states.append(state)
        first.append(len(asked))
    assert len(states) == 6
    assert states[0] is z
    assert all(state.shape == z.shape and state.dtype == dtype for state in states)
    assert all(state.isfinite().all() for state in states)
    # Each step begins with a question about the state that was yielded, and the network is told λ in float32 at least.
    assert all(asked[n][0] is state for n, state in zip(first[:-1], states[:-1], strict=True))
    levels = torch.stack([asked[n][1] for n in first[:-1]])
    torch.testing.assert_close(levels[:, 0].double(), grid[:-1], rtol=1e-6, atol=1e-6)
    assert all(question.dtype == dtype for question, _ in asked)
    assert len(asked) == sampler.evaluations(5)


@every_sampler
def test_one_step_is_one_evaluation(sampler):
    """In the last step nobody asks twice."""
    asked = []
    grid, z = torch.tensor([-3.0, 3.0]), noise(1, 1, 2, 2)
    last(sampler(under_vp(lambda z, logsnr: asked.append(z) or 0 * z), z, grid, generators(0, 0, 1)))
    assert len(asked) == sampler.evaluations(1) == 1


@every_sampler
@pytest.mark.parametrize(("grid", "message"), [
    (torch.tensor([1.0]), r"sampler\.logsnrs: got \(1,\); allowed: \[steps \+ 1\], 2 values or more"),
    (torch.zeros(2, 2), r"sampler\.logsnrs: got \(2, 2\)"),
    (torch.tensor([1.0, 0.0]), r"sampler\.logsnrs: got 'values that do not increase'; .*from the noisy end up"),
    (torch.tensor([0.0, 1.0, 1.0]), r"do not increase"),
    (torch.tensor([0.0, torch.nan]), r"do not increase"),
])
def test_bad_grids(sampler, grid, message):
    with pytest.raises(SnriseError, match=message):
        list(sampler(under_vp(lambda z, logsnr: z), torch.zeros(1, 1, 2, 2), grid))


@every_sampler
def test_an_image_does_not_depend_on_its_batch(sampler):
    grid, count = uniform_time(Cosine(), 4), 8
    denoise = from_network(FakeNetwork(), Prediction.V)

    def sample(batch):
        parts = []
        for first in range(0, count, batch):
            sources = generators(5, first, min(batch, count - first))
            z = start(denoise, (len(sources), 3, 4, 4), grid[0], sources)
            parts.append(last(sampler(denoise, z, grid, sources)))
        return torch.cat(parts)

    whole = sample(8)
    torch.testing.assert_close(sample(1), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sample(3), whole, rtol=1e-6, atol=1e-6)
    assert (whole[0] - whole[1]).abs().mean() > 0.05


@every_sampler
def test_the_same_seed_is_the_same_image(sampler):
    grid = uniform_time(Cosine(), 3)

    def sample(seed):
        sources = generators(seed, 0, 2)
        denoise = under_vp(lambda z, logsnr: 0.5 * z)
        return last(sampler(denoise, start(denoise, (2, 3, 4, 4), grid[0], sources), grid, sources))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@every_sampler
@pytest.mark.parametrize("schedule", [ZeroTerminalSnr(base=LinearBeta()), UNLIMITED], ids=["zero SNR", "unlimited"])
@pytest.mark.parametrize("prediction", [Prediction.V, Prediction.X, Prediction.U])
def test_infinite_ends_make_no_nan(sampler, schedule, prediction):
    grid = uniform_time(schedule, 6)
    assert grid[0] == -torch.inf
    assert grid[-1] > 9
    denoise = from_network(FakeNetwork(), prediction)
    z = start(denoise, (2, 3, 4, 4), grid[0], generators(0, 0, 2))
    torch.testing.assert_close(z, normal_like(z, generators(0, 0, 2)))
    for state in sampler(denoise, z, grid, generators(1, 0, 2)):
        assert state.isfinite().all()


@every_sampler
def test_the_one_image_of_a_data_set_is_found(sampler):
    data = noise(1, 3, 4, 4).clamp(-1, 1)
    grid = uniform_time(UNLIMITED, 8)
    found = last(sampler(ideal(data), noise(2, 3, 4, 4, seed=1), grid, generators(0, 0, 2)))
    torch.testing.assert_close(found, data.expand(2, 3, 4, 4), rtol=1e-6, atol=1e-6)


# On a Gaussian, where the answer is known


MEAN, VARIANCE = 0.4, 0.3
DATA = torch.tensor([MEAN, VARIANCE], dtype=torch.float64)


def moments(process, logsnr):
    """Mean and standard deviation of z at λ, of pixels whose mean and variance are known."""
    alpha, sigma = process.alpha_sigma(logsnr)
    return alpha * MEAN, (alpha**2 * VARIANCE + sigma**2).sqrt()


def slopes(errors, steps):
    return torch.stack(errors).log().diff() / torch.tensor(steps).log().diff()


@pytest.mark.slow
@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize(("kind", "settings", "order", "error"), [
    (Ddim, {}, 1, 0.02), (Heun, {}, 2, 4e-3), (DpmSolverPP, {}, 2, 4e-3),
    (DpmSolverPP, {"lower_order_final": False}, 2, 4e-3), (DpmSolverPP, {"order": 1}, 1, 0.02),
], ids=["DDIM", "Heun", "2M", "2M to the end", "1M"])
def test_order_of_convergence(process, kind, settings, order, error):
    """Along the ODE a Gaussian keeps z's distance from its mean in standard deviations."""
    sampler, z = kind(**settings), noise(2, 1, 4, 4)
    denoise = gaussian(*DATA, process)
    steps, errors = [64, 128, 256], []
    for count in steps:
        grid = torch.linspace(-4, 5, count + 1, dtype=torch.float64)
        (mean_0, std_0), (mean_1, std_1) = moments(process, grid[0]), moments(process, grid[-1])
        found = last(sampler(denoise, mean_0 + std_0 * z, grid))
        errors.append((found - mean_1 - std_1 * z).abs().max())
    assert errors[-1] < error
    assert slopes(errors, steps)[-1].item() == pytest.approx(-order, abs=0.15)


def exact_moments(sampler, process, grid, monkeypatch):
    """Mean and standard deviation of what a sampler makes of a Gaussian, without drawing anything.

    All it does to one is linear. So pixel 0 begins at the mean and gets no noise; pixel 1 begins a standard deviation
    away; pixel 2 + n gets noise of 1 in step n alone. Their distances from pixel 0 are the parts of the deviation.
    """
    count, drawn = len(grid) - 1, []
    mean, std = moments(process, grid[0])
    z = torch.zeros(1, 1, 1, count + 2, dtype=torch.float64) + mean
    z[..., 1] += std

    def one_at_a_time(like, generator):
        ones = torch.zeros_like(like)
        ones[..., 2 + len(drawn)] = 1
        drawn.append(ones)
        return ones

    monkeypatch.setattr("snrise.samplers.steps.normal_like", one_at_a_time)
    found = last(sampler(gaussian(*DATA, process), z, grid)).flatten()
    assert len(drawn) == count
    return found[0], (found[1:] - found[0]).square().sum().sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("process", flat(PROCESSES))
@pytest.mark.parametrize(("kind", "settings", "order"), [
    (Ancestral, {"eta": 1.0}, 1), (Ancestral, {"eta": 0.5}, 1), (Ancestral, {"eta": 1.0, "gamma": 0.3}, 1),
    (DpmSolverPP, {"eta": 1.0}, 2), (DpmSolverPP, {"eta": 0.5}, 2),
], ids=["DDPM", "half", "large variance", "2M SDE", "2M half"])
def test_weak_order_of_convergence(process, kind, settings, order, monkeypatch):
    """The moments of what is sampled go to those of the data as the order says; there is no chance in it."""
    steps, errors = [64, 128, 256], []
    for count in steps:
        grid = torch.linspace(-4, 5, count + 1, dtype=torch.float64)
        mean, std = exact_moments(kind(**settings), process, grid, monkeypatch)
        wanted_mean, wanted_std = moments(process, grid[-1])
        # The mean's way is exact: what it is denoised to never changes.
        torch.testing.assert_close(mean, wanted_mean)
        errors.append((std - wanted_std).abs())
    assert errors[-1] < (5e-3, 5e-5)[order - 1]
    assert slopes(errors, steps)[-1].item() == pytest.approx(-order, abs=0.1)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("process", flat(PROCESSES))
def test_ancestral_sampling_gives_the_right_distribution(process, eta):
    mean, variance, count = 0.4, 0.3, 40_000
    grid = torch.linspace(-6, 6, 201, dtype=torch.float64)
    alpha, sigma = process.alpha_sigma(grid[[0, -1]])
    z = alpha[0] * mean + (alpha[0] ** 2 * variance + sigma[0] ** 2).sqrt() * noise(1, 1, 200, 200)
    denoise = gaussian(torch.tensor(mean), torch.tensor(variance), process)
    found = last(Ancestral(eta=eta)(denoise, z, grid, torch.Generator().manual_seed(1)))
    wanted = (alpha[1] ** 2 * variance + sigma[1] ** 2).item()
    # Four standard errors, and the bias of 200 steps.
    assert found.var().item() == pytest.approx(wanted, rel=4 * (2 / count) ** 0.5 + 0.02)
    assert found.mean().item() == pytest.approx(alpha[1].item() * mean, abs=4 * (wanted / count) ** 0.5 + 0.01)


def test_ddim_is_ancestral_without_noise():
    grid, z = uniform_time(Cosine(), 5), noise(2, 3, 4, 4)
    denoise = from_network(FakeNetwork(), Prediction.V)
    assert torch.equal(last(Ddim()(denoise, z, grid)), last(Ancestral(eta=0.0)(denoise, z, grid)))


@pytest.mark.parametrize(("eta", "gamma"), [(1.0, 0.0), (1.0, 0.3), (0.5, 0.0)])
def test_noise_of_one_step(eta, gamma):
    """η²·variance^{1−γ}·(large variance)^γ, measured."""
    grid, z = torch.tensor([-2.0, 1.0], dtype=torch.float64), torch.zeros(1, 1, 200, 200, dtype=torch.float64)
    sampler = Ancestral(eta=eta, gamma=gamma)
    found = last(sampler(under_vp(lambda z, logsnr: 0 * z), z, grid, torch.Generator().manual_seed(0)))
    (_, sigma_t), (_, sigma_s) = VP.alpha_sigma(grid[0]), VP.alpha_sigma(grid[1])
    wanted = eta**2 * (1 - torch.exp(grid[0] - grid[1])) * sigma_s ** (2 - 2 * gamma) * sigma_t ** (2 * gamma)
    assert found.var().item() == pytest.approx(wanted.item(), rel=4 * (2 / 40_000) ** 0.5)


# Against diffusers


KINDS = {"epsilon": Prediction.EPS, "v_prediction": Prediction.V, "sample": Prediction.X}


def table_and_grid(theirs, timesteps):
    """Our λ at their timesteps, and λ = ∞ after the last, as their final α = 1."""
    a = theirs.alphas_cumprod.double()[timesteps]
    schedule = Tabulated.from_alphas_cumprod(theirs.alphas_cumprod)
    ours = schedule(timesteps.double() / (len(theirs.alphas_cumprod) - 1))
    torch.testing.assert_close(VP.alpha_sigma(ours)[0] ** 2, a)
    return torch.cat([ours, torch.tensor([torch.inf], dtype=torch.float64)])


@pytest.mark.parametrize("kind", list(KINDS))
def test_ddim_equals_diffusers(kind):
    theirs = DDIMScheduler(beta_schedule="scaled_linear", prediction_type=kind, clip_sample=False,
                           timestep_spacing="trailing", set_alpha_to_one=True)
    theirs.set_timesteps(10)
    grid, network, z = table_and_grid(theirs, theirs.timesteps), FakeNetwork(), noise(2, 3, 8, 8)
    ours = Ddim()(from_network(network, KINDS[kind]), z, grid)
    assert torch.equal(next(ours), z)
    for timestep, logsnr, state in zip(theirs.timesteps, grid[:-1], ours, strict=True):
        z = theirs.step(network(z, logsnr.expand(2)), timestep, z).prev_sample
        torch.testing.assert_close(state, z, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(("variance_type", "gamma"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_ddpm_equals_diffusers(kind, variance_type, gamma, monkeypatch):
    """Mean and variance of a step, with the same noise put into both; their large variance β_t is γ = 1."""
    theirs = DDPMScheduler(beta_schedule="linear", prediction_type=kind, clip_sample=False, variance_type=variance_type)
    network, z, drawn = FakeNetwork(), noise(2, 3, 8, 8), noise(2, 3, 8, 8, seed=9)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: drawn)
    monkeypatch.setattr("snrise.samplers.steps.normal_like", lambda *_: drawn)
    for timestep in (999, 500, 100, 2):
        grid = table_and_grid(theirs, torch.tensor([timestep, timestep - 1]))[:2]
        wanted = theirs.step(network(z, grid[:1].expand(2)), timestep, z).prev_sample
        ours = last(Ancestral(gamma=gamma)(from_network(network, KINDS[kind]), z, grid))
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


# The helpers


def test_last_holds_one_state():
    alive = []

    def states():
        for n in range(6):
            state = torch.full((1, 1, 1, 1), float(n))
            alive.append(weakref.ref(state))
            yield state
            del state
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1

    assert last(states()).item() == 5
    with pytest.raises(SnriseError, match=r"samplers\.last: got 'an iterator that yields nothing'"):
        last(iter(()))


def test_start_has_the_noise_of_its_process():
    logsnr = torch.tensor(-4.0)
    for process in (VP, *(p.values[0] for p in flat(PROCESSES))):
        z = start(Denoiser(torch.mul, process), (1, 1, 200, 200), logsnr, torch.Generator().manual_seed(0))
        sigma = process.alpha_sigma(logsnr)[1].item()
        assert z.dtype == torch.float32
        assert z.std().item() == pytest.approx(sigma, rel=0.02)


def test_generators_need_one_an_image():
    with pytest.raises(SnriseError, match=r"sampler\.generator: got '3 generators'; allowed: one for each of 2 images"):
        normal_like(torch.zeros(2, 1, 1, 1), generators(0, 0, 3))


def test_generators_differ_by_image_and_seed():
    drawn = {torch.randn(1, generator=g).item() for seed in range(10) for g in generators(seed, 0, 20)}
    assert len(drawn) == 200


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Ancestral(eta=1.5), r"Ancestral\.eta: got 1\.5; allowed: a number in \[0, 1\]"),
    (lambda: Ancestral(gamma=-0.1), r"Ancestral\.gamma: got -0\.1; allowed: a number in \[0, 1\]"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()


# The process


@every_sampler
@pytest.mark.parametrize("process", flat(PROCESSES))
def test_the_process_is_the_denoisers(sampler, process):
    """Start and steps are of the process that the denoiser says, and nothing else tells them: the image is found."""
    data, grid = noise(1, 1, 4, 4).clamp(-1, 1), uniform_time(Cosine(logsnr_min=-15.0, logsnr_max=None), 8)
    denoise = ideal(data, process)
    z = start(denoise, (2, 1, 4, 4), grid[0], generators(0, 0, 2)).double()
    torch.testing.assert_close(z.std().item(), process.alpha_sigma(grid[0])[1].item(), rtol=0.3, atol=0)
    found = last(sampler(denoise, z, grid, generators(0, 0, 2)))
    torch.testing.assert_close(found, data.expand(2, 1, 4, 4), rtol=1e-6, atol=1e-6)
