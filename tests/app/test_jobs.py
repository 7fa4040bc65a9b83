"""What the app does, without a browser: its pictures are those of its commands, its errors one line."""

import base64
import io
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from snrise import cli
from snrise._errors import SnriseError
from snrise.app import jobs, views
from snrise.app.jobs import LARGEST_SEED, MOST, Job, Order
from snrise.app.shelf import KEPT, Shelf
from snrise.config import Sampling
from snrise.models import models
from snrise.runs.gallery import origin_of
from snrise.samplers import GRIDS, SAMPLERS
from tiny import command, config, fails, saved_run

NAMES = ["activities", "flags", "symbols"]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, one with classes, one without, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, names in (("with classes", NAMES), ("plain", None)):
        settings = config(f"name={name}", "sampling.steps=3", "sampling.sampler={kind: ancestral, gamma: 0.3}")
        saved_run(tmp_path / name, settings, names)
    return Shelf.of(["with classes", "plain"], "cpu")


def last(job):
    *_, moment = job.moments()
    return moment


ORDERS = [
    Order(run="with classes", number=3, seed=5),
    Order(run="with classes", number=4, seed=1, classes=("flags", "symbols"), guidance=1.7, steps=2),
    Order(run="with classes", number=1, classes=("activities",), guidance=2.0, sampler="heun", grid="karras"),
    Order(run="with classes", number=2, sampler="ancestral", steps=3, grid="uniform_time", guidance=1.0),
    Order(run="plain", number=16, seed=LARGEST_SEED, sampler="ddim", guidance=1.0),
]


@pytest.mark.parametrize("order", ORDERS)
def test_the_command_makes_the_same_file(runs, order, tmp_path):
    job = Job.of(order, runs)
    png = job.png(last(job))
    program, *arguments = shlex.split(job.command)
    assert program == "snrise"
    command(*arguments, "--out", "again.png")
    assert png == (tmp_path / "again.png").read_bytes()
    assert origin_of(tmp_path / "again.png")["numbers"] == [0, order.number - 1]


def test_the_command_says_what_differs_and_nothing_else(runs):
    said = [Job.of(order, runs).command.removesuffix(" --device cpu") for order in ORDERS]
    assert said[0] == "snrise sample 'with classes' -n 3 --seed 5"
    assert said[2] == (
        "snrise sample 'with classes' -n 1 --seed 0 --class activities --guidance 2 --sampler heun --grid karras"
    )
    # Its own sampler keeps its own settings, here gamma.
    assert said[3] == "snrise sample 'with classes' -n 2 --seed 0"
    assert all(Job.of(order, runs).command.endswith(" --device cpu") for order in ORDERS)
    assert Job.of(ORDERS[0], replace(runs, asked=None)).command == said[0]


@pytest.mark.parametrize("value", [0.1, 1.7, 2.0, 10.0, 1.2345])
def test_no_digit_of_the_guidance_is_lost(value):
    words = shlex.split(jobs.command(Order(run="a", guidance=value), Sampling()))
    assert float(words[words.index("--guidance") + 1]) == value


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_sampler_and_grid(runs, sampler, grid):
    job = Job.of(Order(run="plain", number=1, steps=2, sampler=sampler, grid=grid), runs)
    moments = list(job.moments())
    assert [moment.done for moment in moments] == [0, 1, 2]
    assert [moment.is_last for moment in moments] == [False, False, True]
    assert moments[-1].steps == 2


def test_nothing_is_computed_between_two_moments(runs, monkeypatch):
    job = Job.of(Order(run="plain", number=1, steps=8), runs)
    asked = []
    job.gallery.trained.network.register_forward_hook(lambda *_: asked.append(1))
    moments = job.moments()
    for done in (1, 2, 3):
        next(moments)
        assert len(asked) == done
    moments.close()
    assert len(asked) == 3


@pytest.mark.parametrize(("order", "message"), [
    (Order(run="nothing"), "run: no such run 'nothing'; allowed: plain, with classes"),
    (Order(run="with classes", classes=("flag",)), "classes: no such class 'flag'; did you mean 'flags'?"),
    (Order(run="plain", classes=("flags",)), "classes: got ['flags']; allowed: none"),
    (Order(run="plain", guidance=2.0), "--guidance: got 2.0; allowed: 1: this run was trained without classes"),
    (Order(run="plain", sampler="euler"), "--sampler: no such sampler 'euler'"),
    (Order(run="plain", grid="log"), "config.sampling.grid.kind: no such kind 'log'"),
    (Order(run="plain", steps=0), "config.sampling.steps: got 0; allowed: a whole number above 0"),
])
def test_a_mistake_is_one_line_before_anything_is_computed(runs, order, message):
    with pytest.raises(SnriseError) as error:
        Job.of(order, runs)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("settings", "message"), [
    ({"number": 0}, "number: got 0"), ({"number": MOST + 1}, f"number: got {MOST + 1}; allowed: 1 to {MOST}"),
    ({"seed": -1}, "seed: got -1"), ({"seed": LARGEST_SEED + 1}, "seed: got"),
])
def test_an_order_out_of_bounds(settings, message):
    with pytest.raises(SnriseError, match=message):
        Order(run="a", **settings)


def test_how_far_pictures_are_apart(runs):
    order = Order(run="with classes", number=2, classes=("flags",), guidance=3.0)
    first, again, other = (last(Job.of(o, runs)).state for o in (order, order, replace(order, guidance=1.0)))
    assert jobs.difference(first, again) == "the same to the last bit"
    apart = (first.x.double() - other.x.double()).abs().mean().item()
    assert apart > 0.1
    assert jobs.difference(first, other) == f"mean absolute difference {apart:.2f} of 255"
    fewer = last(Job.of(replace(order, number=1), runs)).state
    assert jobs.difference(first, fewer) == "not compared: 2 of 16×16 px and 1 of 16×16 px"


