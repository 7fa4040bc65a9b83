"""`snrise show`: a run in words and curves, and each of its errors."""

import json

import pytest
from typer.testing import CliRunner

from snrise import cli
from tiny import DOCUMENT, fails, size_of


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)


def snrise(*arguments):
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def run(tmp_path):
    snrise("train", "tiny.yaml", "training.images=48", "--out", "run")
    return tmp_path / "run"


def test_a_run_in_words_and_curves(run):
    output = snrise("show", "run")
    for told in ("tiny in run", "images at 16x16", "UViT, predicts v", "48 of 48", "images/s", "GiB",
                 "steps dropped  0", "loss spikes    0", "files skipped  0", "1, the newest run/checkpoints/",
                 "written: run/curves.png"):
        assert told in output, told
    assert size_of(run / "curves.png")[0] > 1000


def test_a_run_that_goes_on(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"images_seen": 4')
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("images: 48", "images: 48000"))
    output = snrise("show", "run", "--out", "a.svg")
    assert "48 of 48,000, " in output
    assert "minutes left at this speed" in output
    assert "written: a.svg" in output


def test_events_are_told(run):
    image = {"name": "cat.png", "logsnr": 1.5, "eps_loss": "nan"}
    event = {"event": "fault", "step": 3, "loss": "nan", "where": "weight a.b", "images": [image]}
    (run / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert "step 3: loss nan: dropped (weight a.b); worst: cat.png at λ 1.5, ε-loss nan" in snrise("show", "run")


def test_before_the_first_line_of_the_log(run):
    (run / "log.jsonl").write_text("")
    assert "nothing is logged yet, so there are no curves" in snrise("show", "run")


def test_a_picture_says_how_it_was_made(run):
    snrise("sample", "run", "-n", 2, "--seed", 5, "--out", "a")
    output = snrise("show", "a/000001.png")
    for told in ("number         1", 'run            {"name": "tiny", "images_seen": 48, "weights": "',
                 "seed           5", "class          ", "again: snrise sample RUN -n 1 --first 1 --seed 5 --class "):
        assert told in output, told


def test_mistakes(run, monkeypatch, capsys):
    assert fails(monkeypatch, capsys, "show", "nowhere") == (
        "nowhere: got 'no config.yaml'; allowed: a run's folder; train one: snrise train")
    error = fails(monkeypatch, capsys, "show", "run", "--out", "a.txt")
    assert error.startswith("--out a.txt: no such picture format '.txt'")
    assert fails(monkeypatch, capsys, "show", "run/curves.png").startswith("run/curves.png: got 'no such file'")
    (run / "log.jsonl").write_text("nonsense\n")
    assert fails(monkeypatch, capsys, "show", "run").startswith("run/log.jsonl: holds a line that is not JSON")
