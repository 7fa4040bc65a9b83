"""The state of a run, saved in checkpoints and loaded from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snrise._errors import SnriseError, invalid
from snrise.checkpoint import (
    COUNTS,
    PARTS,
    Checkpoint,
    checkpoints,
    matching,
    newest_whole,
    of_part,
    read_header,
    read_parts,
    write_checkpoint,
)
from snrise.training.state import TrainState

__all__ = ["load_latest", "load_state", "save_state"]

#: The part of a run that keeps averages of several widths.
POWERS = "powers"


def save_state(
    state: TrainState, folder: Path, config: str, extra: dict[str, Any] | None = None, *, keep: int = 2,
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
    tensors |= {f"{POWERS}.{name}": t for name, t in _power_tensors(state).items()}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    for name, t in tensors.items():
        if not t.isfinite().all():
            where = f"{folder}: {name} at {state.images_seen:,} images"
            raise invalid(where, "numbers that are not finite", "finite ones", "the last good checkpoint is kept")
    header = {
        **{name: getattr(state, name) for name in COUNTS}, "optimizer": scalars, "extra": extra or {},
        "parts": _parts(state),
    }
    path = folder / f"{state.images_seen:012d}.safetensors"
    write_checkpoint(path, header, config, tensors)
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


def load_latest(state: TrainState, folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Load the newest whole checkpoint into a state; its header (None if there is none), and errors of newer files.

    Raises:
        SnriseError: if there are checkpoints, and none of them is whole; or if one is of another config or version.
    """
    checkpoint, broken = newest_whole(checkpoints(folder), lambda path: load_state(state, path))
    if checkpoint is None and broken:
        raise SnriseError(f"{folder}: no whole checkpoint: {'; '.join(broken)}; remove them to start anew")
    return checkpoint, broken


def load_state(state: TrainState, path: Path) -> Checkpoint:
    """Load a checkpoint's tensors and counts into a state built from the same config; returns its header."""
    header = read_header(path)
    header.require_whole("begin another run with them: snrise train --from")
    tensors = read_parts(header, _parts(state))
    average = matching(state.ema.parameters, tensors, "ema", path)
    powers = matching(_power_tensors(state), tensors, POWERS, path)
    optimizer = _optimizer_state(state, tensors, header)
    state.network.load_state_dict(matching(state.network.state_dict(), tensors, "network", path), strict=False)
    state.ema.load(average)
    for i, ema in enumerate(state.powers):
        ema.load(of_part(powers, str(i)))
    state.optimizer.load_state_dict(optimizer)
    for name in COUNTS:
        setattr(state, name, getattr(header, name))
    return header


def _parts(state: TrainState) -> tuple[str, ...]:
    return (*PARTS, POWERS) if state.powers else PARTS


def _power_tensors(state: TrainState) -> dict[str, Tensor]:
    """The averages of several widths."""
    return {f"{i}.{name}": t for i, ema in enumerate(state.powers) for name, t in ema.parameters.items()}


def _names(state: TrainState) -> list[str]:
    """The parameters that the optimizer steps, by name, in its own order."""
    names = {id(p): name for name, p in state.network.named_parameters()}
    return [names[id(p)] for group in state.optimizer.param_groups for p in group["params"]]


def _optimizer_tensors(state: TrainState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state of each parameter as named tensors, and what is left as plain numbers."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    names = _names(state)
    for index, entries in state.optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else scalars)[f"optimizer.{names[index]}.{key}"] = value
    return tensors, scalars


def _optimizer_state(state: TrainState, tensors: dict[str, Tensor], header: Checkpoint) -> dict[str, Any]:
    """The inverse of `_optimizer_tensors`, with the groups of the optimizer at hand.

    Moments get the memory layout of their parameter: the fused step walks through both in the order of memory.
    """
    names, parameters = _names(state), dict(state.network.named_parameters())
    places = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    entries: dict[int, dict[str, Any]] = {}
    for name, value in (of_part(tensors, "optimizer") | of_part(header.optimizer, "optimizer")).items():
        parameter, key = name.rsplit(".", 1)
        place = places.get(parameter)
        if isinstance(value, Tensor) and value.ndim:
            own = None if place is None else parameters[names[place]]
            if own is None or own.shape != value.shape:
                allowed = "no such parameter" if own is None else str(tuple(own.shape))
                where = f"{header.path}: optimizer.{name}"
                raise invalid(where, str(tuple(value.shape)), allowed, "is it a checkpoint of this config?")
            value = torch.empty_like(own, requires_grad=False).copy_(value)
        if place is not None:
            entries.setdefault(place, {})[key] = value
    return {"state": entries, "param_groups": state.optimizer.state_dict()["param_groups"]}
