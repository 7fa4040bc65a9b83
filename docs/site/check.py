"""Check a built site: all that a page loads is there, and on no other host. `python docs/site/check.py build/site`."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Links of a page that a browser loads or connects to by itself.
LOADED = {
    "stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest",
    "apple-touch-icon",
}
_IN_CSS = re.compile(r"url\(\s*(['\"]?)(?P<a>[^)'\"]+)\1\s*\)|@import\s+['\"](?P<b>[^'\"]+)")


class Loads(HTMLParser):
    """The addresses of what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element's own addresses, and those of its style."""
        told = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        if tag == "link" and not LOADED & set(told.get("rel", "").split()):
            return
        for name in ("src", "data", "poster") + (("href",) if tag in ("link", "use", "image") else ()):
            if name in told:
                self.found.append(told[name])
        self.found += [part.split()[0] for part in told.get("srcset", "").split(",") if part.strip()]
        self.found += in_css(told.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Addresses within a style."""
        if self._style:
            self.found += in_css(data)


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    return [match["a"] or match["b"] for match in _IN_CSS.finditer(text)]


def wrong(site: Path) -> list[str]:
    """What is loaded from elsewhere or is not there, a line each."""
    problems = []
    for file in sorted(site.rglob("*")):
        if file.suffix == ".html":
            loads = Loads()
            loads.feed(file.read_text(encoding="utf-8"))
            found = loads.found
        elif file.suffix == ".css":
            found = in_css(file.read_text(encoding="utf-8"))
        else:
            continue
        for address in found:
            parts = urlsplit(address)
            if parts.scheme == "data" or not (parts.path or parts.netloc):
                continue
            where = f"{file.relative_to(site)}: {address}"
            if parts.scheme or parts.netloc:
                problems.append(f"{where}: on another host")
            elif not _there(site, file, unquote(parts.path)):
                problems.append(f"{where}: not there")
    return problems


def _there(site: Path, file: Path, path: str) -> bool:
    root = site if path.startswith("/") else file.parent
    return (root / path.lstrip("/")).is_file()


if __name__ == "__main__":
    built = Path(sys.argv[1])
    pages = len(list(built.rglob("*.html")))
    lines = wrong(built)
    print("\n".join([*lines, f"{built}: {pages} pages, {len(lines)} problems"]))
    sys.exit(bool(lines) or not pages)
