"""The commands of pages that have no test of their own run, made short."""

import pytest

from snrise.metrics import FEATURES
from tiny import POOLED
from written import commands, invoke, page, photographs, shortened


@pytest.mark.slow
@pytest.mark.parametrize(("path", "count"), [("docs/latent.md", 5), ("docs/scaling-plan.md", 1)])
def test_its_commands_run(path, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    photographs(tmp_path / "path" / "to" / "photos")
    found = commands(page(path))
    assert len(found) == count
    for arguments in found:
        invoke(shortened(arguments))
