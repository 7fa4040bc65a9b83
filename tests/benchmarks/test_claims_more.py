"""The claims on growing, samplers, exactness and foresight: their plans, and what they measure with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.claims.claim import Form
from benchmarks.claims.exactness.claim import CLAIM as EXACTNESS
from benchmarks.claims.exactness.ways import Trainings, Way, distances
from benchmarks.claims.foresight.claim import CLAIM as FORESIGHT
from benchmarks.claims.foresight.foretold import Memory, error, speed_told, spent
from benchmarks.claims.growing import timed
from benchmarks.claims.growing.claim import CLAIM as GROWING
from benchmarks.claims.records import Record, machine
from benchmarks.claims.samplers import drawn
from benchmarks.claims.samplers.claim import CLAIM as SAMPLERS
from benchmarks.claims.samplers.drawn import Across, Drawn, steps_within
from benchmarks.claims.verdict import Costs, Outcome
from snrise import growing
from snrise._errors import SnriseError
from snrise.runs import Pace, starting

CLAIMS = {claim.name: claim for claim in (GROWING, SAMPLERS, EXACTNESS, FORESIGHT)}
FORMS = pytest.mark.parametrize(("name", "form"), [(name, form) for name in CLAIMS for form in Form])


def record(case, arm, seed, **metrics):
    return Record(case=case, arm=arm, seed=seed, settings="", metrics=metrics, seconds=0.0, machine="")


@FORMS
def test_settings_identify_an_arm_and_name_no_place(name, form):
    plan = list(CLAIMS[name].study(form).plan())
    told = [job.settings for seed, *_, job in plan if seed == 0]
    assert len(plan) == 3 * len(told)
    assert len(set(told)) == len(told)
    assert told == [replace(job).settings for seed, *_, job in plan if seed == 0]
    assert not any(str(place) in text for text in told for place in (Path.cwd(), Path.home()))


@FORMS
def test_every_expectation_is_of_arms_and_metrics_that_are_measured(name, form):
    claim = CLAIMS[name]
    metrics = dict.fromkeys(claim.columns, 1.0)
    records = [record(case, arm, seed, **metrics) for seed, case, arm, _ in claim.study(form).plan()]
    findings = claim.study(form).findings(records)
    assert findings
    assert all(finding.outcome is not Outcome.MISSING for finding in findings)
    assert all(finding.outcome is Outcome.MISSING for finding in claim.study(form).findings([]))


def test_distances_of_checkpoints():
    one = {"network.w": torch.tensor([3.0, 4.0]), "ema.w": torch.zeros(2), "optimizer.m": torch.ones(3)}
    other = {name: t.clone() for name, t in one.items()}
    assert set(distances(one, other).values()) == {0.0}
    other["ema.w"][1] = -0.25
    other["optimizer.m"][0] = 3.0
    assert distances(other, one) == {
        "largest difference": 0.25, "relative difference": 0.05, "largest difference, optimizer": 2.0,
    }
    with pytest.raises(SnriseError, match=r"network\.v is in one of the two alone"):
        distances(one | {"network.v": torch.zeros(1)}, other)


@pytest.mark.parametrize(("sampler", "evaluations", "steps"), [
    ("Heun", 8, 4), ("Heun", 7, 4), ("Heun", 16, 8), ("DDIM", 8, 8), ("SDE-DPM-Solver++", 16, 16),
])
def test_steps_within_evaluations(sampler, evaluations, steps):
    assert steps_within(sampler, evaluations) == steps


def test_no_evaluations_are_too_few():
    with pytest.raises(SnriseError, match="evaluations"):
        steps_within("DDIM", 0)


def test_evaluations_are_counted_at_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "RUNS", tmp_path)
    monkeypatch.setattr(drawn, "judged", lambda samples, data: {"number": len(samples)})
    job = Drawn(sampler="Heun", evaluations=4, pictures=2)
    assert job(3) == {"number": 2, "evaluations": 3.0}
    assert job.picture(3).is_file()


def test_an_arm_across_cases():
    costs = Costs(case="solver", arm="few", than="many", metric="KID", share=0.1)
    records = [record(case, arm, seed, KID=value + 0.01 * seed)
               for case, arm, value in (("few", "solver", 1.0), ("many", "solver", 2.0), ("few", "other", 9.0))
               for seed in range(3)]
    finding = Across(arm="solver", expected=costs)(records)
    assert finding.outcome is Outcome.SHOWN
    assert "1.010 ± 0.010 with few" in finding.text


def test_a_length_is_measured_once_for_a_machine_whatever_it_begins_with(tmp_path, monkeypatch):
    paces = [Pace(100.0, 5.0, 10), Pace(1.0, 5.0, 10)]
    monkeypatch.setattr(timed, "measure", lambda experiment, grids: paces.pop(0))
    monkeypatch.setattr(timed.Experiment, "of", lambda config: None)
    lengths = timed.Lengths(file=tmp_path / "of" / "lengths.json")
    config = timed.begun("emoji-32")
    assert lengths(config, 10.0) == 992  # whole batches of 32 in 10 s at 100 images/s
    started = replace(config, training=replace(config.training, start="emoji-32"))
    assert lengths(started, 10.0) == 992
    assert lengths(replace(config, name="other"), 10.0) == 32
    assert not paces
    assert list(json.loads(lengths.file.read_text())) == [machine()]
    config = timed.lasting(config, 992)
    assert (config.training.images, config.training.warmup, config.log.samples) == (992, 99, 992)


class Opened(Exception):
    """The settings that an experiment would be made from."""


@pytest.mark.parametrize(("resolution", "grow", "setting"), [
    (None, 2, "sampling.steps=3"), ("64", None, "network.stem=4"),
])
def test_runs_are_those_of_the_command_line(monkeypatch, resolution, grow, setting):
    def opened(config, **options):
        raise Opened(config)

    monkeypatch.setattr(growing, "with_measured_bands", lambda config: config)
    monkeypatch.setattr(starting.Experiment, "of", opened)
    length = f"training.images={timed.UNMEASURED}"
    with pytest.raises(Opened) as caught:
        starting.prepare([setting, length], None, resolution, timed.BASE, grow, out=None, device=torch.device("cpu"),
                         tell=str, warn=str)
    ours = timed.grown(timed.BASE, setting) if grow else timed.going_on(timed.BASE, setting, resolution=resolution)
    assert caught.value.args == (ours,)


def test_what_is_foretold_is_read():
    assert error(50.0, 40.0) == 0.25
    assert error(30.0, 40.0) == -0.25
    lines = ["emoji-32: 1,852 images\n", "1,344 images: about 20 s on this machine (70 images/s)\n", "done: x.png\n"]
    assert 0 <= spent(lines) < 10
    for silent in (lines[:2], [lines[0], lines[2]]):
        with pytest.raises(SnriseError, match="snrise train: "):
            spent(silent)
    assert speed_told("a million images          5.9 hours, 1,046.8 images/s: measured here, 32 at once") == 1046.8
    with pytest.raises(SnriseError, match="snrise plan: "):
        speed_told("a million images          not known")


def test_memory_is_of_the_data_s_classes():
    config, classes = Memory(recipe="emoji-32")._asked
    assert (classes, config.training.batch, config.log.every) == (97, 32, 1)
    config, classes = Memory(recipe="s-64", batch=8)._asked
    assert (classes, config.training.batch, config.data.resolution) == (None, 8, (64, 64))


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path):
    found = dict(Trainings(way=Way.STOPPED, folder=tmp_path)(0))
    assert 400 / 3 <= found.pop("broken off at") < 400
    assert set(found.values()) == {0.0}
