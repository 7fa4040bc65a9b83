"""docs/evaluation.md names all that samples are judged by."""

from pathlib import Path

import pytest

from snrise.evaluation import measures
from snrise.metrics import FEATURES

TEXT = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", measures(FEATURES["efficientnet-lite0"]))
def test_every_score_is_in_the_table(name):
    assert any(name in line for line in TEXT.splitlines() if line.startswith("|"))
