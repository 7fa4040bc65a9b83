"""The page on growing runs, and says what the code does."""

import re
from pathlib import Path

import torch

from snrise.schedules import Cosine, for_resolution

TEXT = (Path(__file__).parents[2] / "docs" / "growing.md").read_text(encoding="utf-8")


def test_its_python_makes_a_network():
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names = {}
    exec(compile(program, "growing.md", "exec"), names)
    network = names["network"]
    assert network(torch.zeros(2, 3, 32, 48), torch.zeros(2)).shape == (2, 3, 32, 48)


def test_its_figures_are_those_of_a_cosine_for_64_px():
    """A share of draws at λ + log s² < 0, with the mean variance of the emoji's bands."""
    size = (0.0211 + 0.0282 + 0.00434) / 3
    schedule = for_resolution(Cosine(), image=(64, 64), reference=(32, 32))
    share = (schedule(torch.linspace(0, 1, 10_001)) + torch.tensor(size).log() < 0).double().mean().item()
    assert round(20 * share) == 19
    assert "19 of 20" in TEXT
