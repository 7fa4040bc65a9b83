import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.metrics import Moments, frechet, frechet_caution


def draw(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(n, mean, covariance, seed=0):
    """Features whose mean and covariance are exactly these."""
    x = draw(n, len(mean), seed)
    x = x - x.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False)
    return mean + (torch.linalg.cholesky(covariance) @ white).T


def by_covariances(a, b):
    """The formula of pytorch-fid and torch-fidelity, by scipy's square root."""
    covariances = [np.atleast_2d(np.cov(x.numpy(), rowvar=False)) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    gap = (a.mean(dim=0) - b.mean(dim=0)).numpy()
    return gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root.real)


def test_gaussians_with_known_moments():
    """Covariances that commute: Σ (σ_a − σ_b)². Of two 2×2 ones, tr M^½ = √(tr M + 2√det M)."""
    rotation = torch.linalg.qr(draw(3, 3, 5)).Q
    variances = torch.tensor([4.0, 1.0, 0.25]).double(), torch.tensor([1.0, 9.0, 0.01]).double()
    means = torch.tensor([1.0, 0.0, -2.0]).double(), torch.tensor([0.0, 0.5, 1.0]).double()
    a, b = (with_moments(n, m, rotation @ v.diag() @ rotation.T, n) for n, m, v in zip((20, 31), means, variances,
                                                                                     strict=True))
    wanted = (means[0] - means[1]).square().sum() + (variances[0].sqrt() - variances[1].sqrt()).square().sum()
    assert frechet(a, b) == pytest.approx(wanted.item(), rel=1e-12)
    s, t = torch.tensor([[2.0, 1.2], [1.2, 1.0]]).double(), torch.tensor([[0.5, -0.3], [-0.3, 3.0]]).double()
    product = s @ t
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    found = frechet(*(with_moments(9, torch.zeros(2).double(), c, i) for i, c in enumerate((s, t))))
    assert found == pytest.approx((s.trace() + t.trace() - 2 * root).item(), rel=1e-12)


def test_one_dimension():
    a, b = draw(7, 1, 1), 3 * draw(5, 1, 2) + 1
    wanted = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet(a, b) == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("n", [300, 30])
def test_equal_sets_are_at_no_distance_even_of_fewer_samples_than_dimensions(n):
    """The square root of a product of singular covariances keeps half of the digits: it is off by 1e-8 of the trace."""
    x = 100 * draw(n, 80, 1)
    trace = x.var(dim=0).sum().item()
    assert abs(frechet(x, x.flip(0))) < 1e-13 * trace
    assert abs(frechet(x, x + 2) - 80 * 4) < 1e-13 * trace


def test_fewer_samples_than_dimensions_is_right():
    """Features in a subspace are as far apart as their coordinates in it, of which there are enough samples."""
    a, b = draw(40, 6, 1), 2 * draw(30, 6, 2) + 0.5
    subspace = torch.linalg.qr(draw(90, 6, 3)).Q.T
    assert frechet(a @ subspace, b @ subspace) == pytest.approx(frechet(a, b), rel=1e-12)
    assert frechet(a, b) == pytest.approx(by_covariances(a, b), rel=1e-10)
    # Two samples each, on orthogonal lines: nothing is shared, and the traces add up.
    lines = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]).double()
    assert frechet(lines, 3 * lines.roll(1, dims=1)) == pytest.approx(2 + 18, rel=1e-14)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 70, 5), (200, 90, 40)])
def test_against_the_square_root_of_scipy(n, m, d):
    mix = torch.eye(d).double() + 0.3 * draw(d, d, 4) / d**0.5
    a, b = draw(n, d, 1), draw(m, d, 2) @ mix + 0.2
    assert frechet(a, b) == pytest.approx(by_covariances(a, b), rel=1e-9)


def test_against_torch_fidelity():
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = draw(90, 12, 1), 1.3 * draw(60, 12, 2) + 0.1
    theirs = metric_fid.fid_statistics_to_metric(*map(metric_fid.fid_features_to_statistics, (a, b)), verbose=False)
    assert frechet(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-8)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 12), m=st.integers(2, 12), d=st.integers(1, 8))
def test_what_leaves_it_as_it_is(seed, n, m, d):
    """Order of the sets and of samples, a rotation and a shift of both; it grows as the square of the scale."""
    a, b = draw(n, d, seed), draw(m, d, seed + 1) + 1
    value = frechet(a, b)
    rotation = torch.linalg.qr(draw(d, d, seed + 2)).Q
    same = pytest.approx(value, rel=1e-10, abs=1e-12)
    assert frechet(b, a) == same
    assert frechet(a.flip(0), b) == same
    assert frechet(a @ rotation + 3, b @ rotation + 3) == same
    assert frechet(5 * a, 5 * b) / 25 == same
    assert value > -1e-12


@pytest.mark.parametrize(("n", "rows"), [(50, 6), (4, 4)])
def test_moments_stand_for_features(n, rows):
    a, b = draw(n, 6, 1), draw(20, 6, 2) + 1
    kept = Moments.of(a.float())
    assert (kept.count, kept.factor.dtype, kept.factor.shape) == (n, torch.float64, (rows, 6))
    assert_close(kept.factor.T @ kept.factor, a.float().double().T.cov())
    assert_close(kept.mean, a.float().double().mean(dim=0))
    assert frechet(kept, b) == frechet(a.float(), Moments.of(b))


def test_few_samples_are_told():
    assert frechet_caution(2000, 1281, 1280) is None
    assert "1,280 samples for 1,280 dimensions" in frechet_caution(2000, 1280, 1280)
    assert frechet_caution(1280, 2000, 1280) == frechet_caution(2000, 1280, 1280)


def test_few_samples_are_biased():
    """Two sets of one distribution: why there is a caution."""
    few, many = (frechet(draw(n, 20, 1), draw(n, 20, 2)) for n in (15, 1500))
    assert few > 10 > 20 * many


@pytest.mark.parametrize(("a", "b", "message"), [
    (draw(1, 3, 0), draw(4, 3, 1), "frechet: got '1 samples'; allowed: 2 or more"),
    (draw(4, 3, 0), draw(4, 3, 1) / 0, "frechet: got 'features that are not finite'; allowed: finite numbers"),
    (draw(4, 3, 0), Moments.of(draw(4, 2, 1)),
     "frechet: got 'features of 3 and 2 numbers'; allowed: features of the same kind"),
])
def test_errors(a, b, message):
    with pytest.raises(SnriseError, match=f"^{message}"):
        frechet(a, b)
