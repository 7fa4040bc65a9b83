"""The run of an autoencoder in its folder, from settings to the last checkpoint; iterating over it trains."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snrise._errors import SnriseError
from snrise.autoencoding.config import CodecConfig, parse
from snrise.autoencoding.loop import CodecReport, Judge, begun, reconstructed, train
from snrise.codecs import ABOUT, EXPORTED, Autoencoder, codes_of
from snrise.config import OnFault, to_yaml
from snrise.construct import plain
from snrise.data import as_float, to_uint8
from snrise.experiment import opened
from snrise.files import held, write_atomically
from snrise.parallel import ALONE
from snrise.plots import sample_grid
from snrise.runs.cadence import Cadence
from snrise.runs.faults import FaultPolicy
from snrise.runs.folder import RunFolder, saved_config, settle
from snrise.runs.logs import JsonLines, TensorBoard, WandB, Writer, memory_gib
from snrise.runs.provenance import made_with
from snrise.runs.saver import Saver
from snrise.training import checkpoints, load_latest

__all__ = ["MAY_CHANGE", "CodecRun", "of_run"]

#: Settings, or groups of them, that may change when a run is resumed.
MAY_CHANGE = (
    "name", "log", "data.path", "data.unreadable", "data.cache", "data.cache_folder", "data.workers",
    *(f"training.{name}" for name in (
        "images", "batch", "learning_rate", "warmup", "decay", "decay_shape", "betas", "weight_decay", "clip",
        "critic_rate", "ema_half_life", "precision", "on_fault", "fault_limit",
    )),
)
#: Scaling and shift of codes are measured on at most so many images, at each checkpoint; so many are encoded at a time.
MEASURED, AT_ONCE = 128, 16


class CodecRun:
    """A run that writes into its folder while it is iterated over, which yields a report for each step.

    As `runs.Run`: opened again it resumes from the newest whole checkpoint, exactly. With each checkpoint the averaged
    autoencoder is written in diffusers' format, into the folder `diffusers`.

    Args:
        config: the settings.
        folder: where the run is, or will be.
        tell: called with one line at a time about the progress of the run.
        device: where to train.

    Raises:
        SnriseError: when opened, for settings that are not the run's, or missing weights of the perceptual network;
            when iterated over, for faults that stop it as the settings say, and for files that cannot be written.
    """

    def __init__(
        self, config: CodecConfig, folder: str | Path, tell: Callable[[str], None] = print,
        device: torch.device | str = "cpu",
    ) -> None:
        self.folder, self.tell, self.device = RunFolder(Path(folder)), tell, torch.device(device)
        self.data, training = opened(config.data), config.training
        self.cadence = Cadence(config.log, training.images)
        self.faults = FaultPolicy(training.on_fault, training.fault_limit)
        self.judge = Judge.of(config, self.device)
        self.tally = Tally()
        with ExitStack() as stack:
            stack.enter_context(held(self.folder.path))
            for change in settle(self.folder, config, parse, MAY_CHANGE):
                tell(f"changed: {change}")
            self.config = replace(config, made_with=made_with(self.data))
            start = None if checkpoints(self.folder.checkpoints) else training.start
            self.state = begun(config, self.device, start)
            self.seconds = Autoencoder(path=start).training_seconds or 0.0 if start else 0.0
            self._load(first=True)
            write_atomically(self.folder.config, to_yaml(self.config).encode())
            self.saver = Saver(self.folder, to_yaml(self.config), replace(config.log, background=False), ALONE)
            self._stack = stack.pop_all()

    def __enter__(self) -> "CodecRun":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder."""
        self._stack.close()

    def __iter__(self) -> Iterator[CodecReport]:
        """Train to the end, or until no further step is asked for; then it is for the caller to `save`."""
        config, state = self.config, self.state
        if config.training.on_fault is OnFault.ROLLBACK and not state.step:
            self.save()
        batches = iter(self.data.batches(config.training.batch, seed=config.seed, position=state.position))
        for report in train(state, batches, self.judge, images=config.training.images):
            self._after(report)
            yield report

    def _load(self, *, first: bool) -> None:
        """Take the state of the newest checkpoint, and drop later lines of the logs."""
        position, faults = self.state.position, self.state.faults
        checkpoint, broken = load_latest(self.state, self.folder.checkpoints)
        for problem in broken if first else ():
            self.tell(f"passed over a broken checkpoint: {problem}")
        if checkpoint is not None:
            saved = checkpoint.extra
            if first and saved["images"] != len(self.data):
                raise SnriseError(
                    f"{self.folder.path}: holds a run on other data: images were {saved['images']}, now "
                    f"{len(self.data)}; choose another --out"
                )
            if first and saved["fingerprint"] != self.data.fingerprint:
                self.tell("the files have changed since the last checkpoint: the run is no longer exactly repeatable")
            self.tally, self.seconds = Tally(**saved["tally"]), saved["seconds"]
            if first:
                self.tell(f"going on from {self.state.images_seen:,} images ({checkpoint.path})")
            else:
                self.state.position, self.state.faults = position, faults
        elif not first:
            raise SnriseError(f"{self.folder.checkpoints}: no checkpoint to roll back to; use training.on_fault=skip")
        seen, log, path = self.state.images_seen, self.config.log, self.folder.path
        self.writers: list[Writer] = [JsonLines(self.folder.log, seen)]
        if log.tensorboard:
            self.writers.append(TensorBoard(path / "tensorboard", seen, []))
        if log.wandb is not None:
            self.writers.append(WandB(path, self.config.name, log.wandb.value, plain(self.config), []))
        self.events = JsonLines(self.folder.events, self.state.position, by="position")

    def _after(self, report: CodecReport) -> None:
        """Do what is due after a step."""
        before, after = report.images_seen - report.batch, report.images_seen
        self.tally.add(report)
        self.seconds += report.seconds
        if report.fault is not None:
            self._fault(report, report.fault)
            return
        if self.cadence.logs(before, after):
            values = self.tally.read(report) | {"faults": self.state.faults, "skipped": len(self.data.skipped)}
            for writer in self.writers:
                writer.write(values)
        if self.cadence.draws(before, after):
            self.draw()
        if self.cadence.saves(before, after):
            self.save()

    def _fault(self, report: CodecReport, where: str) -> None:
        """Skip, roll back or stop after a step that was dropped."""
        action = self.faults.decide()
        names = [self.data.name(i) for i in report.indices]
        self.events.write({
            "event": "fault", "step": report.step, "images_seen": report.images_seen, "position": report.position,
            "where": where, "action": str(action), "images": names,
        })
        description = (
            f"not finite after {report.images_seen:,} images, step {report.step}: {where}; {', '.join(names[:2])} and "
            f"{max(0, len(names) - 2)} more, named in {self.folder.events}"
        )
        if action is OnFault.STOP:
            raise self.faults.error(description)
        if action is OnFault.ROLLBACK:
            self._load(first=False)
            description += f"; rolled back to {self.state.images_seen:,} images"
        self.tell(f"step dropped: loss or gradient {description}")

    def save(self) -> Path:
        """Write a checkpoint, and the averaged autoencoder in diffusers' format; returns the checkpoint."""
        extra = {"images": len(self.data), "fingerprint": self.data.fingerprint, "tally": self.tally.state()}
        extra["seconds"] = self.seconds
        path = self.saver.save(self.state, extra)
        self.faults.since_checkpoint = 0
        self.export()
        return path

    def draw(self) -> Path:
        """Write a grid of images, each with its reconstruction by the averaged autoencoder; returns its file."""
        path, picture = self.folder.samples / f"{self.state.images_seen:012d}.png", BytesIO()
        shown = self.data.images(self.data.spread(max(1, self.config.log.grid // 2)))
        sample_grid(pairs(shown, self._reconstructed(shown))).save(picture, "PNG")
        write_atomically(path, picture.getvalue())
        return path

    def export(self) -> Path:
        """Write the averaged autoencoder in diffusers' format, with the factors that scale its codes; the folder."""
        folder = self.folder.path / EXPORTED
        fresh = folder.with_name(f".{EXPORTED}.tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        autoencoder = self._averaged()
        codes = self._codes(autoencoder)
        if hasattr(autoencoder.config, "scaling_factor"):
            factors = {"scaling_factor": float(1 / codes.std(correction=0))}
            if hasattr(autoencoder.config, "shift_factor"):
                factors["shift_factor"] = float(codes.mean())
            autoencoder.register_to_config(**factors)
        try:
            autoencoder.save_pretrained(fresh, safe_serialization=True)
            about = {"images_seen": self.state.images_seen, "seconds": round(self.seconds, 1), "run": self.config.name}
            (fresh / ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")
            folder.mkdir(exist_ok=True)
            for file in sorted(fresh.iterdir()):
                file.replace(folder / file.name)
        except OSError as error:
            raise SnriseError(f"{folder}: cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return folder

    def _averaged(self) -> Any:
        network: Any = self.state.ema.averaged(self.state.network)
        return network.autoencoder.eval()

    def _reconstructed(self, images: Tensor) -> Tensor:
        autoencoder = self._averaged()
        parts = [as_float(part).to(self.device) for part in torch.split(images, AT_ONCE)]
        return torch.cat([to_uint8(reconstructed(autoencoder, part)).cpu() for part in parts])

    @torch.no_grad()
    def _codes(self, autoencoder: Any) -> Tensor:
        parts = torch.split(self.data.images(self.data.spread(MEASURED)), AT_ONCE)
        return torch.cat([codes_of(autoencoder.encode(as_float(part).to(self.device))) for part in parts]).double()


class Tally:
    """Means of the parts of the objective since they were last read; `state` carries them over an interruption."""

    def __init__(
        self, steps: int = 0, images: int = 0, sums: Mapping[str, float] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.steps, self.images = steps, images
        self.sums, self.counts = dict(sums or {}), dict(counts or {})

    def add(self, report: CodecReport) -> None:
        """Count a step; only the time of one that was dropped."""
        times = {"seconds": report.seconds, "data_seconds": report.data_seconds}
        values = times if report.fault else times | report.parts | {"grad_norm": report.grad_norm}
        self.steps += report.fault is None
        self.images += report.batch
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self, last: CodecReport) -> dict[str, Any]:
        """The means over the interval, whose last step is `last`; a new interval begins."""
        seconds = max(self.sums.pop("seconds"), 1e-9)
        values = {
            "step": last.step, "images_seen": last.images_seen, "learning_rate": last.learning_rate,
            "images_per_second": self.images / seconds, "data_share": self.sums.pop("data_seconds") / seconds,
            "memory_gib": memory_gib(), **{name: self.sums[name] / self.counts[name] for name in sorted(self.sums)},
        }
        self.__init__()  # type: ignore[misc]
        return values

    def state(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them."""
        return {"steps": self.steps, "images": self.images, "sums": self.sums, "counts": self.counts}


def of_run(path: str | Path) -> CodecConfig | None:
    """The settings of the run in a folder; None if it is no run of an autoencoder."""
    folder = RunFolder(Path(path))
    config: CodecConfig | None = saved_config(folder, parse) if folder.config.is_file() else None
    return config


def pairs(images: Tensor, others: Tensor) -> Tensor:
    """Images of two kinds in turn."""
    return torch.stack([images, others], dim=1).flatten(0, 1)
