"""The pages of the site: their Python runs, their commands exist, both languages agree, and the navigation is whole."""

import re
from pathlib import Path

import pytest
import yaml

import snrise
from snrise.metrics import FEATURES
from tiny import POOLED
from written import ROOT, blocks, commands, invoke, page, photographs, pictures, program, shortened

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
TRANSLATED = ["index", "tutorial", "derivation"]
#: Rooms whose names are not told one by one.
WITHIN = {
    "app", "autoencoding", "checkpoint", "config", "documents", "encoding", "experiment", "explorer", "export",
    "generation", "growing", "models", "optimizers", "parallel", "precision", "rates", "trained",
}


class Settings(yaml.SafeLoader):
    """Of mkdocs, where functions are named by tags, which are passed over here."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)
SITE = yaml.load(page("mkdocs.yml"), Settings)


def in_nav(part):
    match part:
        case str():
            return [part]
        case dict():
            return [name for inner in part.values() for name in in_nav(inner)]
        case _:
            return [name for inner in part for name in in_nav(inner)]


def titles(part):
    """The names that the navigation gives to pages and to groups."""
    if isinstance(part, dict):
        return [name for title, inner in part.items() for name in (title, *titles(inner))]
    return [name for inner in part for name in titles(inner)] if isinstance(part, list) else []


@pytest.mark.parametrize("path", ["docs/derivation.md", "docs/derivation.zh.md"])
def test_the_derivation_runs_from_top_to_bottom(path, capsys):
    names = {}
    exec(compile(program(page(path)), path, "exec"), names)
    assert names["power"].images == 64
    assert "not fit for this resolution" in capsys.readouterr().out


@pytest.mark.parametrize("name", TRANSLATED)
def test_both_languages_have_the_same_code_formulas_pictures_and_headings(name):
    english, chinese = page(f"docs/{name}.md"), page(f"docs/{name}.zh.md")
    assert blocks(english, "python") == blocks(chinese, "python")
    assert blocks(english, "sh") == blocks(chinese, "sh")
    assert [Path(picture) for picture in pictures(english)] == [Path(picture) for picture in pictures(chinese)]
    for numbered in (r"\((\d+)\)\$\$", r"^#+ "):
        assert len(re.findall(numbered, english, re.M)) == len(re.findall(numbered, chinese, re.M))
    assert sorted(set(re.findall(r"\((\w[\w/-]*\.md)", english))) == sorted(
        set(re.findall(r"\((\w[\w/-]*\.md)", chinese)))
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 400


def test_equations_are_numbered_in_their_order():
    numbers = [int(n) for n in re.findall(r"\\qquad \((\d+)\)\$\$", page("docs/derivation.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == 22


@pytest.mark.slow
def test_commands_of_the_tutorial_and_of_what_builds_on_it_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "path" / "to" / "photos")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(FEATURES, "efficientnet-lite0", POOLED)
    for name in ("tutorial", "higher-resolution", "index"):
        found = commands(page(f"docs/{name}.md"))
        assert len(found) >= 2, name
        for arguments in found:
            invoke(shortened(arguments))
    for made in ("schedule-power.png", "explore.html", "states.png", "runs/photos-evaluation/nearest.png",
                 "runs/photos-grown-again/config.yaml", "upsampled.png", "samples-3.png"):
        assert (tmp_path / made).is_file(), made


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_exists(name):
    for picture in pictures(page(f"docs/{name}")):
        assert ((DOCS / name).parent / picture).is_file(), picture


def test_every_page_is_in_the_navigation_once():
    here = sorted(in_nav(SITE["nav"]))
    assert here == [name for name in PAGES if not name.endswith(".zh.md")]


def test_the_navigation_is_translated():
    (plugin,) = (part["i18n"] for part in SITE["plugins"] if isinstance(part, dict) and "i18n" in part)
    _, chinese = plugin["languages"]
    assert sorted(chinese["nav_translations"]) == sorted(titles(SITE["nav"]))


def test_every_public_room_is_in_the_reference():
    text = "".join(page(f"docs/{name}") for name in PAGES if name.startswith("reference/"))
    told = set(re.findall(r"^::: snrise\.(\w+)", text, re.M))
    rooms = {name for name in snrise.__all__ if name.islower() and not name.startswith("_")}
    assert rooms - told == WITHIN | {"evaluate", "load", "train"}
    members = re.search(r"members: \[(.*)\]", page("docs/reference/index.md"))[1].split(", ")
    assert set(members) <= set(snrise.__all__)


def test_what_is_brought_along_is_small_and_says_its_licence():
    katex = DOCS / "site" / "katex"
    assert "MIT" in (katex / "LICENSE").read_text(encoding="utf-8")
    assert sum(file.stat().st_size for file in katex.rglob("*") if file.is_file()) < 10**6
