"""Collective operations in closed form: against a simulated ring, and against themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snrise._errors import SnriseError
from snrise.planning import DEVICES, LINKS, Cluster, Device, Link, Traffic, all_gather, all_reduce, reduce_scatter

H100 = DEVICES["h100"]


def nodes_of(nodes, gpus):
    return Cluster.of(H100, nodes=nodes, gpus=gpus)


def ring_all_reduce(values):
    """The sum at each rank, by the ring, and the numbers that each rank sent."""
    n = len(values)
    chunks = [np.split(value, n) for value in values]
    sent = [0] * n
    for add in (True, False):
        for turn in range(n - 1):
            moves = []
            for rank in range(n):
                which = (rank - turn + (0 if add else 1)) % n
                moves.append((rank, which, chunks[rank][which].copy()))
            for rank, which, chunk in moves:
                to = (rank + 1) % n
                chunks[to][which] = chunks[to][which] + chunk if add else chunk
                sent[rank] += chunk.size
    return [np.concatenate(own) for own in chunks], sent


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_an_all_reduce_sends_what_a_ring_does(n):
    values = [np.random.default_rng(rank).normal(size=24) for rank in range(n)]
    sums, sent = ring_all_reduce(values)
    for found in sums:
        np.testing.assert_allclose(found, sum(values))
    for cluster in (nodes_of(1, n), nodes_of(n, 1)):
        assert [all_reduce(24, cluster).total] * n == pytest.approx(sent)


def test_several_nodes_reduce_within_between_and_within_again():
    """By a simulation: rings of a node's shards, then of those of one place in each node."""
    nodes, gpus, size = 3, 4, 48
    shard = size // gpus
    _, within = ring_all_reduce([np.ones(size)] * gpus)  # its first half scatters, its second gathers
    _, between = ring_all_reduce([np.ones(shard)] * nodes)
    assert all_reduce(size, nodes_of(nodes, gpus)) == Traffic(within=within[0], between=between[0])


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 10**12))
def test_collectives_are_consistent(nodes, gpus, size):
    cluster = nodes_of(nodes, gpus)
    ranks = nodes * gpus
    assert all_reduce(size, cluster).total == pytest.approx(2 * size * (ranks - 1) / ranks)
    assert all_reduce(size, cluster) == all_gather(size, cluster) + reduce_scatter(size, cluster)
    assert all_gather(size, cluster).total <= all_gather(size, nodes_of(nodes + 1, gpus)).total
    assert (all_gather(size, cluster).between == 0) is (nodes == 1 or size == 0)
    assert all_gather(size, nodes_of(1, 1)).total == 0


def test_time_is_bytes_by_bandwidth():
    own, shared = Link(title="a", bandwidth=100.0), Link(title="b", bandwidth=10.0, per_node=True)
    cluster = Cluster(nodes=2, gpus=4, within=own, between=shared)
    assert cluster.seconds(Traffic(within=300.0, between=5.0)) == pytest.approx(300 / 100 + 5 / (10 / 4))


def test_links_have_sources_and_devices_have_links():
    assert all(link.source and link.bandwidth > 1e9 for link in LINKS.values())
    assert all({*known.links} <= {*LINKS} for known in DEVICES.values())
    assert Cluster.of(H100, nodes=2, gpus=8, between="hdr").between == LINKS["hdr"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: nodes_of(1, 0), "Cluster.gpus: got 0; allowed: a whole number above 0; use 1"),
    (lambda: nodes_of(0, 1), "Cluster.nodes: got 0; allowed: a whole number above 0; use 1"),
    (lambda: Link(title="none", bandwidth=0), "Link.bandwidth: got 0; allowed: bytes a second, above 0"),
    (lambda: Cluster.of(H100, nodes=1, gpus=2, between="ndx"), "--between: no such link 'ndx'; did you mean 'ndr'?"),
    (lambda: Cluster.of(Device(title="a CPU", memory=1), nodes=1, gpus=2),
     "Cluster.device: got 'a CPU'; allowed: one whose links are known: h100, a100, 4090; give the links in Python"),
])
def test_errors(make, message):
    with pytest.raises(SnriseError) as caught:
        make()
    assert str(caught.value).startswith(message)
