"""Checkpoints: one safetensors file holds weights, average, optimizer, counts and the config that made them. No pickle.

Tensors are named `network.…`, `ema.…` and `optimizer.PARAMETER.…`; the file's metadata hold the counts as JSON and the
config as YAML, so that a checkpoint alone is enough to sample from, and a checksum of each part.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from snrise._errors import SnriseError, invalid, require
from snrise.training.files import write_atomically
from snrise.training.state import TrainState

__all__ = [
    "FORMAT", "BrokenCheckpoint", "Checkpoint", "checkpoints", "checksum", "header_sum", "latest", "load_latest",
    "load_network", "load_state", "newest_whole", "part_of_checkpoint", "read_header", "save_state",
]

T = TypeVar("T")
#: Raised when what is stored changes its meaning. In 2, what an optimizer knew was stored by a parameter's number.
FORMAT, READABLE = 3, (2, 3)
PARTS = ("network", "ema", "optimizer")
#: Of a run that keeps averages of several widths.
POWERS = "powers"
COUNTS = ("step", "images_seen", "position", "faults")


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint's header says; `checksums` tell its parts, network, ema and optimizer, from any other's.

    Of exported weights there is one part, ema.
    """

    path: Path
    step: int
    images_seen: int
    position: int
    faults: int
    config: str
    extra: dict[str, Any]
    checksums: dict[str, str]

    @property
    def weights_alone(self) -> bool:
        """Whether it holds averaged weights and nothing to go on with."""
        return "optimizer" not in self.checksums


def save_state(
    state: TrainState,
    folder: Path,
    config: str,
    extra: dict[str, Any] | None = None,
    *,
    keep: int = 2,
    keep_every: int | None = None,
) -> Path:
    """Write `folder/IMAGES.safetensors` and remove old ones, except the last `keep`. Returns the path.

    `config` is YAML text; `extra` is anything JSON can hold, such as the names of the classes. With `keep_every`, the
    first checkpoint at or after each multiple of so many images is kept too.

    Raises:
        SnriseError: if a weight is not finite, or the file cannot be written; older checkpoints stay then.
    """
    tensors, scalars = _optimizer_tensors(state)
    tensors |= {f"network.{name}": t for name, t in state.network.state_dict().items()}
    tensors |= {f"ema.{name}": t for name, t in state.ema.parameters.items()}
    parts: tuple[str, ...] = PARTS
    if state.powers:
        parts = (*PARTS, POWERS)
        tensors |= _power_tensors(state)
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    for name, t in tensors.items():
        if not t.isfinite().all():
            where = f"{folder}: {name} at {state.images_seen:,} images"
            raise invalid(where, "numbers that are not finite", "finite ones", "the last good checkpoint is kept")
    header = {
        "format": FORMAT, **{name: getattr(state, name) for name in COUNTS}, "optimizer": scalars,
        "extra": extra or {}, "parts": parts,
    }
    sums = {part: checksum(_named(tensors, f"{part}.")) for part in parts}
    metadata = {"snrise": json.dumps(header), "config": config}
    metadata["checksums"] = json.dumps(sums | {"header": header_sum(metadata)})
    path = folder / f"{state.images_seen:012d}.safetensors"
    write_atomically(path, save(tensors, metadata))
    for old in _superseded(checkpoints(folder), keep, keep_every):
        old.unlink()
    return path


