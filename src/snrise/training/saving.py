"""The state of a run, saved in checkpoints and loaded from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from snrise._errors import SnriseError, invalid
from snrise.checkpoint import (
    COUNTS,
    PARTS,
    Checkpoint,
    checkpoints,
    newest_whole,
    of_part,
    opened,
    read_header,
    read_into,
    verify,
    write_checkpoint,
)
from snrise.parallel import ALONE, World
from snrise.sharding import Rows
from snrise.training.state import TrainState

__all__ = ["Snapshot", "find_whole", "load_latest", "load_state", "load_verified", "save_state"]

#: The part of a run that keeps averages of several widths.
POWERS = "powers"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What a checkpoint holds of a state: this process's rows of each tensor, by name, and the header."""

    tensors: Mapping[str, Rows]
    header: Mapping[str, Any]

    @classmethod
    def of(cls, state: TrainState, extra: Mapping[str, Any] | None = None) -> "Snapshot":
        """That of a state, whose memory it shares; `extra` is anything JSON can hold, such as the names of classes."""
        tensors, scalars = _optimizer_tensors(state)
        tensors |= {f"network.{name}": t for name, t in state.network.state_dict().items()}
        tensors |= {f"ema.{name}": t for name, t in state.ema.parameters.items()}
        tensors |= {f"{POWERS}.{name}": t for name, t in _power_tensors(state).items()}
        counts = {name: getattr(state, name) for name in COUNTS}
        header = {**counts, "optimizer": scalars, "extra": dict(extra or {}), "parts": _parts(state)}
        return cls(tensors={name: Rows.of(t) for name, t in tensors.items()}, header=header)

    def copied(self) -> "Snapshot":
        """A copy on the CPU, which does not change while training goes on."""
        tensors = {name: rows._replace(own=rows.own.to("cpu", copy=True)) for name, rows in self.tensors.items()}
        return replace(self, tensors=tensors)

    def save(
        self, folder: Path, config: str, *, keep: int = 2, keep_every: int | None = None, world: World = ALONE
    ) -> Path:
        """Write it: see `save_state`."""
        seen = self.header["images_seen"]
        path = folder / f"{seen:012d}.safetensors"

        def write() -> None:
            bad = next((name for name, rows in self.tensors.items() if not rows.own.isfinite().all()), None)
            if (name := next((name for name in world.gathered(bad) if name is not None), None)) is not None:
                where = f"{folder}: {name} at {seen:,} images"
                raise invalid(where, "numbers that are not finite", "finite ones", "the last good checkpoint is kept")
            write_checkpoint(path, self.header, config, self.tensors, world)
            if world.leads:
                for old in _superseded(checkpoints(folder), keep, keep_every):
                    old.unlink()

        world.agreed(write)
        return path


def save_state(
    state: TrainState, folder: Path, config: str, extra: Mapping[str, Any] | None = None, *, keep: int = 2,
    keep_every: int | None = None, world: World = ALONE,
) -> Path:
    """Write `folder/IMAGES.safetensors` and remove old ones, except the last `keep`. Returns the path.

    `config` is YAML text; `extra` is anything JSON can hold, such as the names of the classes. With `keep_every`, the
    first checkpoint at or after each multiple of so many images is kept too. Of several processes, all call it, and the
    first one writes.

    Raises:
        SnriseError: if a weight is not finite, or the file cannot be written; older checkpoints stay then.
    """
    return Snapshot.of(state, extra).save(folder, config, keep=keep, keep_every=keep_every, world=world)


