"""The folder of a run, and whether a run with given settings may resume in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snrise import documents
from snrise._errors import SnriseError
from snrise.config import parse
from snrise.construct import plain
from snrise.training import checkpoints, newest_whole, read_header

__all__ = ["MAY_CHANGE", "RunFolder", "saved_config", "settle"]

#: Settings, or groups of them, that may change when a run is resumed.
MAY_CHANGE = (
    "name", "log", "sampling", "data.path", "data.unreadable", "data.cache", "data.cache_folder", "data.workers",
    *(f"training.{name}" for name in (
        "images", "batch", "accumulate", "learning_rate", "warmup", "decay", "decay_shape", "betas", "weight_decay",
        "clip", "ema_half_life", "class_dropout", "precision", "on_fault", "fault_limit", "start",
        "parallel",
    )),
)


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run's files."""

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
    def averages(self) -> Path:
        """The folder of averages of several widths, if the run keeps any."""
        return self.path / "averages"

    @property
    def images_seen(self) -> int:
        """The images seen by the newest whole checkpoint; 0 without one."""
        newest, _ = newest_whole(checkpoints(self.checkpoints), read_header)
        return 0 if newest is None else newest.images_seen

    @property
    def log(self) -> Path:
        """Means over intervals, one JSON object per line."""
        return self.path / "log.jsonl"

    @property
    def events(self) -> Path:
        """Spikes and dropped steps, one JSON object per line."""
        return self.path / "events.jsonl"

    @property
    def skipped(self) -> Path:
        """The list of files that could not be read."""
        return self.path / "skipped.txt"

    @property
    def samples(self) -> Path:
        """The folder of its grids of samples."""
        return self.path / "samples"


def settle(
    folder: RunFolder, config: Any, read: Callable[[dict[str, Any]], Any] = parse,
    may_change: Sequence[str] = MAY_CHANGE,
) -> list[str]:
    """Check that a run may be resumed with these settings; returns the changes, each in words.

    The settings of a run are those of its newest whole checkpoint, or else of its config.yaml. Settings unknown to the
    version that wrote them have their defaults. `read` makes settings of a plain document.

    Raises:
        SnriseError: if a setting differs that may not change; it names every one that differs.
    """
    old = saved_config(folder, read)
    if old is None:
        return []
    differing = [d for d in documents.differences(plain(old), plain(config)) if not d[0].startswith("made_with")]
    changes = {key: f"{key} was {before!r}, now {now!r}" for key, before, now in differing}
    free = [text for key, text in changes.items() if _may_change(key, may_change)]
    fixed = [text for key, text in changes.items() if not _may_change(key, may_change)]
    if fixed:
        also = f"; these may change: {', '.join(free)}" if free else ""
        raise SnriseError(
            f"{folder.path}: holds a run with other settings; these may not change: {', '.join(fixed)}{also}; "
            "choose another --out"
        )
    return free


def _may_change(key: str, may_change: Sequence[str]) -> bool:
    if key.startswith("network.") and key.endswith(".checkpoint"):
        return True  # activation checkpointing: the same numbers in less memory
    return any(key == name or key.startswith(f"{name}.") for name in may_change)


def saved_config(folder: RunFolder, read: Callable[[dict[str, Any]], Any] = parse) -> Any:
    """The settings of the run in a folder; None if there is none."""
    newest, _ = newest_whole(checkpoints(folder.checkpoints), read_header)
    if newest is not None:
        where, document = newest.path, documents.document_of(newest.config, str(newest.path))
    elif folder.config.exists():
        where, document = folder.config, documents.read_document(str(folder.config))
    else:
        return None
    try:
        return read(document)
    except SnriseError as error:
        raise SnriseError(f"{where}: settings that this version of snrise cannot read: {error}") from None
