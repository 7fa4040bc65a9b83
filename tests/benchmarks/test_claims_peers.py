"""The claim about peers: each system trains and samples, trainings go on to the bit, and the search is fair."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from benchmarks.claims import trainings
from benchmarks.claims.peers import choices, claim, ours, pace, search, systems, training
from benchmarks.claims.peers.contender import BATCH, Order, System, Way, images_for
from benchmarks.claims.peers.models import DiT, KDiffusion, SimpleDiffusion, UNet2D
from benchmarks.claims.verdict import Beats
from snrise._errors import SnriseError

PEERS = {
    "denoising_diffusion_pytorch": SimpleDiffusion(side=8, dim=8, mults=(1, 2), factors=(2, 2), depth=1),
    "diffusers": UNet2D(side=8, channels=(8, 16)),
    "diffusers ": DiT(side=8, patch=4, width=32, depth=1),
    "k_diffusion": KDiffusion(side=8, channels=(8, 16), depths=(1, 1), mapping=16),
}
WAYS = dict(zip(PEERS, (Way("ancestral", 2), Way("DDPM", 2), *[Way("DPM-Solver++ (2M) SDE", 2)] * 2), strict=True))
ORDER = Order(rate=1e-3, images=4 * BATCH, seed=1, pictures=3, way=Way("", 2))


@pytest.fixture(params=PEERS)
def package(request):
    if find_spec(request.param.strip()) is None:
        pytest.skip(f"without {request.param}")
    return request.param


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "TRAINED", tmp_path / "peers")
    monkeypatch.setattr(trainings, "TRAINED", tmp_path / "ours")
    monkeypatch.setattr(pace, "PACES", tmp_path / "paces.json")
    monkeypatch.setattr(choices, "CHOICES", tmp_path / "choices.json")
    monkeypatch.setattr(claim, "RUNS", tmp_path)


class Interrupted(Exception):
    pass


def state(peer, file):
    training.trained(peer, ORDER, file, every=0)
    stored = torch.load(file, weights_only=True)
    return [*stored["network"].values(), *stored["ema"].values(), stored["generator"]]


def test_a_peer_trains_and_samples(package):
    peer = PEERS[package]
    made = peer.make(replace(ORDER, way=WAYS[package]))
    assert made.pictures.dtype == torch.uint8
    assert made.pictures.shape == (3, 3, 8, 8)
    assert made.per_second > 0
    again = peer.make(replace(ORDER, way=WAYS[package]))
    assert made.pictures.equal(again.pictures)
    with torch.random.fork_rng():
        learner = training.Training(peer, ORDER)
        before = [p.detach().clone() for p in learner.network.parameters()]
        for _ in range(3):  # the first of them only moves what does not begin at zero
            learner.step(torch.arange(4 * 3 * 64, dtype=torch.uint8).view(4, 3, 8, 8))
    moved = [not p.equal(b) for p, b in zip(learner.network.parameters(), before, strict=True)]
    assert sum(moved) > 0.8 * len(moved)


def test_an_interrupted_training_goes_on_to_the_bit(package, monkeypatch, tmp_path):
    peer = PEERS[package]
    whole, loss, calls = state(peer, tmp_path / "whole.pt"), type(peer).loss, []

    def interrupted(self, network, x):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted
        return loss(self, network, x)

    monkeypatch.setattr(type(peer), "loss", interrupted)
    with pytest.raises(Interrupted):
        state(peer, tmp_path / "parts.pt")
    torch.manual_seed(99)
    parts = state(peer, tmp_path / "parts.pt")
    assert len(calls) == 5
    assert len(whole) == len(parts)
    assert all(a.equal(b) for a, b in zip(whole, parts, strict=True))


def test_a_step_without_a_finite_gradient_leaves_the_weights(monkeypatch):
    pytest.importorskip("diffusers")
    peer = PEERS["diffusers "]
    monkeypatch.setattr(DiT, "loss", lambda self, network, x: network.proj_out_2.bias.sum() * torch.inf)
    with torch.random.fork_rng():
        learner = training.Training(peer, ORDER)
    before = [p.detach().clone() for p in learner.network.parameters()]
    learner.step(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert all(p.equal(b) for p, b in zip(learner.network.parameters(), before, strict=True))
    assert learner.seen == 2


def test_ours_trains_and_samples_without_classes():
    tiny = ours.Snrise(side=16, channels=(32, 32), blocks=(1, 1))
    assert tiny.config(1e-3, 64).data.source.classes is None
    assert tiny.parameters() > 0
    made = tiny.make(replace(ORDER, images=64, way=Way("ancestral", 2)))
    assert made.pictures.dtype == torch.uint8
    assert made.pictures.shape == (3, 3, 16, 16)


@pytest.mark.parametrize("side", systems.SIDES)
def test_ours_is_16_cells_wide_at_every_side(side):
    for contender in systems.SYSTEMS[systems.SNRISE].sizes[side].values():
        config = contender.config(1e-3, 3200)
        assert side // config.network.stem == 16
        assert config.data.resolution == (side, side)
        assert config.loss.prediction.value == ("v" if side == 32 else "x")
        assert (config.training.learning_rate, config.training.images, config.sampling.guidance) == (1e-3, 3200, 1)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers.models.unets.unet_2d", None)
    with pytest.raises(SnriseError, match=r"the peer diffusers needs the package .*; pip install 'snrise\[bench\]'$"):
        PEERS["diffusers"].network()
    monkeypatch.setitem(sys.modules, "k_diffusion.models.image_v1", None)
    with pytest.raises(SnriseError, match=r"needs the package k_diffusion.*--no-deps k-diffusion dctorch$"):
        PEERS["k_diffusion"].network()


def test_every_system_has_as_many_trials():
    for system in systems.SYSTEMS.values():
        assert tuple(system.sizes) == systems.SIDES
        sides = [[one.side for one in system.sizes[side].values()] for side in systems.SIDES]
        assert sides == [[32] * 2, [64] * 2, [128] * 2]
        assert (len(system.rates), len(system.ways)) == (3, 2)
    assert len({system.rates for system in systems.SYSTEMS.values()}) == 1


def scored(one):
    size = {"small": 0.3, "large": 0.2}[one.size]
    told = {"size": one.size, "rate": one.rate, "way": list(one.way)}
    return {**told, "KID-EffNet": size - (0.05 if one.rate == 2 else 0) - (0.01 if one.way.sampler == "b" else 0)}


def test_the_search_picks_the_lowest():
    system = System(sizes={8: {"small": None, "large": None}}, ways=(Way("a", 5), Way("b", 6)), rates=(1, 2))
    trials = search.search(system, 8, scored)
    tried = [(told["size"], told["rate"], told["way"][0]) for told in trials]
    assert tried == [("small", 1, "a"), ("small", 2, "a"), ("large", 1, "a"), ("large", 2, "a"), ("large", 2, "b")]
    assert choices.choice(trials) == choices.Choice(size="large", rate=2, way=Way("b", 6))


def test_a_choice_is_searched_once_and_kept(monkeypatch):
    job = claim.Timed(system="DiT", side=32, seconds=5)
    assert choices.chosen("DiT", 32) is None
    assert job.settings.endswith("not chosen yet")
    asked = []
    monkeypatch.setattr(search, "_trial", lambda contender, one: asked.append(one) or {"KID-EffNet": -one.rate})
    first = search.settle("DiT", 32)
    assert search.settle("DiT", 32) == first == choices.chosen("DiT", 32)
    assert (len(asked), first.rate, first.size) == (7, 3e-3, "128 wide")
    assert len(json.loads(choices.CHOICES.read_text(encoding="utf-8"))["DiT"]["32"]["trials"]) == 7
    assert "width=128" in job.settings
    assert "0.003" in job.settings
    assert choices.chosen("DiT", 64) is None
    assert search.settle("DiT", 32, again=True) == first
    assert len(asked) == 7  # all trials are known


def test_a_search_goes_on_where_it_stopped(monkeypatch):
    asked = []

    def trial(contender, one):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(one)
        return {"KID-EffNet": 0.5}

    monkeypatch.setattr(search, "_trial", trial)
    with pytest.raises(KeyboardInterrupt):
        search.settle("DiT", 32)
    assert choices.chosen("DiT", 32) is None
    monkeypatch.setattr(search, "_trial", lambda contender, one: asked.append(one) or {"KID-EffNet": 0.4})
    search.settle("DiT", 32)
    assert len(set(asked)) == len(asked) == 7
    # another network is tried anew, whatever its name
    system = systems.SYSTEMS["DiT"]
    other = {size: replace(one, depth=one.depth + 1) for size, one in system.sizes[32].items()}
    monkeypatch.setitem(system.sizes, 32, other)
    search.settle("DiT", 32, again=True)
    assert len(asked) == 14


def test_a_job_trains_for_its_seconds_by_the_pace(monkeypatch):
    tiny = ours.Snrise(side=32, channels=(32, 32), blocks=(1, 1))
    monkeypatch.setitem(systems.SYSTEMS[systems.SNRISE].sizes[32], "tiny", tiny)
    choices.choose("snrise", 32, choices.Choice(size="tiny", rate=1e-3, way=Way("ancestral", 3)))
    monkeypatch.setattr(ours.Snrise, "pace", lambda self, seconds: 10.0)
    monkeypatch.setattr(claim, "judged", lambda pictures, data: {"n": len(pictures)})
    job = claim.Timed(system="snrise", side=32, seconds=6, pictures=4, steps=2)
    before = job.settings
    found = job(0)
    assert (found["n"], found["images"], found["images per second"], found["training seconds"]) == (4, 64, 10.0, 6)
    assert job.picture(0).exists()
    assert job.settings == before


def test_the_pace_is_the_median_and_measured_once(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])

    def steps():
        for seconds in (50, 50, 2, 1, 1, 9, 1, 1000):
            clock[0] += seconds
            yield

    assert training.paced(steps(), seconds=5) == BATCH / 1

    class Contender:
        def __init__(self, name, paces):
            self.name, self.paces = name, iter(paces)

        def __repr__(self):
            return self.name

        def pace(self, seconds):
            turns.append(self.name)
            return next(self.paces)

    turns = []
    pair = Contender("a", [5.0, 7.0, 6.0]), Contender("b", [1.0, 1.0, 2.0])
    assert pace.measured(pair) == [7.0, 2.0]
    assert turns == ["a", "b"] * 3
    assert [pace.pace_of(one) for one in pair] == [7.0, 2.0]  # measured once
    assert pace.pace_of(Contender("c", [3.0, 4.0, 1.0])) == 4.0


def test_seconds_become_whole_batches():
    assert [images_for(*given) for given in ((10, 6.3), (1, 1), (100, 421))] == [64, 32, 42112]


@pytest.mark.parametrize("study", [claim.CLAIM.full, claim.CLAIM.quick])
def test_every_expectation_is_of_arms_that_are_measured(study):
    for expectation in study.expected:
        assert isinstance(expectation, Beats)
        assert {expectation.arm, expectation.than} <= study.cases[expectation.case].keys()
        assert expectation.metric in claim.METRICS
    assert len(set(study.expected)) == len(study.expected)


def test_what_is_claimed_at_64_px():
    factors = {e.times for e in claim.CLAIM.full.expected if e.case == "64 px, 7 min" and e.metric == "KID-EffNet"}
    assert factors == {3.0}
    assert list(claim.CLAIM.full.cases)[:3] == ["32 px, 7 min", "64 px, 7 min", "128 px, 7 min"]
    assert claim.CLAIM.full.cases["32 px, 7 min"]["snrise, 42 s"].seconds == 42
