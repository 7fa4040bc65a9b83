"""snrise's docstrings for a page: doctests become blocks of code, rows of names lists, symbols stay as they are."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

#: An underscore after a letter that is not ASCII, as in x̂_ref: Markdown would take it for emphasis.
_SYMBOL = re.compile(r"(?<=[^\x00-\x7f])_")
#: A row of a docstring that says what a field is: `name: text`.
_ROW = re.compile(r"(?P<indent>[ \t]*)(?P<name>[a-z_]\w*): (?P<text>.*)")


class Docstrings(griffe.Extension):
    """Prepares the docstring of everything that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the text before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = prepared(obj.docstring.value)


def prepared(text: str) -> str:
    """A docstring as Markdown."""
    parts = []
    for part in _parts(text):
        parts.append(_doctest(part) if part.lstrip().startswith(">>>") else _prose(_listed(part)))
    return "\n\n".join(parts)


def _parts(text: str) -> Iterator[str]:
    """Its paragraphs; a doctest that follows a line of text directly is a paragraph of its own."""
    for part in re.split(r"\n[ \t]*\n", text):
        at = re.search(r"^[ \t]*>>>", part, flags=re.MULTILINE)
        if at is None or at.start() == 0:
            yield part
        else:
            yield part[: at.start()].rstrip("\n")
            yield part[at.start() :]


def _doctest(part: str) -> str:
    indent = re.match(r"[ \t]*", part)[0]
    lines = [re.sub(r"\s*# doctest: \+\w+.*$", "", line) for line in part.splitlines()]
    return "\n".join([f"{indent}```pycon", *lines, f"{indent}```"])


def _listed(part: str) -> str:
    """A paragraph of rows, each the name of a field and what it is, as a list; any other as it is."""
    lines = part.splitlines()
    rows = [_ROW.fullmatch(line) for line in lines]
    if not rows or rows[0] is None or sum(row is not None for row in rows) < 2:
        return part
    listed = []
    for line, row in zip(lines, rows, strict=True):
        listed.append(f"    {line.lstrip()}" if row is None else f"- `{row['name']}`: {row['text']}")
    return "\n".join(listed)


def _prose(part: str) -> str:
    """Symbols' underscores, and shapes beside each other, [a][b], which are no links, escaped outside of code."""
    pieces = re.split(r"(`[^`]*`)", part)
    return "".join(
        piece if piece.startswith("`") else _SYMBOL.sub(r"\\_", piece).replace("][", r"]\[") for piece in pieces
    )
