"""How long a run will take, and how many images fit a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snrise._errors import SnriseError
from snrise.experiment import Experiment
from snrise.runs import Pace, measure
from snrise.runs import pace as pace_module
from snrise.runs.pace import trial
from tiny import config, generation_of

pytestmark = pytest.mark.precision


@given(rate=st.floats(0.1, 1e4), grid=st.floats(0, 100), every=st.integers(1, 10**6), batch=st.integers(1, 512),
       seconds=st.floats(1, 1e5))
def test_what_fits_a_time_takes_that_time(rate, grid, every, batch, seconds):
    pace = Pace(rate, grid, every)
    images = pace.images(seconds, batch)
    assert images >= batch
    assert images % batch == 0
    if images > batch:
        assert pace.seconds(images) <= seconds * (1 + 1e-9)
    assert pace.seconds(images + batch) >= seconds - batch / rate - 3 * grid - 2 * batch / every * grid


def test_a_measurement_is_of_real_steps_and_pictures(monkeypatch):
    settings = config("log.samples=32", "sampling.steps=5")
    how, drawn = Experiment.of(settings), []
    generate = pace_module.generate
    monkeypatch.setattr(
        pace_module, "generate",
        lambda how, *rest: drawn.append(how.logsnrs.tolist()) or generate(how, *rest))
    pace = measure(how, seconds=0.0)
    assert min(pace.images_per_second, pace.grid_seconds) > 0
    assert pace.every == 32
    assert drawn == [generation_of(settings).logsnrs[[0, -1]].tolist()]
    assert measure(how, seconds=0.0, grids=False).grid_seconds == 0
    assert len(drawn) == 1


def test_a_trial_has_no_end_and_changes_nothing():
    settings = config("training.images=8")
    steps = trial(Experiment.of(settings))
    reports = [next(steps) for _ in range(5)]
    assert [r.images_seen for r in reports] == [8, 16, 24, 32, 40]
    # What is decoded is not decoded again; where nothing is kept, it is.
    assert reports[0].indices == reports[2].indices != reports[1].indices
    none = trial(Experiment.of(config("data.cache=none", "data.workers=0")))
    assert len({tuple(next(none).indices) for _ in range(4)}) == 4


def test_a_time_below_nothing_is_refused():
    with pytest.raises(SnriseError, match=r"measure\.seconds: got -1"):
        measure(Experiment.of(config()), seconds=-1.0)
