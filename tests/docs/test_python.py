"""docs/python.md runs, as one program."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

import snrise
from snrise.metrics import FEATURES
from tiny import POOLED

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fused.*")
def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40), (80 * i, 10, 90)).save(tmp_path / "photos" / f"{i}.png")
    program = "".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
    # Two things alone are other than written: what is judged by, and an enumeration by its name, which tests check.
    for written, meant in (('"KID-EffNet"', '"KID-pooled"'), ('precision="fp32"', "precision=Precision.FP32")):
        assert written in program
        program = program.replace(written, meant)
    names = {"Precision": snrise.precision.Precision}
    exec(compile(program, "docs/python.md", "exec"), names)
    assert names["images"].shape == (4, 3, 32, 32)
    assert names["z"].shape == (2, 3, 32, 32)
    assert names["pictures"].shape == (3, 3, 16, 24)
    assert names["bright"].dtype == torch.uint8
    assert names["plan"].fits
    for run in ("photos", "mine", "captioned"):
        assert (tmp_path / "runs" / run / "config.yaml").exists()
