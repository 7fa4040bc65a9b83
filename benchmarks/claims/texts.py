"""Settings as lines of text, short names made of them, and JSON as it is kept with the claims."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from snrise.construct import plain
from snrise.files import write_atomically

__all__ = ["digest", "one_line", "read_json", "write_json"]


def digest(text: str) -> str:
    """Eight characters that tell a text from others."""
    return sha256(text.encode()).hexdigest()[:8]


def one_line(settings: object) -> str:
    """A frozen dataclass, or a document of them, as one line of JSON with its keys in order."""
    return json.dumps(plain(settings), ensure_ascii=False, sort_keys=True)


def read_json(file: Path) -> Any:
    """What a file holds; an empty object where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write_json(document: object, file: Path) -> None:
    """Make a document the content of a file, whose folder is made if need be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
