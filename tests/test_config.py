import copy
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snrise import experiment
from snrise._errors import SnriseError
from snrise.config import RunConfig, Sampling, parse, to_yaml
from snrise.construct import plain
from snrise.documents import load, recipes
from snrise.networks import build
from snrise.samplers import UniformTime
from test_construct import ANYTHING, value_or_error
from tiny import DOCUMENT, config

WHOLE = {name: value for name, value in plain(config()).items() if name != "made_with"}


def paths(value, path=()):
    """The path of every setting of plain data, inner ones too."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*path, key))


def changed(path, value):
    """A copy of the whole settings with one changed."""
    document = copy.deepcopy(WHOLE)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


PATHS = [path for path in paths(WHOLE) if path]
SECTIONS = [path for path in paths(WHOLE) if isinstance(eval("WHOLE" + "".join(f"[{k!r}]" for k in path)), dict)]


def written(path):
    """As an error writes it."""
    return "config" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_valid_and_survives_yaml(name):
    recipe = load(name) if name != "folder" else load(name, ["data.path=somewhere"])
    assert isinstance(recipe, RunConfig)
    assert parse(yaml.safe_load(to_yaml(recipe))) == recipe
    assert sum(p.numel() for p in build(recipe.network, 10, "meta").parameters()) > 0
    assert all(side % recipe.network.divisor == 0 for side in recipe.data.resolution)


def test_all_defaults_are_written_out():
    text = to_yaml(config())
    assert parse(yaml.safe_load(text)) == config()
    assert yaml.safe_load(text) == WHOLE
    expected_parts = ("kind: cosine", "logsnr_max: 15.0", "prediction: v", "kind: ancestral", "{kind: constant}")
    for expected in expected_parts:
        assert expected in text


@pytest.mark.parametrize("path", SECTIONS, ids=written)
def test_an_unknown_setting_anywhere_is_named(path):
    message = f"{written((*path, 'unheard'))}: no such setting 'unheard';"
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}"):
        parse(changed((*path, "unheard"), 1))


@pytest.mark.parametrize(("path", "nearest"), [
    (("trainin",), "training"), (("training", "batchsize"), "batch"), (("data", "resolutoin"), "resolution"),
    (("schedule", "base", "ofset"), "offset"), (("loss", "weigting"), "weighting"), (("log", "evry"), "every"),
    (("network", "levels", 0, "atention"), "attention"), (("sampling", "sampler", "etta"), "eta"),
])
def test_the_nearest_name_is_told(path, nearest):
    with pytest.raises(SnriseError, match=rf"^{re.escape(written(path))}: .*did you mean '{nearest}'\?"):
        parse(changed(path, 1))


@pytest.mark.parametrize("name", ["name", "data", "network", "training"])
def test_what_has_no_default_must_be_given(name):
    document = {key: value for key, value in WHOLE.items() if key != name}
    with pytest.raises(SnriseError, match=f"^config.{name}: missing; give it a value$"):
        parse(document)


@pytest.mark.parametrize(("path", "value", "message"), [
    (("name",), "", "config.name: got ''; allowed: a name that a folder can have"),
    (("name",), "a/b", "config.name: got 'a/b'"),
    (("name",), "..", "config.name: got '..'"),
    (("name",), "a\0", r"config.name: got 'a\x00'"),
    (("seed",), -1, "config.seed: got -1; allowed: a whole number from 0"),
    (("seed",), 2**63, f"config.seed: got {2**63}"),
    (("seed",), 1.5, "config.seed: got 1.5; allowed: a valid integer"),
    (("data", "resolution"), [0, 32], "config.data.resolution: got [0, 32]; allowed: [height, width], both 1 or more"),
    (("data", "resolution"), 32, "config.data.resolution: got 32"),
    (("data", "source"), "folders", "config.data.source: no such source 'folders'; did you mean 'folder'?"),
    (("data", "source"), "folder", "config.data.path: missing; say where the images are: --data DIR"),
    (("data", "fit"), "cropp", "config.data.fit: no such choice 'cropp'; did you mean 'crop'?"),
    (("data", "flip"), 1, "config.data.flip: got 1; allowed: a valid boolean"),
    (("training", "images"), 0, "config.training.images: got 0; allowed: a whole number above 0"),
    (("training", "accumulate"), 9, "config.training.accumulate: got 9; allowed: 1 … batch=8"),
    (("training", "accumulate"), 0, "config.training.accumulate: got 0"),
    (("training", "betas"), [0.9], "config.training.betas"),
    (("training", "precision"), "fp16", "config.training.precision: no such choice 'fp16'"),
    (("training", "decay_shape"), "cos",
     "config.training.decay_shape.kind: no such kind 'cos'; did you mean 'cosine'?"),
    (("training", "learning_rate"), "fast", "config.training.learning_rate: got 'fast'; allowed: a valid number"),
    (("loss", "prediction"), "w", "config.loss.prediction: no such choice 'w'; allowed: eps, u, v, x"),
    (("loss", "factors"), [], "config.loss.factors: got (); allowed: one or more whole numbers above 0, or null"),
    (("loss", "factors"), [1, 0], "config.loss.factors: got (1, 0)"),
    (("sampling", "steps"), 0, "config.sampling.steps: got 0; allowed: a whole number above 0"),
    (("sampling", "guidance_interval"), [2, 1], "config.sampling.guidance_interval: got (2.0, 1.0)"),
    (("sampling", "guidance_interval"), [float("nan"), 1], "config.sampling.guidance_interval: got (nan, 1.0)"),
    (("sampling", "sampler", "eta"), 2, "config.sampling.sampler.eta: got 2.0; allowed: a number in [0, 1]"),
    (("sampling", "grid"), "karas", "config.sampling.grid.kind: no such kind 'karas'; did you mean 'karras'?"),
    (("sampling", "rescale"), 1.5, "config.sampling.rescale: got 1.5; allowed: a number from 0 to 1"),
    (("sampling", "dynamic_clip"), 0, "config.sampling.dynamic_clip: got 0.0; allowed: a number above 0, up to 1"),
    (("sampling",), {"clip": False, "dynamic_clip": 0.9}, "config.sampling.dynamic_clip: got 0.9; allowed: a number"),
    (("sampling", "upsample"), 0, "config.sampling.upsample: got 0; allowed: a whole number, 1 (as trained) or more"),
    (("schedule", "ends"), "go", "config.schedule.ends: no such choice 'go'; allowed: move, stay"),
    (("schedule", "reference"), [64], "config.schedule.reference"),
    (("log", "grid"), 0, "config.log.grid: got 0; allowed: a whole number above 0"),
    (("log",), 3, "config.log: got 3; allowed: settings, each `name: value`"),
    (("network", "stem"), 0, "config.network.stem: got 0; allowed: a whole number above 0"),
])
def test_a_wrong_value_is_told_in_a_line(path, value, message):
    with pytest.raises(SnriseError, match=f"^{re.escape(message)}") as error:
        parse(changed(path, value))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("clip", [True, False])
def test_settings_of_sampling_from_before_there_were_more_of_them_mean_the_same(clip):
    sampler = {"kind": "ancestral", "eta": 1.0, "gamma": 0.0}
    old = {"sampler": sampler, "steps": 50, "guidance": 1.7, "guidance_interval": None, "clip": clip}
    how = parse(changed(("sampling",), old)).sampling
    assert how == Sampling(guidance=1.7, clip=clip)
    assert (how.grid, how.rescale, how.dynamic_clip, how.upsample) == (UniformTime(), 0.0, None, 1)


@pytest.mark.parametrize("name", ["1e-3", "1e5", "yes", "null", "0x10", "3", "ü: [", "- a", "2024-01-01", "'\"", "#"])
def test_a_text_that_looks_like_something_else_survives(name, tmp_path):
    given_config = parse(changed(("name",), name))
    (tmp_path / "config.yaml").write_text(to_yaml(given_config), encoding="utf-8")
    assert load(str(tmp_path / "config.yaml")) == given_config


@pytest.mark.slow
@settings(max_examples=150)
@given(path=st.sampled_from(PATHS), value=ANYTHING)
def test_random_changes_give_settings_that_survive_yaml_or_the_one_error(path, value):
    found = value_or_error(parse, changed(path, value))
    if isinstance(found, str):
        assert re.fullmatch("config.*", found)
    else:
        assert parse(yaml.safe_load(to_yaml(found))) == found


@pytest.mark.parametrize("path", [path for path in PATHS if path[-1] != "kind"], ids=written)
def test_every_setting_is_checked(path):
    """No setting takes just anything: a list of a mapping is refused everywhere, where it is."""
    with pytest.raises(SnriseError, match=f"^{re.escape(written(path))}"):
        parse(changed(path, [{"a": 1}]))


def test_the_document_of_these_tests_is_a_plain_one():
    assert parse(yaml.safe_load(DOCUMENT)) == config()


def test_what_made_a_run_is_kept_but_is_no_setting():
    made = parse(WHOLE | {"made_with": {"torch": "2.9"}})
    assert parse(yaml.safe_load(to_yaml(made))).made_with == {"torch": "2.9"}
    assert made == parse(WHOLE)


WRONG = {
    "training": {"batch": [0, -1], "images": [0], "accumulate": [0, 9], "learning_rate": [0.0, -1e-3], "warmup": [-1],
                 "decay": [-0.1, 1.5], "betas": [[1.0, 0.9]], "weight_decay": [-1.0], "clip": [0.0, -1.0],
                 "ema_half_life": [-1.0], "class_dropout": [-0.1, 2.0], "fault_limit": [-1]},
    "sampling": {"steps": [0], "guidance": [-1.0], "rescale": [2.0], "upsample": [0], "dynamic_clip": [0.0]},
    "data": {"workers": [-1], "resolution": [[0, 16]]},
    "log": {"every": [0], "samples": [0], "grid": [0], "keep": [0]},
}


@pytest.mark.parametrize(("group", "name", "value"), [
    (group, name, value) for group, names in WRONG.items() for name, values in names.items() for value in values
])
def test_a_value_out_of_range_is_told_with_the_path_of_its_setting(group, name, value):
    with pytest.raises(SnriseError, match=rf"^config\.{group}\.{name}(\[\d\])?: got "):
        config(f"{group}.{name}={value}")


@pytest.mark.parametrize("value", [-1, 1, 10_000])
def test_so_is_a_share_of_images_that_there_is_not(value):
    with pytest.raises(SnriseError, match=r"^config\.data\.hold_out: got .*; allowed: a whole number from 2 to "):
        experiment.dataset(config(f"data.hold_out={value}"))
