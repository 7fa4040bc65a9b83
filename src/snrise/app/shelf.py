"""The runs of an app, by name: told of from their headers, loaded when they are asked for, a few kept."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch

from snrise._errors import unknown
from snrise.config import RunConfig
from snrise.models import models, no_checkpoint
from snrise.runs import RunFolder
from snrise.trained import Trained, is_run, load, newest, saved

__all__ = ["About", "Shelf"]

#: Loaded runs that are kept.
KEPT = 4


@final
@dataclass(frozen=True, kw_only=True)
class About:
    """What the header of a run's weights says."""

    config: RunConfig
    classes: tuple[str, ...]
    images_seen: int

    def __str__(self) -> str:
        height, width = self.config.data.resolution
        network = type(self.config.network).__name__.removesuffix("Config")
        classes = f"{len(self.classes)} classes" if self.classes else "no classes"
        predicts = self.config.loss.prediction.value
        return f"{height}×{width} px, {classes}; {network}, predicts {predicts}; trained on {self.images_seen:,} images"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Shelf:
    """Runs by name. One that trains on gets its newer checkpoint when it is asked for again.

    `device` is where they are loaded; `asked` is that device if it was asked for by name, and else None.
    """

    names: tuple[str, ...]
    device: torch.device
    asked: str | None = None
    _kept: "OrderedDict[str, tuple[tuple[Path, int], Trained]]" = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, runs: Sequence[str] = (), device: str | None = None) -> "Shelf":
        """Those of the runs, or of the built-in models.

        Raises:
            SnriseError: for one that is no run.
        """
        small_first = sorted(models(), key=lambda name: (len(name), name))
        names = tuple(dict.fromkeys(str(run) for run in runs)) or tuple(small_first)
        for name in names:
            if not (is_run(Path(name)) or is_folder(name)):
                raise no_checkpoint(Path(name))
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(names=names, device=where, asked=device)

    def about(self, name: str) -> About:
        """What a run is, without loading it."""
        header, config = saved(newest(self._path(name)))
        classes = tuple(header.extra.get("classes") or ())
        return About(config=config, classes=classes, images_seen=header.images_seen)

    def load(self, name: str) -> Trained:
        """The network of a run: as it was loaded before, unless its newest checkpoint is another one now."""
        file = newest(self._path(name))
        is_now = file, file.stat().st_mtime_ns
        with self._lock:
            was, trained = self._kept.pop(name, (None, None))
            if trained is None or was != is_now:
                trained = load(name, device=self.device)
            self._kept[name] = is_now, trained
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return trained

    @property
    def folders(self) -> list[str]:
        """Those that are folders of runs, with settings and perhaps logs."""
        return [name for name in self.names if is_folder(name)]

    def _path(self, name: str) -> Path:
        if name not in self.names:
            raise unknown("run", name, self.names, "run")
        return Path(name)


def is_folder(name: str) -> bool:
    """Whether it is the folder of a run."""
    return RunFolder(Path(name)).config.is_file()
