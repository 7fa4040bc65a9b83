"""Each function and each test that docs/formulas.md names exists, and each formula of the text has its row."""

import ast
import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")
FUNCTIONS = sorted(set(re.findall(r"\[`([\w.]+)`\]\(\.\./src/([\w/]+)\.py\)", TEXT)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
SECTIONS = {1: 3, 2: 4, 3: 3, 4: 5, 5: 4, 6: 6, 7: 6, 8: 4, 9: 3, 10: 4, 11: 8}


@pytest.mark.parametrize(("name", "path"), FUNCTIONS)
def test_function_exists(name, path):
    module = importlib.import_module(path.replace("/", "."))
    found = reduce(getattr, name.split("."), module)
    assert found.__module__ == module.__name__


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_test_exists(path, name):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_formula_has_a_row_with_a_function_and_a_test():
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    rows = {row[0]: row for row in (line.strip("| ").split(" | ") for line in lines)}
    wanted = [f"{section}.{n}" for section, count in SECTIONS.items() for n in range(1, count + 1)]
    wanted += [f"({n})" for n in range(1, 8)]
    for number in wanted:
        assert len(rows[number]) == 4, number
        assert "](../src/" in rows[number][2]
        assert "::test_" in rows[number][3]


def test_every_link_leads_somewhere():
    assert len(FUNCTIONS) > 20
    assert len(TESTS) > 40
    for path in re.findall(r"\]\((\.\./[^)]+)\)", TEXT):
        assert (ROOT / "docs" / path).resolve().is_file(), path
