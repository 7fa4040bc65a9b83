"""A summary of a run, from its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snrise._errors import SnriseError, invalid
from snrise.config import RunConfig, parse
from snrise.documents import read_document
from snrise.runs.folder import RunFolder
from snrise.training import checkpoints

__all__ = ["Summary", "summarize"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Settings, log lines, events and checkpoints of a run, and the number of files that it skipped."""

    config: RunConfig
    lines: list[dict[str, Any]]
    events: list[dict[str, Any]]
    checkpoints: list[Path]
    skipped: int


def summarize(path: Path) -> Summary:
    """Read a run's folder, also while the run is training.

    Raises:
        SnriseError: if it is not a run's folder.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise invalid(str(path), "no config.yaml", "a run's folder", "train one: snrise train")
    skipped = folder.skipped.read_text(encoding="utf-8").splitlines() if folder.skipped.exists() else []
    return Summary(
        config=parse(read_document(str(folder.config))), lines=_objects(folder.log), events=_objects(folder.events),
        checkpoints=checkpoints(folder.checkpoints), skipped=len(skipped),
    )


def _objects(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; an incomplete last line is left out."""
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise SnriseError(f"{path}: holds a line that is not JSON: {error}") from error
