import pytest
import torch
from scipy import stats

from examples import UNLIMITED
from snrise._errors import SnriseError
from snrise.levels import Levels
from snrise.schedules import Cosine, FlowMatching, LogNormal, Shifted, UniformLogSnr, density


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_stratified_puts_one_time_in_each_part(count):
    for seed in range(5):
        times = Cosine().inverse(Levels(schedule=Cosine())(count, generator(seed)).logsnr)
        edges = torch.arange(count) / count
        assert (times >= edges - 1e-6).all()
        assert (times <= edges + 1 / count + 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [True, False])
def test_times_are_uniform(stratified):
    """By Kolmogorov and Smirnov, one time of each batch so that the parts do not make it too even."""
    levels, source = Levels(schedule=Cosine(), stratified=stratified), generator()
    pick = torch.randint(8, (2000,), generator=generator(1)).tolist()
    times = torch.stack([Cosine().inverse(levels(8, source).logsnr)[i] for i in pick])
    assert stats.kstest(times.numpy(), "uniform").pvalue > 0.01


def test_stratified_batches_have_a_steadier_mean():
    def spread(stratified):
        levels, source = Levels(schedule=Cosine(), stratified=stratified), generator()
        return torch.stack([levels(32, source).logsnr.mean() for _ in range(200)]).std()

    assert spread(True) < 0.3 * spread(False)


@pytest.mark.parametrize(("schedule", "like"), [
    (UniformLogSnr(), Cosine()), (Cosine(), Shifted(base=Cosine(), factor=2.0)), (LogNormal(), Cosine()),
    (UniformLogSnr(logsnr_min=-25.0, logsnr_max=25.0), FlowMatching()),
])
def test_importance_keeps_the_expected_loss(schedule, like):
    """E[importance·f(λ)] over the draws is ∫ f(λ) p_like(λ) dλ."""
    def loss(logsnr):
        return torch.sigmoid(logsnr) * (2 + torch.sin(logsnr))

    high, low = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64)).clamp(-40, 40).tolist()
    logsnr = torch.linspace(low, high, 100_001, dtype=torch.float64)
    wanted = torch.trapezoid(loss(logsnr) * density(like, logsnr), logsnr).item()
    drawn = Levels(schedule=schedule, like=like)(100_000, generator())
    got = drawn.importance * loss(drawn.logsnr)
    assert got.mean().item() == pytest.approx(wanted, rel=1e-3)
    plain = loss(drawn.logsnr).mean().item()
    assert abs(plain - wanted) > 0.01 * wanted


def test_importance_is_one_without_a_wish():
    drawn = Levels(schedule=Cosine(), like=Cosine())(5, generator())
    assert drawn.importance.tolist() == [1.0] * 5


def test_importance_at_an_infinite_end(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.zeros(count))
    for like in (Cosine(), FlowMatching()):
        drawn = Levels(schedule=UNLIMITED, like=like, stratified=False)(3)
        assert drawn.logsnr.tolist() == [torch.inf] * 3
        assert drawn.importance.tolist() == [0.0] * 3


def test_the_same_generator_draws_the_same():
    levels = Levels(schedule=Cosine())
    torch.testing.assert_close(levels(9, generator(3)), levels(9, generator(3)), rtol=0, atol=0)
    assert not torch.equal(levels(9, generator(3)).logsnr, levels(9, generator(4)).logsnr)


def test_errors():
    with pytest.raises(SnriseError, match=r"Levels\.count: got 0; allowed: a whole number above 0"):
        Levels(schedule=Cosine())(0)
