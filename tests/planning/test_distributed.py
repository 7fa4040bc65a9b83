"""Steps on many devices: memory that is divided, traffic, time, and what is chosen."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snrise._errors import SnriseError
from snrise.experiment import Experiment
from snrise.networks import build
from snrise.planning import DEVICES, Cluster, Demand, Link, Traffic, distribute, plan, rehearse, scaling
from snrise.planning.blocks import gathered
from snrise.planning.parallel import BACKWARD
from snrise.sharding import blocks
from tiny import NETWORKS, config

H100 = DEVICES["h100"]
HOW = replace(config("training.batch=8"), network=NETWORKS["uvit"]["transformer"])
EXPERIMENT = Experiment.imagined(HOW, 3)
#: All of a replica's memory that stays.
STATIC = ("parameters", "average", "optimizer", "before the step")


def cluster(nodes, gpus):
    return Cluster.of(H100, nodes=nodes, gpus=gpus)



def sizes(network):
    return sum(p.numel() * 4 for p in network.parameters())


@pytest.fixture(scope="module")
def alone():
    """The plan of one device."""
    return plan(EXPERIMENT, H100)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["auto", "ddp", "fsdp"])
def test_one_device_is_planned_as_ever(alone, parallel):
    assert plan(EXPERIMENT, H100, cluster=cluster(1, 1), parallel=parallel) == alone


def test_replicas_hold_all_and_sum_gradients():
    alone = rehearse(replace(EXPERIMENT, batch=2), H100)
    found, _ = distribute(EXPERIMENT, H100, cluster(1, 4), "ddp")
    assert {name: found.step.static[name] for name in STATIC} == dict(alone.static)
    assert found.step.peak - alone.peak == found.step.static["gradient buckets"] == alone.gradients
    assert found.demand.traffic == Traffic(within=2 * alone.gradients * 3 / 4)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_shards_sum_to_the_whole(ranks):
    how = replace(EXPERIMENT, batch=1)
    whole, shard = rehearse(how, H100), rehearse(how, H100, shards=ranks)
    for name in STATIC:
        assert 0 <= ranks * shard.static[name] - whole.static[name] < ranks
    assert 0 <= ranks * shard.gradients - whole.gradients < ranks
    assert (shard.kept, shard.flops, shard.images) == (whole.kept, whole.flops, whole.images)
    # All that is not activations is divided, but for what is gathered.
    most = sum(whole.static.values()) + whole.gradients
    assert shard.peak >= whole.peak - (ranks - 1) / ranks * H100.taken(most) * 2
    assert shard.peak <= whole.peak - (ranks - 1) / ranks * sum(whole.static.values()) + shard.gathered + ranks


def test_memory_that_is_divided_in_closed_form():
    """A step whose activations are nothing: two layers of 4 MiB, in the update AdamW's temporaries."""
    how = Experiment(data=torch.zeros(8, 3, 2, 2, dtype=torch.uint8), network=TwoLayers(), batch=1, clip=None)
    whole, shard = (rehearse(how, replace(H100, overhead=0.0), shards=n) for n in (1, 4))
    layer = 4 * 1024 * 1024
    assert gathered(how.network) == pytest.approx(3 * layer, rel=0.01)
    static, gradients = 2 * layer * 5, 2 * layer  # parameters, average, two moments, the copy to log
    assert whole.peak >= static + gradients
    # While it updates: a quarter of all; while it computes: a quarter of what stays, a layer ahead, one gradient.
    assert shard.peak == pytest.approx(max(whole.peak / 4, (static + gradients) / 4 + 3 * layer + layer / 2), rel=0.35)
    assert shard.peak < 0.75 * whole.peak


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024, bias=False) for _ in range(2))

    def forward(self, z, logsnr, labels=None):
        h = nn.functional.pad(z.flatten(1), (0, 1024 - z[0].numel()))
        for layer in self.layers:
            h = layer(h)
        return h[:, : z[0].numel()].reshape(z.shape)


def test_fsdp_gathers_twice_and_scatters_once_a_micro_batch():
    size = sizes(EXPERIMENT.network)
    for parts in (1, 2):
        found, _ = distribute(replace(EXPERIMENT, accumulate=parts), H100, cluster(1, 4), "fsdp")
        assert found.demand.forward.total == pytest.approx(parts * size * 3 / 4)
        assert found.demand.traffic.total == pytest.approx(3 * parts * size * 3 / 4)


@pytest.mark.parametrize("which", [NETWORKS["uvit"]["mixed"], NETWORKS["vit"]["class tokens"]])
def test_blocks_are_disjoint_and_less_than_the_whole(which):
    network = build(which, 3, device="meta")
    names = [id(p) for block in blocks(network) for p in block.parameters()]
    assert len(names) == len({*names}) > 0
    assert 0 < gathered(network) < 3 * sizes(network)