def test_a_run_is_loaded_once_and_anew_when_it_has_a_newer_checkpoint(runs, tmp_path):
    trained = runs.load("plain")
    assert runs.load("plain") is trained
    saved_run(tmp_path / "other", config("seed=9"))
    (old,) = (tmp_path / "plain" / "checkpoints").glob("*.safetensors")
    (new,) = (tmp_path / "other" / "checkpoints").glob("*.safetensors")
    new.rename(old.with_name(f"{int(old.stem) + 8:0{len(old.stem)}d}.safetensors"))
    assert runs.load("plain").fingerprint != trained.fingerprint


def test_only_a_few_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"run-{i}" for i in range(KEPT + 1)]
    for name in names:
        saved_run(tmp_path / name, config())
    shelf = Shelf.of(names, "cpu")
    loaded = [shelf.load(name) for name in names]
    assert shelf.load(names[1]) is loaded[1]
    assert shelf.load(names[0]) is not loaded[0]


def test_without_runs_it_has_the_built_in_models():
    shelf = Shelf.of()
    assert set(shelf.names) == set(models())
    assert shelf.names[0] == "emoji-32"
    assert shelf.folders == []
    assert str(shelf.about("emoji-32")).startswith("32×32 px, 97 classes; UViT, predicts v; trained on ")


def test_the_command_line_refuses_what_is_no_run(monkeypatch, capsys):
    assert fails(monkeypatch, capsys, "app", "emoji-23").startswith("emoji-23: got 'no checkpoint'; allowed: ")


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("snrise.app.needed.importlib.util.find_spec", lambda name: None)
    assert fails(monkeypatch, capsys, "app") == "snrise app: needs gradio: pip install 'snrise[app]'"


# Curves and plans


@pytest.fixture
def trained(beside_tiny_yaml):
    """A run that has logged something."""
    result = CliRunner().invoke(cli.app, ["train", "tiny.yaml", "--out", "run"], catch_exceptions=False)
    assert result.exit_code == 0
    return "run"


def test_a_course_is_what_snrise_show_tells(trained):
    shelf = Shelf.of([trained], "cpu")
    course = jobs.course(trained, shelf)
    said = command(*shlex.split(course.command)[1:])
    assert course.rows
    for name, value in course.rows:
        assert f"{name:<15}{value}\n" in said
    assert len(course.figure.axes) == 4
    assert course.note == ""


def test_a_run_that_has_logged_nothing_or_saved_nothing(trained):
    Path("run/log.jsonl").write_text("")
    for file in Path("run/checkpoints").iterdir():
        file.unlink()
    shelf = Shelf.of([trained], "cpu")
    course = jobs.course(trained, shelf)
    assert course.figure is None
    assert course.note == "nothing is logged yet, so there are no curves"
    with pytest.raises(SnriseError, match="run: got 'no checkpoint'"):
        Job.of(Order(run=trained), shelf)


def test_weights_have_no_curves():
    course = jobs.course("emoji-32", Shelf.of())
    assert course.figure is None
    assert course.note == "weights alone: no logs, so no curves"
    assert ("data", "1852 images at 32x32") in course.rows


def test_the_stamp_changes_with_the_log(trained):
    before = jobs.stamp(trained)
    assert jobs.stamp(trained) == before
    with Path("run/log.jsonl").open("a") as log:
        log.write("{")
    assert jobs.stamp(trained) != before


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"resolution": "32x64", "batch": 8}])
def test_a_plan_is_what_its_command_says(changes):
    costs = jobs.planned("emoji-32", "h100", Shelf.of(), **changes)
    said = command(*shlex.split(costs.command)[1:])
    for name, value in costs.rows:
        assert f"{name:<26}{value}\n" in said
    for line in costs.warnings:
        assert line in said
    assert costs.plan.config.data.resolution == ((32, 64) if changes else (32, 32))
    assert {"a million images", "schedule", "most at a time"} <= {name for name, _ in costs.rows}


@pytest.mark.slow
def test_a_plan_that_does_not_fit_says_what_would():
    costs = jobs.planned("emoji-64-stem", "4090", Shelf.of(), batch=20_000)
    assert "does not fit:" in costs.warnings
    assert "error" not in command(*shlex.split(costs.command)[1:])


def test_views_escape_what_comes_from_elsewhere(runs):
    nasty = "<img src=x onerror=alert(1)> ${1} {{2}} `3`"
    for text in (views.line(nasty), views.failed(nasty)):
        assert not set("$`{}") & set(text)
        assert "<img" not in text
    job = Job.of(Order(run="plain", number=2), runs)
    moments = list(job.moments())
    assert "data:image/jpeg" in views.frame(moments[0])
    shown = views.picture(job, moments[-1])
    assert "2 pictures, seed 0, of plain" in shown
    assert "data:image/png" in shown


def test_the_picture_that_is_shown_is_the_file(runs):
    job = Job.of(Order(run="plain", number=2), runs)
    moment = last(job)
    (held,) = re.findall(r"base64,([^\"]+)", views.picture(job, moment))
    assert base64.b64decode(held) == job.png(moment)
    with Image.open(io.BytesIO(job.png(moment))) as picture:
        assert picture.size == (2 * 66 + 2, 66 + 2)
