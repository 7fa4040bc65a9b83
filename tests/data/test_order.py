import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snrise._errors import SnriseError
from snrise.data import flips, order

seeds = st.integers(0, 2**40)


@given(seed=seeds, epoch=st.integers(0, 5), n=st.integers(1, 40))
def test_each_epoch_is_a_permutation(seed, epoch, n):
    assert sorted(order(seed, epoch * n, n, n)) == list(range(n))


@given(seed=seeds, position=st.integers(0, 100), count=st.integers(0, 60), n=st.integers(1, 40))
def test_a_stretch_is_a_slice_of_the_stream(seed, position, count, n):
    assert order(seed, position, count, n) == order(seed, 0, position + count, n)[position:]


@given(seed=seeds, position=st.integers(0, 100), count=st.integers(0, 60))
def test_flips_are_a_slice_of_one_stream(seed, position, count):
    assert torch.equal(flips(seed, position, count), flips(seed, 0, position + count)[position:])


def test_small_batches_concatenate_to_large_ones():
    small = [index for k in range(12) for index in order(3, 8 * k, 8, 50)]
    large = [index for k in range(3) for index in order(3, 32 * k, 32, 50)]
    assert small == large


def test_epochs_and_seeds_differ():
    streams = {tuple(order(seed, 100 * epoch, 100, 100)) for seed in range(5) for epoch in range(5)}
    assert len(streams) == 25


def test_every_place_is_equally_likely():
    counts = np.zeros((4, 4))
    for epoch in range(4000):
        counts[np.arange(4), order(7, 4 * epoch, 4, 4)] += 1
    assert np.abs(counts / 4000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_flips_are_fair_and_independent():
    coins = flips(1, 0, 20_000).double()
    assert abs(coins.mean() - 0.5) < 5 * 0.5 / 20_000**0.5
    a, b = coins[:-1] - coins.mean(), coins[1:] - coins.mean()
    assert abs((a * b).mean()) < 5 * 0.25 / 20_000**0.5
    assert not torch.equal(flips(1, 0, 64), flips(2, 0, 64))


def test_the_stream_is_the_same_in_every_release():
    assert order(0, 0, 10, 10) == [7, 6, 8, 3, 2, 4, 1, 5, 0, 9]
    assert flips(0, 0, 12).int().tolist() == [1, 0, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0]


def test_a_huge_position_costs_nothing():
    assert len(flips(0, 10**15, 3)) == 3
    assert len(order(0, 10**15, 3, 1000)) == 3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: order(-1, 0, 1, 1), r"data\.seed: got -1"),
        (lambda: order(0, -2, 1, 1), r"data\.position: got -2; allowed: images seen so far"),
        (lambda: order(0, 0, -3, 1), r"data\.count: got -3"),
        (lambda: order(0, 0, 1, 0), r"data\.n: got 0; allowed: at least 1 image"),
        (lambda: flips(-1, 0, 1), r"data\.seed: got -1"),
    ],
)
def test_errors(call, text):
    with pytest.raises(SnriseError, match=text):
        call()
