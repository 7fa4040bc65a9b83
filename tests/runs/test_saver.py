"""Checkpoints that are written while training goes on."""

import threading

import pytest
from safetensors.torch import load_file

from snrise._errors import SnriseError
from snrise.experiment import Experiment
from snrise.runs import Run, saver
from tiny import config

SETTINGS = ("training.images=64", "log.checkpoint=16", "training.averages=[0.05,0.1]", "log.keep=9")


def trained(folder, *more):
    with Run(Experiment.of(config(*SETTINGS, *more)), folder, lambda line: None) as run:
        for _ in run:
            pass
        run.save()
    return {str(file.relative_to(folder)): load_file(file) for file in folder.rglob("*.safetensors")}


@pytest.mark.slow
def test_checkpoints_in_the_background_are_the_same(tmp_path):
    """Also where a step has been taken before a copy is written."""
    plain, background = trained(tmp_path / "a"), trained(tmp_path / "b", "log.background=true")
    assert len(plain) == 8
    assert plain.keys() == background.keys()
    for file, tensors in plain.items():
        assert all((background[file][name] == t).all() for name, t in tensors.items()), file


def test_a_copy_does_not_change_while_training_goes_on(tmp_path, monkeypatch):
    held, write = threading.Event(), saver.Saver._write

    def late(*arguments):
        assert held.wait(60)
        return write(*arguments)

    monkeypatch.setattr(saver.Saver, "_write", late)
    settings = (*SETTINGS[:1], "log.checkpoint=40", "log.background=true")
    with Run(Experiment.of(config(*settings)), tmp_path / "b", lambda line: None) as run:
        for report in run:
            if report.images_seen == 56:
                held.set()
    (file,) = (tmp_path / "b" / "checkpoints").iterdir()
    with Run(Experiment.of(config(*settings[:2])), tmp_path / "a", lambda line: None) as run:
        for report in run:
            if report.images_seen == 40:
                break
    expected = load_file(tmp_path / "a" / "checkpoints" / file.name)
    assert all((expected[name] == t).all() for name, t in load_file(file).items())


def test_what_goes_wrong_in_the_background_is_told(tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise SnriseError("the disk is full")

    monkeypatch.setattr(saver.Snapshot, "save", full)
    with (
        pytest.raises(SnriseError, match="the disk is full"),
        Run(Experiment.of(config(*SETTINGS, "log.background=true")), tmp_path / "run", lambda line: None) as run,
    ):
        for _ in run:
            pass
    assert run.state.images_seen == 32  # at the second


def test_the_last_one_is_waited_for(tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise SnriseError("the disk is full")

    monkeypatch.setattr(saver.Snapshot, "save", full)
    run = Run(Experiment.of(config(*SETTINGS, "log.background=true")), tmp_path / "run", lambda line: None)
    for report in run:
        if report.images_seen == 16:
            break
    with pytest.raises(SnriseError, match="the disk is full"):
        run.close()
    Run(Experiment.of(config(*SETTINGS)), tmp_path / "run", lambda line: None).close()  # it is unlocked
