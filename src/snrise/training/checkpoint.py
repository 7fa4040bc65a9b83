"""Checkpoints: one safetensors file holds weights, average, optimizer, counts and the config that made them. No pickle.

Tensors are named `network.…`, `ema.…` and `optimizer.…`; the file's metadata hold the counts as JSON and the config as
YAML, so that a checkpoint alone is enough to sample from.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from snrise._errors import SnriseError, invalid
from snrise.training.state import TrainState

__all__ = [
    "FORMAT", "Checkpoint", "latest", "load_network", "load_state", "read_header", "save_state", "write_atomically",
]

T = TypeVar("T")
#: Raised when what is stored changes its meaning.
FORMAT = 1


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint's header says."""

    path: Path
    step: int
    images_seen: int
    config: str
    extra: dict[str, Any]


def write_atomically(path: Path, content: bytes) -> None:
    """Write so that the file is, at any moment and after any fault, either as before or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def save_state(
    state: TrainState, folder: Path, config: str, extra: dict[str, Any] | None = None, keep: int = 2
) -> Path:
    """Write `folder/IMAGES.safetensors` and remove all but the last `keep` checkpoints. Returns the path.

    `config` is YAML text; `extra` is anything JSON can hold, such as the names of the classes.
    """
    tensors, scalars = _optimizer_tensors(state.optimizer)
    tensors |= {f"network.{name}": t for name, t in state.network.state_dict().items()}
    tensors |= {f"ema.{name}": t for name, t in state.ema.parameters.items()}
    counts = {"step": state.step, "images_seen": state.images_seen}
    header = {"format": FORMAT, **counts, "optimizer": scalars, "extra": extra or {}}
    metadata = {"snrise": json.dumps(header), "config": config}
    path = folder / f"{state.images_seen:012d}.safetensors"
    write_atomically(path, save({name: t.detach().contiguous() for name, t in tensors.items()}, metadata))
    for old in sorted(folder.glob("*.safetensors"))[:-keep]:
        old.unlink()
    return path


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most images, or None."""
    files = sorted(folder.glob("*.safetensors"))
    return files[-1] if files else None


def read_header(path: Path) -> Checkpoint:
    """Counts and config of a checkpoint, without its tensors."""
    return _checkpoint(path, _header(path))


def load_state(state: TrainState, path: Path) -> Checkpoint:
    """Put a checkpoint's tensors and counts into a state built from the same config."""
    header = _header(path)
    tensors = _read(path)
    average = _matching(state.ema.parameters, tensors, "ema.", path)
    saved = _optimizer_state(state.optimizer, tensors, header["optimizer"], path)
    _load_module(state.network, tensors, "network.", path)
    state.ema.load(average)
    state.optimizer.load_state_dict(saved)
    state.step, state.images_seen = header["step"], header["images_seen"]
    return _checkpoint(path, header)


def load_network(network: nn.Module, path: Path, *, ema: bool = True) -> Checkpoint:
    """Put the averaged weights (or the last ones) into a network built from the same config."""
    header = read_header(path)
    prefix = "ema." if ema else "network."
    _load_module(network, _read(path, prefix), prefix, path)
    return header


def _read(path: Path, prefix: str = "") -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def _header(path: Path) -> dict[str, Any]:
    """The metadata, decoded and checked."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        header: dict[str, Any] = json.loads(metadata["snrise"]) | {"config": metadata["config"]}
        newer = header["format"] > FORMAT
    except FileNotFoundError:
        raise invalid(str(path), "no such file", "a checkpoint") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise SnriseError(f"{path}: not a whole checkpoint of snrise ({type(error).__name__})") from error
    if newer:
        raise invalid(str(path), f"format {header['format']}", f"format {FORMAT} or older", "upgrade snrise")
    return header


def _checkpoint(path: Path, header: dict[str, Any]) -> Checkpoint:
    return Checkpoint(path=path, **{name: header[name] for name in ("step", "images_seen", "config", "extra")})


def _part(values: dict[str, T], prefix: str) -> dict[str, T]:
    return {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}


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


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors, and what is left as plain numbers."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else scalars)[f"optimizer.{index}.{key}"] = value
    return tensors, scalars


def _optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any], path: Path
) -> dict[str, Any]:
    """The inverse of `_optimizer_tensors`, with the groups of the optimizer at hand.

    Moments get the memory layout of their parameter: the fused step walks through both in the order of memory.
    """
    parameters = {str(i): p for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    state: dict[int, dict[str, Any]] = {}
    for name, value in (_part(tensors, "optimizer.") | _part(scalars, "optimizer.")).items():
        index, key = name.split(".", 1)
        if isinstance(value, Tensor) and value.ndim:
            own = parameters.get(index)
            if own is None or own.shape != value.shape:
                allowed = "no such parameter" if own is None else str(tuple(own.shape))
                where = f"{path}: optimizer.{name}"
                raise invalid(where, str(tuple(value.shape)), allowed, "is it a checkpoint of this config?")
            value = torch.empty_like(own, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
