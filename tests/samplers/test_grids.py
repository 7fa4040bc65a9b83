import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from torch.testing import assert_close

from examples import GRIDS, SCHEDULES, UNLIMITED, flat
from snrise._errors import SnriseError
from snrise.process import VP
from snrise.samplers import Karras, Trailing, uniform_logsnr, uniform_time
from snrise.schedules import Clipped, Cosine, LinearBeta, Tabulated, ZeroTerminalSnr

every_grid = pytest.mark.parametrize("grid", flat(GRIDS))


@every_grid
@pytest.mark.parametrize("schedule", flat(SCHEDULES))
def test_a_grid_goes_from_the_noisy_end_up(grid, schedule):
    try:
        found = grid(schedule, 12)
    except SnriseError as error:
        assert "finite ends" in str(error)
        return
    assert found.shape == (13,)
    assert found.dtype == torch.float64
    assert (found[1:] > found[:-1]).all()
    ends = schedule(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert_close(found[0], ends[0], rtol=1e-12, atol=1e-12)
    clean = torch.full_like(ends[1], torch.inf) if grid == Trailing() else ends[1]
    assert_close(found[-1], clean, rtol=1e-9, atol=1e-9)


@every_grid
def test_one_step_goes_all_the_way(grid):
    assert grid(Cosine(), 1)[0].item() == pytest.approx(-15)


@every_grid
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps(grid, steps):
    with pytest.raises(SnriseError, match=rf"^(uniform_time|uniform_logsnr|Karras|Trailing)\.steps: got {steps}"):
        grid(Cosine(), steps)


@pytest.mark.parametrize("schedule", [UNLIMITED, ZeroTerminalSnr(base=LinearBeta())], ids=["both ends", "noisy end"])
@pytest.mark.parametrize(("grid", "name"), [(uniform_logsnr, "uniform_logsnr"), (Karras(), "Karras")])
def test_infinite_ends_are_told_how_to_be_finite(grid, name, schedule):
    message = rf"^{name}\.schedule: got 'λ from -inf to .*'; allowed: finite ends; .*Clipped\("
    with pytest.raises(SnriseError, match=message):
        grid(schedule, 4)
    assert grid(Clipped(base=schedule, logsnr_min=-15, logsnr_max=9), 4).isfinite().all()


def test_uniform_time():
    assert_close(uniform_time(Cosine(), 4), Cosine()(torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)))
    assert_close(uniform_time(UNLIMITED, 2), torch.tensor([-torch.inf, 0.0, torch.inf], dtype=torch.float64))


def test_uniform_logsnr():
    assert_close(uniform_logsnr(Cosine(), 6).diff(), torch.full((6,), 5.0, dtype=torch.float64))


@pytest.mark.parametrize("rho", [7.0, 1.0, 3.0])
def test_karras_is_even_in_a_power_of_the_noise(rho):
    s = torch.exp(-Karras(rho=rho)(Cosine(), 9) / 2) ** (1 / rho)
    assert_close(s.diff(), (s[-1] - s[0]).expand(9) / 9)


def test_karras_equals_diffusers():
    """Theirs of n + 1 entries, before the 0 that they add."""
    theirs = EulerDiscreteScheduler(beta_schedule="scaled_linear", use_karras_sigmas=True, timestep_spacing="trailing")
    theirs.set_timesteps(11)
    table = Tabulated.from_alphas_cumprod(theirs.alphas_cumprod)
    # Their σ_min and σ_max are those of the entries that the trailing timesteps give.
    clean, noisy = (-2 * theirs.sigmas[i].double().log().item() for i in (-2, 0))
    ours = torch.exp(-Karras()(Clipped(base=table, logsnr_min=noisy, logsnr_max=clean), 10) / 2)
    assert_close(ours, theirs.sigmas[:-1].double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 7, 10, 50, 999, 1000])
@pytest.mark.parametrize("rescale", [False, True])
def test_trailing_equals_diffusers(steps, rescale):
    theirs = DDIMScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing", rescale_betas_zero_snr=rescale)
    theirs.set_timesteps(steps)
    grid = Trailing()(Tabulated.from_alphas_cumprod(theirs.alphas_cumprod), steps)
    wanted = theirs.alphas_cumprod[theirs.timesteps].double()
    assert_close(VP.alpha_sigma(grid[:-1])[0] ** 2, wanted, rtol=1e-5, atol=1e-9)
    assert grid[-1] == torch.inf
    assert grid[0].isinf() == rescale


def test_trailing_of_a_large_table_is_uniform_in_time():
    fine = Trailing(entries=10**7)(Cosine(), 8)
    assert_close(fine[:-1], uniform_time(Cosine(), 8)[:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Karras(rho=0.0), r"Karras\.rho: got 0\.0; allowed: a number above 0"),
    (lambda: Trailing(entries=1), r"Trailing\.entries: got 1; allowed: a whole number, 2 or more"),
    (lambda: Trailing(entries=5)(Cosine(), 6), r"Trailing\.steps: got 6; allowed: a whole number from 1 to entries=5"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=message):
        make()