def _superseded(files: Sequence[Path], keep: int, keep_every: int | None) -> list[Path]:
    """The checkpoints that need not be kept."""
    firsts: dict[int, Path] = {}
    for file in files if keep_every else ():
        firsts.setdefault(int(file.stem) // (keep_every or 1), file)
    firsts.pop(0, None)
    return [file for file in files[:-keep] if file not in firsts.values()]


def _named(values: dict[str, T], prefix: str) -> dict[str, T]:
    return {name: v for name, v in values.items() if name.startswith(prefix)}


def checksum(tensors: dict[str, Tensor]) -> str:
    """A hash of names, types, shapes and bytes."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        t = tensors[name]
        found.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        found.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def header_sum(metadata: Mapping[str, str]) -> str:
    """A hash of counts and config."""
    return hashlib.blake2b((metadata["snrise"] + metadata["config"]).encode(), digest_size=16).hexdigest()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(file for file in folder.glob("*.safetensors") if file.stem.isdecimal())


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most images, or None; it may be broken."""
    return next(reversed(checkpoints(folder)), None)


def newest_whole(files: Sequence[Path], read: Callable[[Path], T]) -> tuple[T | None, list[str]]:
    """What `read` gives of the last file that is whole (None: of none), and what is wrong with those after it."""
    broken: list[str] = []
    for path in reversed(files):
        try:
            return read(path), broken
        except BrokenCheckpoint as error:
            broken.append(str(error))
    return None, broken


def load_latest(state: TrainState, folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Put the newest whole checkpoint into a state; it (None: there is none), and what is wrong with newer ones.

    Raises:
        SnriseError: if there are checkpoints, and none of them is whole; or if one is of another config or version.
    """
    found, broken = newest_whole(checkpoints(folder), lambda path: load_state(state, path))
    if found is None and broken:
        raise SnriseError(f"{folder}: no whole checkpoint: {'; '.join(broken)}; remove them to start anew")
    return found, broken


class BrokenCheckpoint(SnriseError):
    """A file that is torn or has changed since it was written."""


def read_header(path: Path) -> Checkpoint:
    """Counts and config of a checkpoint, without its tensors."""
    return _checkpoint(path, _header(path))


def load_state(state: TrainState, path: Path) -> Checkpoint:
    """Put a checkpoint's tensors and counts into a state built from the same config."""
    header = _header(path)
    _check_whole(_checkpoint(path, header), "begin another run with them: snrise train --from")
    tensors = _read(path, (*PARTS, *((POWERS,) if state.powers else ())), header)
    average = _matching(state.ema.parameters, tensors, "ema.", path)
    powers = _matching(_power_tensors(state), tensors, "", path)
    saved = _optimizer_state(state, tensors, header["optimizer"], path)
    _load_module(state.network, tensors, "network.", path)
    state.ema.load(average)
    for i, ema in enumerate(state.powers):
        ema.load(_part(powers, f"{POWERS}.{i}."))
    state.optimizer.load_state_dict(saved)
    for name in COUNTS:
        setattr(state, name, header[name])
    return _checkpoint(path, header)


def load_network(network: nn.Module, path: Path, *, ema: bool = True) -> Checkpoint:
    """Put the averaged weights (or the last ones) into a network built from the same config."""
    header = _header(path)
    part = "ema" if ema else "network"
    if not ema:
        _check_whole(_checkpoint(path, header), "sample from those: leave out --last")
    _load_module(network, _read(path, (part,), header), f"{part}.", path)
    return _checkpoint(path, header)


def _power_tensors(state: TrainState) -> dict[str, Tensor]:
    """The averages of several widths."""
    return {f"{POWERS}.{i}.{name}": t for i, ema in enumerate(state.powers) for name, t in ema.parameters.items()}


def _check_whole(checkpoint: Checkpoint, fix: str) -> None:
    """Raise for exported weights."""
    got = "averaged weights alone, exported from a run"
    require(not checkpoint.weights_alone, str(checkpoint.path), got, "a whole checkpoint", fix)


def part_of_checkpoint(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one part of a checkpoint, by their full names."""
    return _read(path, (part,), _header(path))


def _read(path: Path, parts: Sequence[str], header: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of some parts, as they were written."""
    prefixes = tuple(f"{part}." for part in parts)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BrokenCheckpoint(f"{path}: not a whole checkpoint of snrise ({type(error).__name__})") from error
    for part in parts:
        if part not in header["checksums"]:
            raise invalid(str(path), f"no {part}", "a checkpoint of this config", "choose another --out")
        if checksum(_named(tensors, f"{part}.")) != header["checksums"][part]:
            raise BrokenCheckpoint(f"{path}: the checksum of its {part} is wrong: the file has changed or is damaged")
    return tensors


def _header(path: Path) -> dict[str, Any]:
    """The metadata, decoded and checked."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header: dict[str, Any] = json.loads(metadata["snrise"]) | {"config": metadata["config"]}
        form = int(header["format"])
        if form in READABLE:
            header["checksums"] = json.loads(metadata["checksums"])
            parts = {*header.get("parts", PARTS)}
            whole = header["checksums"]["header"] == header_sum(metadata) and header["checksums"].keys() >= parts
    except FileNotFoundError:
        raise invalid(str(path), "no such file", "a checkpoint") from None
    except PermissionError as error:
        raise SnriseError(f"{path}: cannot be read: {error.strerror}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise BrokenCheckpoint(f"{path}: not a whole checkpoint of snrise ({type(error).__name__})") from error
    if form not in READABLE:
        fix = "upgrade snrise" if form > FORMAT else "use the snrise that wrote it"
        raise invalid(str(path), f"format {form}", f"format {FORMAT}", fix)
    if not whole:
        raise BrokenCheckpoint(f"{path}: the checksum of its header is wrong: the file has changed or is damaged")
    return header


def _checkpoint(path: Path, header: dict[str, Any]) -> Checkpoint:
    return Checkpoint(path=path, **{name: header[name] for name in (*COUNTS, "config", "extra", "checksums")})


def _part(values: dict[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): v for name, v in _named(values, prefix).items()}


def _load_module(module: nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Load all of a module's tensors."""
    module.load_state_dict(_matching(module.state_dict(), tensors, prefix, path), strict=False)


def _matching(own: Mapping[str, Tensor], tensors: dict[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a prefix, by the names of `own`; an error names one that is missing or misshapen."""
    part = _part(tensors, prefix)
    missing = sorted(own.keys() - part.keys())
    wrong = [name for name in own if name in part and own[name].shape != part[name].shape]
    if missing or wrong:
        name = (missing or wrong)[0]
        got = "no such tensor" if missing else str(tuple(part[name].shape))
        raise invalid(f"{path}: {prefix}{name}", got, str(tuple(own[name].shape)), "is it a checkpoint of this config?")
    return part


def _names(state: TrainState) -> list[str]:
    """The parameters that the optimizer steps, by name, in its own order."""
    names = {id(p): name for name, p in state.network.named_parameters()}
    return [names[id(p)] for group in state.optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What the optimizer knows of each parameter as named tensors, and what is left as plain numbers."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    names = _names(state)
    for index, entries in state.optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else scalars)[f"optimizer.{names[index]}.{key}"] = value
    return tensors, scalars


def _optimizer_state(
    state: TrainState, tensors: dict[str, Tensor], scalars: dict[str, Any], path: Path
) -> dict[str, Any]:
    """The inverse of `_optimizer_tensors`, with the groups of the optimizer at hand.

    Moments get the memory layout of their parameter: the fused step walks through both in the order of memory.
    """
    names, parameters = _names(state), dict(state.network.named_parameters())
    places = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    found: dict[int, dict[str, Any]] = {}
    for name, value in (_part(tensors, "optimizer.") | _part(scalars, "optimizer.")).items():
        parameter, key = name.rsplit(".", 1)
        place = places.get(parameter)
        if isinstance(value, Tensor) and value.ndim:
            own = None if place is None else parameters[names[place]]
            if own is None or own.shape != value.shape:
                allowed = "no such parameter" if own is None else str(tuple(own.shape))
                where = f"{path}: optimizer.{name}"
                raise invalid(where, str(tuple(value.shape)), allowed, "is it a checkpoint of this config?")
            value = torch.empty_like(own, requires_grad=False).copy_(value)
        if place is not None:
            found.setdefault(place, {})[key] = value
    return {"state": found, "param_groups": state.optimizer.state_dict()["param_groups"]}
