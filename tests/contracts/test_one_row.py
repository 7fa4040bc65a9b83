"""One new row in a table is a new member everywhere: no other line knows its name."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from snrise import cli, experiment
from snrise.evaluation import Reference, judge
from snrise.metrics import FEATURES, METRICS, Better, Score
from tiny import DOCUMENT, POOLED, config, fails

# A metric

def contrast(samples, reference):
    """The ratio of the standard deviations of the features; POOLED's are pixels."""
    ratio = samples.features.std() / reference.features.std()
    yield Score("contrast", float(ratio), 0.25, Better.ONE, "1 is that of the data", caution="contrast: a toy")


@pytest.fixture
def with_contrast(monkeypatch, tmp_path):
    monkeypatch.setitem(METRICS, "contrast", contrast)
    monkeypatch.setitem(FEATURES, "pooled", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)


def test_metric(with_contrast, tmp_path):
    data = experiment.dataset(config())
    judgement = judge([data.images(range(0, 300, 3)) // 2], Reference.of(data, POOLED, home=tmp_path))
    assert judgement["contrast"] == pytest.approx(0.5, abs=0.1)
    assert f"{'contrast':<18}{judgement['contrast']:.4f} ± 0.2500  (1 is that of the data)" in str(judgement)
    assert "caution: contrast: a toy" in str(judgement)
    report = json.loads(json.dumps(judgement.as_json()))
    assert (report["contrast"], report["contrast error"]) == (judgement["contrast"], 0.25)
    assert report["cautions"][-1] == "contrast: a toy"


def test_metric_in_a_comparison(with_contrast, monkeypatch, capsys):
    arms = ["tiny.yaml name=v", "tiny.yaml name=x loss.prediction=x"]
    command = ["compare", *arms, "--features", "pooled", "-n", "8", "--out", "out", "--images", "8", "--seeds", "1",
               "--points", "1", "--metric"]
    monkeypatch.delitem(METRICS, "contrast")
    assert fails(monkeypatch, capsys, *command, "contrast").startswith("--metric: no such metric 'contrast'; did you")
    CliRunner().invoke(cli.app, [*command, "recall"], catch_exceptions=False)
    # What was judged before the metric was there is judged again, not trained again.
    monkeypatch.setitem(METRICS, "contrast", contrast)
    result = CliRunner().invoke(cli.app, [*command, "contrast"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    points = {p["arm"]: p["metrics"]["contrast"] for p in json.loads(Path("out/comparison.json").read_text())}
    header, *rows = [line.split() for line in result.stdout.splitlines() if " images " in line or "8 " in line][-3:]
    assert "contrast" in header
    best_first = sorted(points, key=lambda arm: abs(points[arm] - 1))
    assert [(row[0], row[2]) for row in rows] == [(arm, f"{points[arm]:.4f}") for arm in best_first]
