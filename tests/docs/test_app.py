"""docs/app.md: its Python runs as it is written, and its command makes its picture."""

import re
from pathlib import Path

import pytest

from tiny import command

TEXT = (Path(__file__).parents[2] / "docs" / "app.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gradio")
    monkeypatch.chdir(tmp_path)
    exec(compile("".join(re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)), "docs/app.md", "exec"), {})
    said = capsys.readouterr().out.strip()
    assert f"# {said}\n" in TEXT
    command(*said.split()[1:], "--out", "again.png")
    assert Path("again.png").read_bytes() == Path("hearts.png").read_bytes()


def test_every_picture_is_there():
    for name in re.findall(r"\(?\"?(img/[\w-]+\.png)", TEXT):
        assert (Path(__file__).parents[2] / "docs" / name).is_file(), name
