"""The folder of a run, and whether a config may go on in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snrise import documents
from snrise._errors import SnriseError
from snrise.config import RunConfig
from snrise.construct import plain
from snrise.training import checkpoints, newest_whole, read_header

__all__ = ["MAY_CHANGE", "RunFolder", "settle"]

#: Settings, or groups of them, that may differ between a run and the config it goes on with.
MAY_CHANGE = (
    "name", "log", "sampling", "data.path", "data.unreadable", "data.cache", "data.cache_folder", "data.workers",
    *(f"training.{name}" for name in (
        "images", "batch", "accumulate", "learning_rate", "warmup", "decay", "decay_shape", "betas", "weight_decay",
        "clip", "ema_half_life", "class_dropout", "precision", "on_fault", "fault_limit", "start",
    )),
)


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are."""

    path: Path

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """Means over intervals, a JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def events(self) -> Path:
        """Spikes and dropped steps, a JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def skipped(self) -> Path:
        """Files that could not be read."""
        return self.path / "skipped.txt"

    @property
    def samples(self) -> Path:
        """The folder of its grids."""
        return self.path / "samples"


def settle(folder: RunFolder, config: RunConfig) -> list[str]:
    """Whether a config may go on in a folder: the settings that change, in words.

    The run's settings are those in its newest readable checkpoint, which made the weights, or else in its config.yaml.

    Raises:
        SnriseError: if a setting differs that may not change; it names every one that differs.
    """
    old = _settings(folder)
    if old is None:
        return []
    differing = [d for d in documents.differences(old, plain(config)) if not d[0].startswith("made_with")]
    told = {key: f"{key} was {before!r}, now {now!r}" for key, before, now in differing}
    free = [text for key, text in told.items() if _may_change(key)]
    fixed = [text for key, text in told.items() if not _may_change(key)]
    if fixed:
        also = f"; these may change: {', '.join(free)}" if free else ""
        raise SnriseError(
            f"{folder.path}: holds a run with other settings; these may not change: {', '.join(fixed)}{also}; "
            "choose another --out"
        )
    return free


def _may_change(key: str) -> bool:
    if key.startswith("network.") and key.endswith(".checkpoint"):
        return True  # activation checkpointing: the same numbers in less memory
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def _settings(folder: RunFolder) -> dict[str, Any] | None:
    newest, _ = newest_whole(checkpoints(folder.checkpoints), read_header)
    if newest is not None:
        return documents.document_of(newest.config, str(newest.path))
    return documents.read_document(str(folder.config)) if folder.config.exists() else None
