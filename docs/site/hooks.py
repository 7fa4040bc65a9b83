"""What mkdocs needs told: the pages are written for a forge, where ../src is at hand; and for two languages."""

import re
from pathlib import Path
from typing import Any

from pymdownx.slugs import slugify

#: A link to a file of the repository that is not a page: `[text](../path)`, or a folder of pages' own files.
_OUTSIDE = re.compile(r"\[(?P<text>[^\]\[]+)\]\((?P<path>(?:\.\./)+[^)\s]+|results/)\)")
#: A class, function or constant of the package, as the text of a link.
_NAME = re.compile(r"`(?P<name>[\w.]+)`")
#: A picture of a page in HTML, which alone can say its width on a forge.
_IMAGE = re.compile(r'<img src="(?P<src>[^"]+)" alt="(?P<alt>[^"]*)" width="(?P<width>\d+)">')
#: The end of a line between two Chinese characters, or after a Chinese mark, where there is no space.
_WRAP = re.compile(
    r"(?<=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])\n(?=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\[])"
    r"|(?<=[\u3000-\u303f\uff00-\uffef])\n(?=[A-Za-z])"
)
_HEADING = re.compile(r"#{1,6} (?P<text>.+)")
_FENCE = re.compile(r"\s*```")


def on_pre_build(config: Any, **kwargs: Any) -> None:
    """Each language is a build of its own: forget where the one before had the reference's headings."""
    for kept in vars(config.plugins["autorefs"]).values():
        if isinstance(kept, dict):
            kept.clear()


def on_page_markdown(markdown: str, *, page: Any, config: Any, **kwargs: Any) -> str:
    """Links into the sources lead to the reference, or are plain text; translations have the original's anchors."""
    text = _OUTSIDE.sub(lambda link: _inside(link, page, config), markdown)
    text = _IMAGE.sub(r'![\g<alt>](\g<src>){ width="\g<width>" }', text)
    source = Path(page.file.abs_src_path)
    original = source.with_name(source.name.replace(".zh.md", ".md"))
    if source == original:
        return text
    return _WRAP.sub("", _with_anchors(text, anchors(original.read_text(encoding="utf-8"))))


def _inside(link: re.Match[str], page: Any, config: Any) -> str:
    text, path = link["text"], link["path"]
    target = (Path(page.file.abs_src_path).parent / path.partition("#")[0]).resolve()
    if target.is_relative_to(Path(config.docs_dir).resolve()) and target.suffix == ".md":
        return link[0]
    source = re.search(r"src/(snrise/[\w/]+)\.py$", path)
    named = _NAME.fullmatch(text)
    if source is None or named is None:
        return text if "`" in text else f"`{text}`" if re.fullmatch(r"[\w./-]+\.\w+", text) else text
    module = source[1].replace("/", ".").removesuffix(".__init__")
    name = named["name"]
    identifier = module if module.endswith(f".{name}") else f"{module}.{name}"
    return f'<autoref optional identifier="{identifier}"><code>{name}</code></autoref>'


def headings(markdown: str) -> list[tuple[int, str]]:
    """Line numbers and texts of the headings, outside of code."""
    found, code = [], False
    for number, line in enumerate(markdown.splitlines()):
        if _FENCE.match(line):
            code = not code
        elif not code and (heading := _HEADING.fullmatch(line)):
            found.append((number, heading["text"]))
    return found


def anchors(markdown: str) -> list[str]:
    """The ids that the headings of a page get, in their order."""
    slug = slugify(case="lower")
    taken: list[str] = []
    for _, text in headings(markdown):
        plain = slug(re.sub(r"[`*$\\]", "", text), "-")
        count = sum(re.fullmatch(rf"{re.escape(plain)}(_\d+)?", other) is not None for other in taken)
        taken.append(f"{plain}_{count}" if count else plain)
    return taken


def _with_anchors(markdown: str, ids: list[str]) -> str:
    """Each heading with the id of the one at its place in the original."""
    lines, here = markdown.splitlines(), headings(markdown)
    if len(here) != len(ids):
        raise ValueError(f"a translation with {len(here)} headings of a page with {len(ids)}")
    for (number, _), anchor in zip(here, ids, strict=True):
        lines[number] += f" {{ #{anchor} }}"
    return "\n".join(lines) + "\n"
