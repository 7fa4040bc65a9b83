"""Averages of any width, from two that were kept."""

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.checkpoint import checkpoints as snapshots
from snrise.optimizers import AdamW
from snrise.training import Ema, Power, TrainState, load_latest, save_state
from snrise.training.averages import Profile, _product, average, forget_later, save_averages, shares
from tiny import config, run, state_of

KEPT = (Power(0.05), Power(0.1))


def profile(p, seen):
    """The weight of θ(seen) in an average, by its definition."""
    gamma, end = p.power.gamma, p.images_seen
    return (gamma + 1) * seen**gamma / end ** (gamma + 1) if seen <= end else 0.0


@given(width=st.floats(0.01, 0.28))
def test_the_width_is_the_standard_deviation_over_the_images_seen(width):
    p = Profile(Power(width), 1)
    mean, square = (
        quad(lambda t, k=k: t**k * profile(p, t), 0, 1, epsabs=1e-13, points=[0.9, 0.99])[0] for k in (1, 2)
    )
    assert quad(lambda t: profile(p, t), 0, 1, points=[0.9, 0.99])[0] == pytest.approx(1)
    assert (square - mean**2) ** 0.5 == pytest.approx(width, rel=1e-5)


@pytest.mark.parametrize(("width", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_the_exponents_are_those_of_the_paper(width, gamma):
    assert Power(width).gamma == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_updates_weigh_by_the_power_of_the_images_seen(batch):
    """Of weights that stand for the images seen, the average is (γ+1)/(γ+2) of them in the limit of small steps."""
    layer, power = nn.Linear(1, 1, bias=False), Power(0.1)
    ema, steps = Ema(layer, power), 8000 // batch
    for step in range(1, steps + 1):
        nn.init.constant_(layer.weight, step / steps)
        ema.update(layer, step * batch, batch)
    limit = (power.gamma + 1) / (power.gamma + 2)
    assert ema.parameters["weight"].item() == pytest.approx(limit, abs=2 * batch / 8000)


@given(
    widths=st.lists(st.floats(0.03, 0.28), min_size=2, max_size=2, unique=True),
    ends=st.lists(st.integers(1, 1000), min_size=2, max_size=2),
)
def test_products_of_profiles_are_integrals(widths, ends):
    a, b = (Profile(Power(width), end) for width, end in zip(widths, ends, strict=True))
    end = min(ends)
    points = [0.5 * end, 0.9 * end, 0.99 * end]
    found, _ = quad(lambda t: profile(a, t) * profile(b, t), 0, end, epsabs=0, epsrel=1e-10, points=points, limit=200)
    assert _product(a, b) == pytest.approx(found, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("width", "most"), [(0.04, 1e-5), (0.06, 1e-6), (0.15, 1e-5), (0.2, 1e-4)])
def test_the_profile_of_another_width_is_nearly_a_sum_of_those_kept(width, most):
    kept = [Profile(power, seen) for seen in range(500, 20_001, 500) for power in KEPT]
    wanted = Profile(Power(width), 20_000)
    found = shares(kept, wanted).tolist()
    times = torch.linspace(100, 20_000, 400).tolist()
    made = [sum(s * profile(p, t) for s, p in zip(found, kept, strict=True)) for t in times]
    aim = [profile(wanted, t) for t in times]
    assert sum(found) == pytest.approx(1, abs=1e-9)
    error = sum((a - b) ** 2 for a, b in zip(made, aim, strict=True)) / sum(b**2 for b in aim)
    assert error < most


def trained_on(folder, powers, steps=400, every=25, batch=10):
    """A run whose one weight wanders; its averages are written down every so many steps."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(1, 1, bias=False)
    state = TrainState(
        network=layer, ema=Ema(layer, 0), optimizer=AdamW()(layer), powers=tuple(Ema(layer, p) for p in powers),
    )
    value = 0.0
    for step in range(1, steps + 1):
        value += float(torch.randn(1, generator=generator))
        nn.init.constant_(layer.weight, value)
        state.images_seen += batch
        for ema in state.powers:
            ema.update(layer, state.images_seen, batch)
        if step % every == 0 and folder is not None:
            save_averages(state, folder)
    return state


@pytest.mark.parametrize("width", [0.05, 0.06, 0.15])
def test_what_is_put_together_is_what_would_have_been_kept(width, tmp_path):
    trained_on(tmp_path, KEPT)
    kept = trained_on(None, [Power(width)]).powers[0].parameters["weight"]
    walk = trained_on(None, KEPT).network.weight.item()
    assert abs(kept.item() - walk) > 0.5
    assert_close(average(tmp_path, width, 4000)["weight"], kept, rtol=0, atol=0.02)


def test_a_moment_between_uses_what_was_written_before_it(tmp_path):
    trained_on(tmp_path, KEPT)
    early = trained_on(None, KEPT, steps=200).powers[0].parameters["weight"]
    assert_close(average(tmp_path, 0.05, 2000)["weight"], early, rtol=2e-3, atol=1e-3)


def test_later_averages_are_forgotten_where_training_goes_on_from_earlier(tmp_path):
    trained_on(tmp_path, KEPT)
    forget_later(tmp_path, 1100)
    assert [int(file.stem) for file in snapshots(tmp_path)] == [250, 500, 750, 1000]


def test_frozen_parameters_are_in_no_average_of_a_power():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    assert set(Ema(network, Power(0.1)).parameters) == {"1.weight", "1.bias"}
    assert len(Ema(network, 100).parameters) == 4


def test_a_run_goes_on_with_its_averages_exactly(tmp_path):
    settings = config("training.averages=[0.05,0.1]")
    whole = state_of(settings, 3)
    run(whole, settings)
    first = state_of(settings, 3)
    run(first, settings, steps=4)
    save_state(first, tmp_path, "")
    second = state_of(settings, 3)
    load_latest(second, tmp_path)
    run(second, settings)
    for mine, theirs in itertools.zip_longest(second.powers, whole.powers):
        assert mine.parameters.keys() == theirs.parameters.keys()
        assert all(torch.equal(mine.parameters[name], theirs.parameters[name]) for name in mine.parameters)
        assert not torch.equal(mine.parameters["conditioning.label.table.weight"], whole.ema.parameters[
            "conditioning.label.table.weight"])


def test_a_checkpoint_without_averages_is_refused_by_a_run_that_keeps_some(tmp_path):
    save_state(state_of(config(), 3), tmp_path, "")
    with pytest.raises(SnriseError, match="got 'no powers'; allowed: a checkpoint of this config"):
        load_latest(state_of(config("training.averages=[0.05,0.1]"), 3), tmp_path)


def test_without_averages_there_are_none_to_put_together(tmp_path):
    wanted = f"{tmp_path}: got 'no averages'; allowed: those that a run keeps with its checkpoints"
    with pytest.raises(SnriseError, match=f"^{re.escape(wanted)}.*training.averages"):
        average(tmp_path, 0.05, 1000)
    (tmp_path / "000000000010.safetensors").write_bytes(b"torn")
    with pytest.raises(SnriseError, match="not a whole file of averages"):
        average(tmp_path, 0.05, 1000)


@pytest.mark.parametrize("width", [0.0, 0.3, -1.0])
def test_a_width_that_no_power_has_is_refused(width):
    with pytest.raises(SnriseError, match=r"Power\.width: got .*allowed: a number above 0, below 0\.289"):
        Power(width)
