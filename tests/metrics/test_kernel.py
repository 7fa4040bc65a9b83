import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snrise._errors import SnriseError
from snrise.metrics import kernel, kernel_distance


def draw(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


@pytest.mark.parametrize(("n", "m", "degree"), [(5, 7, 3), (6, 4, 1), (3, 3, 2)])
def test_against_loops(n, m, degree):
    a, b = draw(n, 4, 1), draw(m, 4, 2, 0.5)

    def kernel(p, q):
        return (sum(float(p[i]) * float(q[i]) for i in range(4)) / 4 + 1) ** degree

    within = sum(
        sum(kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j) / (len(x) * (len(x) - 1))
        for x in (a, b)
    )
    across = sum(kernel(p, q) for p in a for q in b) / (n * m)
    assert kernel_distance(a, b, degree).value == pytest.approx(within - 2 * across, rel=1e-10)


def test_it_is_symmetric_and_blind_to_the_order():
    a, b = draw(20, 6, 1), draw(30, 6, 2, 0.3)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a))
    assert kernel_distance(a.flip(0), b) == pytest.approx(kernel_distance(a, b))


def test_unbiased():
    values = torch.tensor([kernel_distance(draw(12, 5, 2 * i), draw(9, 5, 2 * i + 1)).value for i in range(600)])
    error = values.std() / len(values) ** 0.5
    assert values.mean().abs() < 4 * error
    # The biased form, with the diagonal, is off by far more than that.
    assert 4 * error < 0.3


def test_a_shift_is_seen():
    value, error = kernel_distance(draw(200, 5, 1), draw(200, 5, 2, 0.8))
    assert value > 5 * error > 0


def test_the_standard_error_is_the_spread_of_repeated_draws():
    results = [kernel_distance(draw(150, 5, 2 * i), draw(100, 5, 2 * i + 1, 0.7)) for i in range(200)]
    spread = torch.tensor([r.value for r in results]).std()
    told = torch.tensor([r.standard_error for r in results]).mean()
    assert told.item() == pytest.approx(spread.item(), rel=0.3)


def test_against_torch_fidelity():
    """One subset of all samples is their whole estimate."""
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = draw(40, 6, 1), draw(40, 6, 2, 0.4)
    theirs = metric_kid.kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=40, verbose=False)
    assert kernel_distance(a, b).value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)


def test_the_size_of_a_block_does_not_matter(monkeypatch):
    a, b = draw(50, 6, 1), draw(37, 6, 2, 0.3)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(kernel, "CHUNK", 8)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_blocks_are_all_that_is_held(monkeypatch):
    """No tensor that is made on the way has more numbers than the features, or than a block of pairs."""
    monkeypatch.setattr(kernel, "CHUNK", 16)
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor))
            return made

    a, b = draw(400, 3, 1), draw(300, 3, 2)
    with Watch():
        kernel_distance(a, b)
    assert max(sizes) <= a.numel()


def test_float32_features_are_computed_in_float64():
    a, b = (100 * draw(50, 5, seed).float() for seed in (1, 2))
    assert kernel_distance(a, b) == kernel_distance(a.double(), b.double())


@pytest.mark.parametrize(("n", "m", "name"), [(1, 5, "a"), (5, 1, "b")])
def test_one_sample_is_too_few(n, m, name):
    with pytest.raises(SnriseError, match=f"kernel_distance.{name}: got '1 samples'"):
        kernel_distance(draw(n, 3, 1), draw(m, 3, 2))
