"""The built site, if there is one: nothing is loaded from elsewhere, and Chromium typesets every formula."""

import functools
import http.server
import importlib.util
import re
import threading

import pytest

from browser import CHROMIUM, chromium
from written import ROOT, page

SITE = ROOT / "build" / "site"
pytestmark = pytest.mark.skipif(not (SITE / "index.html").is_file(), reason="docs/site/build has not been run")


def module(name):
    """One of the programs beside the site, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def shown(address):
    """A function: a page of the site, opened; errors, and requests to elsewhere, fail the test."""
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    wrong = []
    with chromium() as browser:
        context = browser.new_context(locale="en-GB")

        def route(asked):
            if asked.request.url.startswith((address, "data:", "blob:")):
                return asked.continue_()
            wrong.append(asked.request.url)
            return asked.abort()

        def answered(got):
            # The theme looks for a list of pages beside each translated one, and does without.
            if got.status >= 400 and not got.url.endswith("/sitemap.xml"):
                wrong.append(got.url)

        context.route("**/*", route)

        def show(path):
            view = context.new_page()
            view.on("pageerror", lambda error: wrong.append(str(error)))
            view.on("response", answered)
            view.goto(f"{address}/{path}")
            return view

        yield show
    assert wrong == []


def test_nothing_is_loaded_from_another_host():
    assert module("check").wrong(SITE) == []


def test_the_check_sees_what_it_is_for(tmp_path):
    (tmp_path / "a.css").write_text('@import "//x.org/a.css"; p { background: url(there.png) }', encoding="utf-8")
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="a.css"><link rel="canonical" href="https://x.org/"><a href="https://x.org/">x</a>'
        '<script src="https://x.org/a.js"></script><img src="gone.png" srcset="https://x.org/b.png 2x">'
        '<style>@font-face { src: url("https://x.org/c.woff2") }</style>', encoding="utf-8")
    assert module("check").wrong(tmp_path) == [
        "a.css: //x.org/a.css: on another host", "a.css: there.png: not there",
        "a.html: https://x.org/a.js: on another host", "a.html: gone.png: not there",
        "a.html: https://x.org/b.png: on another host", "a.html: https://x.org/c.woff2: on another host",
    ]


@pytest.mark.parametrize(("path", "language"), [("derivation.html", "en"), ("zh/derivation.html", "zh")])
def test_formulas_are_typeset(shown, path, language):
    view = shown(path)
    assert view.locator("html").get_attribute("lang") == language
    written = page("docs/derivation.md" if language == "en" else "docs/derivation.zh.md")
    assert view.locator(".arithmatex .katex-display").count() == len(re.findall(r"^\$\$", written, re.M))
    assert view.locator(".katex-error").count() == 0
    assert view.locator(".arithmatex:not(:has(.katex))").count() == 0
    assert not re.search(r"\\[(\[]|\$\$", view.locator("article").inner_text())
    assert view.evaluate("() => document.fonts.check('16px KaTeX_Main')")


@pytest.mark.parametrize("path", ["formulas.html", "zh/index.html"])
def test_no_formula_is_wrong(shown, path):
    view = shown(path)
    assert view.locator(".katex").count() > 0
    assert view.locator(".katex-error").count() == 0


def test_links_into_the_sources_lead_to_the_reference(shown):
    link = shown("derivation.html").locator("article a", has_text=re.compile("^diffuse$")).first
    assert link.get_attribute("href") == "reference/process.html#snrise.process.diffuse"


@pytest.mark.parametrize(("start", "word", "wanted"), [
    ("index.html", "interpolated", "derivation"), ("zh/index.html", "噪声调度", "zh/"),
])
def test_the_search_finds_words_in_both_languages(shown, start, word, wanted):
    view = shown(start)
    view.locator("input.md-search__input").click()
    view.keyboard.type(word)
    view.locator(".md-search-result__item a").first.wait_for()
    links = view.locator(".md-search-result__item a").evaluate_all("(all) => all.map((a) => a.href)")
    assert any(wanted in link for link in links)


def test_one_language_leads_to_the_other(shown):
    view = shown("derivation.html")
    there = view.locator(".md-header a[hreflang=zh]").first.get_attribute("href")
    assert there == "zh/derivation.html"