def test_a_network_without_lists_is_gathered_as_a_whole():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False))
    assert (blocks(network), gathered(network)) == ([], 80 + 80 + 80)


@pytest.mark.slow
def test_auto_replicates_while_a_replica_fits_and_else_shards():
    ddp, fsdp = (distribute(EXPERIMENT, H100, cluster(1, 8), way)[0].step.peak for way in ("ddp", "fsdp"))
    assert fsdp < ddp
    between = replace(H100, memory=int((fsdp + ddp) / 2 / 0.9) + 2**30)
    chosen, large = distribute(EXPERIMENT, between, cluster(1, 8))[0], distribute(EXPERIMENT, H100, cluster(1, 8))[0]
    assert (chosen.parallel, chosen.fits, large.parallel) == ("fsdp", True, "ddp")
    assert plan(EXPERIMENT, between, cluster=cluster(1, 8), parallel="ddp").advice[-1] == "training.parallel=fsdp fits"


@pytest.mark.slow
def test_a_plan_counts_all_ranks():
    found = plan(EXPERIMENT, H100, cluster=cluster(2, 2))
    own = plan(replace(EXPERIMENT, batch=2), H100)
    assert (found.step.images, found.config.training.batch, found.rows) == (2, 8, own.rows)
    assert found.largest % 4 == 0
    assert 0 < found.largest <= 4 * own.largest
    assert found.images_per_second(0.5) <= 4 * own.images_per_second(0.5)
    assert found.distributed.batch == 8


def test_memory_falls_and_traffic_rises_with_the_ranks():
    rows = scaling(EXPERIMENT, H100, [cluster(max(1, n // 8), min(n, 8)) for n in (1, 8, 16, 64)], "fsdp")
    peaks, sent = [row.step.peak for row in rows[1:]], [row.demand.traffic.total for row in rows]
    assert peaks == sorted(peaks, reverse=True)
    assert sent == sorted(sent)
    assert [row.batch for row in rows] == [8 * row.cluster.ranks for row in rows]
    replicas = scaling(EXPERIMENT, H100, [cluster(1, 2), cluster(8, 8)], "ddp")
    assert replicas[0].step == replicas[1].step


LINK = Link(title="a link", bandwidth=1.0)


@given(*(st.floats(0, 1e6) for _ in range(3)), st.floats(1e-3, 1e6), st.floats(0.01, BACKWARD))
def test_overlap_hides_no_more_than_there_is(forward, backward, more, compute, window):
    alone = Cluster(within=LINK, between=LINK, gpus=2)
    demand = Demand(forward=Traffic(within=forward), backward=Traffic(within=backward), window=window)
    seconds = demand.seconds(compute, alone)
    assert compute <= seconds <= (compute + forward + backward) * (1 + 1e-9)
    assert seconds >= max(forward, backward)
    assert replace(demand, backward=Traffic(within=backward + more)).seconds(compute, alone) >= seconds


def test_slow_links_are_the_limit():
    slow = Link(title="a string", bandwidth=1e6)
    fast, held = (distribute(EXPERIMENT, H100, at, "ddp")[0]
                  for at in (cluster(1, 8), Cluster(gpus=8, within=slow, between=slow)))
    sending = held.cluster.seconds(held.demand.traffic)
    compute = 1 / H100.images_per_second(held.precision, 0.5, held.step.flops)
    assert held.computing(0.5) == pytest.approx(compute)
    assert held.seconds(0.5) == pytest.approx(compute / 3 + sending)
    assert held.images_per_second(0.5) == pytest.approx(8 / (compute / 3 + sending))
    assert held.communicating(0.5) == pytest.approx(sending / (sending + compute))
    assert (held.limit(0.5), held.efficiency(0.5) < 0.1) == ("network", True)
    assert fast.efficiency(0.5) <= 1
    unknown = replace(held, device=replace(H100, bf16=None, fp32=None))
    assert (unknown.images_per_second(0.5), unknown.efficiency(0.5), unknown.communicating(0.5)) == (None, None, None)
    assert unknown.limit(0.5) is None


@pytest.mark.parametrize(("how", "parallel", "message"), [
    (EXPERIMENT, "dpd", "--parallel: no such way to train in parallel 'dpd'; did you mean 'ddp'? allowed: auto, ddp, "),
    (replace(EXPERIMENT, batch=30), "auto",
     "config.training.batch: got 30; allowed: a multiple of the 8 ranks; nearest: 24 or 32"),
    (replace(EXPERIMENT, batch=3), "auto", "config.training.batch: got 3; allowed: a multiple of the 8 ranks; use 8"),
    (replace(EXPERIMENT, batch=16, accumulate=4), "auto",
     "config.training.accumulate: got 4; allowed: at most 2, the images of a rank; use 2"),
])
def test_errors(how, parallel, message):
    with pytest.raises(SnriseError) as caught:
        plan(how, H100, cluster=cluster(1, 8), parallel=parallel)
    assert str(caught.value).startswith(message)
