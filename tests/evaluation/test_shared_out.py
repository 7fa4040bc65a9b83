"""What is judged by several processes is what one judges, in all of them: functions of Python."""

import multiprocessing

import pytest
import torch

import together
from snrise import experiment
from snrise.evaluation import Reference, evaluate, judge
from snrise.metrics import FEATURES
from snrise.trained import load
from tiny import POOLED, config, saved_run

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")


def noted(tmp_path, sizes, function, *arguments):
    """What each of so many processes has found, by how many they are."""
    found = {}
    for size in sizes:
        processes = together.start(tmp_path / str(size), size, function, tmp_path / str(size), *arguments)
        assert processes.codes() == [0] * size, [processes.said(rank) for rank in range(size)]
        found[size] = processes.noted()
    return found


def evaluated(home, run):
    FEATURES["pooled"] = POOLED
    images = experiment.dataset(config())
    judgement = evaluate(load(run), 20, data=images, validation=images, held_out=5, features="pooled", batch=4,
                         world=together.world())
    return judgement.as_json()


@pytest.mark.slow
def test_all_get_the_judgement_of_one(tmp_path):
    run = saved_run(tmp_path / "run", config(), ["activities", "flags", "symbols"])
    found = noted(tmp_path, (1, 2), evaluated, run)
    assert found[2] == found[1] * 2


def judged(home):
    """Copies of images of the data, so that many are as near as can be, in uneven batches that are dealt out."""
    data, world = experiment.dataset(config()), together.world()
    reference = Reference.of(data, POOLED, home=home, world=world)
    images = torch.cat([data.images(range(100, 130)) // 2, data.images(range(40, 70))])
    batches = [*images[:50].split(8), *images[50:].split(5)]
    none = torch.empty(0, 3, 16, 16, dtype=torch.uint8)
    dealt = (none if mine is None else mine for mine, _ in world.rounds(batches))
    judgement = judge(dealt, reference, keep=12, world=world)
    return [judgement.pictures.tolist(), judgement.twins, judgement.distances.tolist(), judgement.as_json()]


@pytest.mark.slow
def test_the_nearest_are_those_of_one_also_where_many_are_as_near(tmp_path):
    found = noted(tmp_path, (1, 2, 3), judged)
    assert found[1][0][2] == [[0.0, *row[1:]] for row in found[1][0][2]]
    for size in (2, 3):
        assert found[size] == found[1] * size
