import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.metrics import Prdc, nearest, neighbours, prdc


def draw(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lattice(n, seed):
    """Points of a small grid of whole numbers: many are equal, many distances too."""
    return torch.randint(0, 5, (n, 2), generator=torch.Generator().manual_seed(seed)).double()


def distance(p, q):
    return math.sqrt(sum((float(s) - float(t)) ** 2 for s, t in zip(p, q, strict=True)))


def by_loops(real, fake, k):
    """The definitions, one pair at a time."""

    def radius(points, i):
        return sorted(distance(points[i], q) for j, q in enumerate(points) if j != i)[k - 1]

    real_radius, fake_radius = ([radius(points, i) for i in range(len(points))] for points in (real, fake))
    in_real = np.array([[distance(p, f) <= r for p, r in zip(real, real_radius, strict=True)] for f in fake])
    in_fake = np.array([[distance(p, f) <= r for f, r in zip(fake, fake_radius, strict=True)] for p in real])
    return Prdc(in_real.any(1).mean(), in_fake.any(1).mean(), in_real.sum() / (k * len(fake)), in_real.any(0).mean())


@pytest.mark.parametrize("make", [lambda n, seed: draw(n, 3, seed), lattice], ids=["all apart", "many equal"])
@pytest.mark.parametrize(("n", "m", "k"), [(12, 17, 3), (20, 9, 2), (15, 15, 1)])
def test_against_loops(make, n, m, k):
    real, fake = make(n, n), make(m, m + 100)
    fake[:, 0] += 2
    found = prdc(real, fake, k)
    assert found == pytest.approx(by_loops(real, fake, k), rel=1e-14)
    assert 0 < min(found) < 1, "an example that tells the definitions apart"


def test_what_is_expected_of_equal_distributions():
    """Density 1; coverage 1 − (n−1)…(n−k) / (n+m−1)…(n+m−k): that no sample is among a point's k nearest others.

    Naeem et al. 2020, sec. 3.3.
    """
    n, m, k = 25, 15, 3
    found = torch.tensor([prdc(draw(n, 2, 2 * i), draw(m, 2, 2 * i + 1), k) for i in range(300)])
    coverage = 1 - math.comb(n - 1, k) / math.comb(n + m - 1, k)
    for column, expected in ((2, 1.0), (3, coverage)):
        values = found[:, column]
        error = values.std() / len(values) ** 0.5
        assert error < 0.02
        assert values.mean().item() == pytest.approx(expected, abs=4 * error.item())


def test_ways_to_fail():
    """Samples on one mode of two miss half of the data; samples outside are not precise; one outlier is no density."""
    modes = torch.cat([draw(60, 2, 1), draw(60, 2, 2) + 50])
    one = prdc(modes, draw(100, 2, 3), k=5)
    assert one.precision > 0.9
    assert one.density > 0.9
    assert 0.4 < one.coverage <= 0.5
    assert 0.4 < one.recall <= 0.55
    half_outside = prdc(modes[:60], torch.cat([draw(50, 2, 3), draw(50, 2, 4) - 50]), k=5)
    assert 0.4 < half_outside.precision <= 0.55
    # An outlier of the data has a wide ball: enough for precision, not for density.
    outlier = torch.cat([draw(60, 2, 1), torch.tensor([[30.0, 0.0]]).double()])
    around = prdc(outlier, draw(60, 2, 3) + torch.tensor([20.0, 0.0]), k=5)
    assert around.precision > 0.9
    assert around.density < 0.3


def test_equal_samples():
    """Balls of no size hold what lies at their centre."""
    points = draw(4, 3, 1).float().repeat(6, 1)
    assert prdc(points, points, k=5) == Prdc(1.0, 1.0, 6 / 5, 1.0)
    assert prdc(points, points + 1e-5, k=5) == Prdc(0.0, 0.0, 0.0, 0.0)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), n=st.integers(6, 20), m=st.integers(6, 20))
def test_what_leaves_them_as_they_are(seed, k, n, m):
    """Order and scale; the sets change places, precision and recall too; samples that are the data miss nothing."""
    real, fake = lattice(n, seed), lattice(m, seed + 1)
    found = prdc(real, fake, k)
    assert prdc(real.flip(0), fake.roll(1, 0), k) == pytest.approx(found)
    assert prdc(2 * real, 2 * fake, k) == pytest.approx(found)
    other = prdc(fake, real, k)
    assert (other.precision, other.recall) == (found.recall, found.precision)
    assert (found.coverage > 0) == (found.density > 0) == (found.precision > 0)
    same = prdc(real, real, k)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density >= (k + 1) / k


def test_the_k_nearest():
    features, references = draw(7, 4, 1), draw(30, 4, 2)
    found = nearest(features, references, k=3)
    for i, feature in enumerate(features):
        wanted = sorted((distance(feature, r), j) for j, r in enumerate(references))[:3]
        assert found.indices[i].tolist() == [j for _, j in wanted]
        assert_close(found.distances[i], torch.tensor([d for d, _ in wanted], dtype=torch.float64))
    assert found.indices.dtype == torch.int64


def test_distances_keep_their_digits():
    """Far from the origin, and of float32 features, an image is at no distance from itself and its twin is the next."""
    base = 1000 + draw(20, 64, 1).float()
    twin = base[7:8].clone()
    twin[0, 3] += 1e-3
    found = nearest(base[7:8], torch.cat([base, twin]), k=2)
    assert found.indices.tolist() == [[7, 20]]
    assert found.distances[0, 0] == 0
    assert found.distances[0, 1].item() == pytest.approx((twin - base[7]).double().norm().item(), rel=1e-9)


def test_the_size_of_a_chunk_does_not_matter(monkeypatch):
    real, fake = lattice(40, 1), lattice(33, 2)
    whole = prdc(real, fake, 4), nearest(fake, real, 2)
    monkeypatch.setattr(neighbours, "CHUNK", 100)
    monkeypatch.setattr(neighbours, "PAIRS", 3)
    assert prdc(real, fake, 4) == whole[0]
    assert_close(nearest(fake, real, 2).distances, whole[1].distances)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: prdc(draw(5, 2, 0), draw(9, 2, 1), 5), r"prdc\.real: got '5 samples'; allowed: more than k=5"),
    (lambda: prdc(draw(9, 2, 0), draw(5, 2, 1), 5), r"prdc\.fake: got '5 samples'; allowed: more than k=5"),
    (lambda: prdc(draw(9, 2, 0), draw(9, 2, 1), 0), r"prdc\.k: got 0; allowed: a whole number above 0"),
    (lambda: nearest(draw(9, 2, 0), draw(4, 2, 1), 5), r"nearest\.k: got 5; allowed: a whole number from 1 to the 4"),
    (lambda: nearest(draw(9, 2, 0), draw(4, 2, 1), 0), r"nearest\.k: got 0"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError, match=f"^{message}"):
        make()
