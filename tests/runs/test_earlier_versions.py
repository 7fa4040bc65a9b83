"""Runs that earlier versions made go on: a new setting is what it is by default, and nothing of theirs is refused."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from snrise._errors import SnriseError
from snrise.config import parse
from snrise.experiment import Experiment
from snrise.runs import Run, RunFolder, saved_config, settle
from tiny import command, objects

EARLIER = Path(__file__).parent / "earlier"
VERSIONS = sorted(path.name for path in EARLIER.iterdir())


@pytest.fixture(params=VERSIONS)
def earlier(request, tmp_path):
    """A run that an earlier version stopped in the middle of; what that version logged of the rest is beside it."""
    return Path(shutil.copytree(EARLIER / request.param, tmp_path / "run"))


def cut(folder, setting):
    """Take a setting out of the saved ones, as if this version had brought it."""
    *path, name = setting.split(".")
    file = folder / "config.yaml"
    document = yaml.safe_load(file.read_text())
    place = document
    for part in path:
        place = place[part]
    del place[name]
    file.write_text(yaml.dump(document))


def test_it_goes_on_and_ends_near_where_that_version_would_have(earlier):
    """Its weights and moments are those of the checkpoint; the noise of what is left is drawn in another way now."""
    expected = objects(earlier / "log.jsonl")
    settings = saved_config(RunFolder(earlier))
    told = []
    with Run(Experiment.of(settings), earlier, told.append) as run:
        list(run)
    assert [line for line in told if line.startswith("changed")] == []
    assert any(line.startswith("going on from 32 images") for line in told)
    found = objects(earlier / "log.jsonl")
    assert [line["images_seen"] for line in found] == [16, 32, 48, 64]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=2e-3 if mine["images_seen"] <= 32 else 0.06)


def test_its_command_goes_on_too(earlier, monkeypatch):
    monkeypatch.chdir(earlier.parent)
    output = command("train", "run/config.yaml", "--out", "run")
    assert "going on from 32 images" in output
    assert "may not change" not in output


@pytest.mark.parametrize("setting", ["loss.levels", "seed", "data.hold_out", "training.fault_limit", "process"])
def test_a_setting_that_it_did_not_know_is_no_change(earlier, setting):
    shutil.rmtree(earlier / "checkpoints")
    whole = parse(yaml.safe_load((earlier / "config.yaml").read_text()))
    cut(earlier, setting)
    assert settle(RunFolder(earlier), whole) == []


def test_settings_from_a_later_version_are_told_in_one_line(earlier):
    shutil.rmtree(earlier / "checkpoints")
    whole = parse(yaml.safe_load((earlier / "config.yaml").read_text()))
    with (earlier / "config.yaml").open("a") as file:
        file.write("novelty: 1\n")
    file = earlier / "config.yaml"
    told = f"{file}: settings that this version of snrise cannot read: config.novelty: no such setting"
    with pytest.raises(SnriseError, match=f"^{re.escape(told)}"):
        settle(RunFolder(earlier), whole)