def _superseded(files: Sequence[Path], keep: int, keep_every: int | None) -> list[Path]:
    """The checkpoints that need not be kept."""
    firsts: dict[int, Path] = {}
    for file in files if keep_every else ():
        firsts.setdefault(int(file.stem) // (keep_every or 1), file)
    firsts.pop(0, None)
    return [file for file in files[:-keep] if file not in firsts.values()]


def load_latest(state: TrainState, folder: Path, world: World = ALONE) -> tuple[Checkpoint | None, list[str]]:
    """Load the newest whole checkpoint into a state; its header (None if there is none), and errors of newer files.

    Raises:
        SnriseError: if there are checkpoints, and none of them is whole; or if one is of another config or version.
    """
    found, broken = find_whole(folder, state.powers != (), world)
    return None if found is None else load_verified(state, found, world), broken


def find_whole(folder: Path, powers: bool, world: World = ALONE) -> tuple[Path | None, list[str]]:
    """The newest checkpoint of which all parts are whole, and what is wrong with newer ones; the first process looks.

    Raises:
        SnriseError: if there are checkpoints, and none of them is whole.
    """
    def look() -> tuple[str | None, list[str]]:
        found, broken = newest_whole(checkpoints(folder), lambda path: str(_verified(path, powers).path))
        if found is None and broken:
            raise SnriseError(f"{folder}: no whole checkpoint: {'; '.join(broken)}; remove them to start anew")
        return found, broken

    found, broken = world.first(look)
    return None if found is None else Path(found), broken


def load_state(state: TrainState, path: Path) -> Checkpoint:
    """Load a checkpoint's tensors and counts into a state built from the same config; returns its header."""
    _verified(path, state.powers != ())
    return load_verified(state, path)


def load_verified(state: TrainState, path: Path, world: World = ALONE) -> Checkpoint:
    """Load a checkpoint that is known to be whole; of a state in shards, each process its rows."""
    header = read_header(path)
    own = {f"ema.{name}": t for name, t in state.ema.parameters.items()}
    own |= {f"{POWERS}.{name}": t for name, t in _power_tensors(state).items()}
    own |= {f"network.{name}": t for name, t in state.network.state_dict().items() if isinstance(t, Tensor)}
    moments, optimizer = _optimizer_room(state, header)
    read_into(path, {name: Rows.of(t) for name, t in (own | moments).items()}, world)
    state.optimizer.load_state_dict(optimizer)
    for name in COUNTS:
        setattr(state, name, getattr(header, name))
    return header


def _verified(path: Path, powers: bool) -> Checkpoint:
    header = read_header(path)
    header.require_whole("begin another run with them: snrise train --from")
    verify(header, (*PARTS, POWERS) if powers else PARTS)
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


def _optimizer_room(state: TrainState, header: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Room for the moments in a checkpoint by their names there, and the optimizer's state that has its place in it.

    Moments that the state has are overwritten. New ones get the memory layout of their parameter, and its shards: the
    fused step walks through both in the order of memory.
    """
    names, parameters = _names(state), dict(state.network.named_parameters())
    places = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
    room: dict[str, Tensor] = {}
    known: dict[str, Any] = dict(of_part(header.optimizer, "optimizer"))
    with opened(header.path) as file:
        for name in (name for name in file.keys() if name.startswith("optimizer.")):  # noqa: SIM118
            place, shape = places.get(_parameter(name)), tuple(file.get_slice(name).get_shape())
            own = None if place is None else parameters[names[place]]
            if not shape:
                known[name.removeprefix("optimizer.")] = file.get_tensor(name).clone()
            elif own is None or own.shape != shape:
                allowed = "no such parameter" if own is None else str(tuple(own.shape))
                raise invalid(f"{header.path}: {name}", str(shape), allowed, "is it a checkpoint of this config?")
            else:
                held = state.optimizer.state.get(own, {}).get(name.rpartition(".")[2])
                fresh = held is None or held.shape != own.shape
                room[name] = torch.empty_like(own, requires_grad=False) if fresh else held
                known[name.removeprefix("optimizer.")] = room[name]
    entries: dict[int, dict[str, Any]] = {}
    for name, value in known.items():
        if (place := places.get(name.rpartition(".")[0])) is not None:
            entries.setdefault(place, {})[name.rpartition(".")[2]] = value
    return room, {"state": entries, "param_groups": state.optimizer.state_dict()["param_groups"]}


def _parameter(name: str) -> str:
    """Of optimizer.PARAMETER.KEY, the parameter."""
    return name.removeprefix("optimizer.").rpartition(".")[0]
