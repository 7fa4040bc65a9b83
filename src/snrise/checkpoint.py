"""The file format of checkpoints and exported weights: safetensors with a header and checksums. No pickle.

Tensors are named `network.…`, `ema.…` and `optimizer.PARAMETER.…`; the file's metadata hold the counts as JSON and the
config as YAML, so that a checkpoint alone is enough to sample from, and a checksum of each part. Of a network in
shards it is the same file: each tensor is whole in it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from snrise._errors import SnriseError, invalid, require
from snrise.parallel import ALONE, World
from snrise.sharding import Rows, rows
from snrise.tensorfile import write_tensors

__all__ = [
    "BrokenCheckpoint", "Checkpoint", "checkpoints", "latest", "load_network", "matching", "newest_whole", "of_part",
    "opened", "read_header", "read_into", "read_part", "read_parts", "verify", "write_checkpoint",
]

T = TypeVar("T")
#: Raised when what is stored changes its meaning. In 2, what an optimizer knew was stored by a parameter's number.
FORMAT, READABLE = 3, (2, 3)
PARTS = ("network", "ema", "optimizer")
COUNTS = ("step", "images_seen", "position", "faults")


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The header of a checkpoint: counts, config, and a checksum of each part (network, ema, optimizer, …).

    `optimizer` holds what an optimizer keeps as plain numbers. Exported weights have one part, ema.
    """

    path: Path
    step: int
    images_seen: int
    position: int
    faults: int
    config: str
    optimizer: dict[str, Any]
    extra: dict[str, Any]
    checksums: dict[str, str]

    @property
    def weights_alone(self) -> bool:
        """Whether it holds averaged weights alone, from which no training can resume."""
        return "optimizer" not in self.checksums

    def require_whole(self, fix: str) -> None:
        """Raise for exported weights."""
        got = "averaged weights alone, exported from a run"
        require(not self.weights_alone, str(self.path), got, "a whole checkpoint", fix)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, or other files named by images seen, oldest first."""
    return sorted(file for file in folder.glob("*.safetensors") if file.stem.isdecimal())


def latest(folder: Path) -> Path | None:
    """The checkpoint with the most images, or None; it may be broken."""
    return next(reversed(checkpoints(folder)), None)


def newest_whole(files: Sequence[Path], read: Callable[[Path], T]) -> tuple[T | None, list[str]]:
    """What `read` gives for the last file that is whole (None if none is), and what is wrong with those after it."""
    broken: list[str] = []
    for path in reversed(files):
        try:
            return read(path), broken
        except BrokenCheckpoint as error:
            broken.append(str(error))
    return None, broken


class BrokenCheckpoint(SnriseError):
    """A file that is torn or has changed since it was written."""


def write_checkpoint(
    path: Path, header: Mapping[str, Any], config: str, tensors: Mapping[str, Tensor | Rows], world: World = ALONE
) -> None:
    """Write tensors named PART.NAME, the parts in `header["parts"]`, atomically; each process gives its rows.

    Raises:
        SnriseError: in the first process, which writes, if it cannot.
    """
    text = json.dumps({"format": FORMAT, **header})
    own = {"snrise": text, "config": config}
    digests = {part: _digest() for part in header["parts"]}

    def metadata() -> dict[str, str]:
        sums = {part: digest.hexdigest() for part, digest in digests.items()}
        return own | {"checksums": json.dumps(sums | {"header": header_sum(own)})}

    def seen(name: str, tensor: Tensor) -> None:
        _count(digests[name.partition(".")[0]], name, tensor)

    held = {name: t if isinstance(t, Rows) else Rows.of(t) for name, t in sorted(tensors.items())}
    write_tensors(path, held, metadata, world=world, seen=seen)


def read_header(path: Path) -> Checkpoint:
    """Counts and config of a checkpoint, without its tensors.

    Raises:
        SnriseError: if there is no such file, or it cannot be read or is of another format.
        BrokenCheckpoint: if it is not a whole checkpoint.
    """
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
        raise _not_whole(path, error) from error
    if form not in READABLE:
        fix = "upgrade snrise" if form > FORMAT else "use the snrise that wrote it"
        raise invalid(str(path), f"format {form}", f"format {FORMAT}", fix)
    if not whole:
        raise BrokenCheckpoint(f"{path}: the checksum of its header is wrong: the file has changed or is damaged")
    return Checkpoint(
        path=path, **{name: header[name] for name in (*COUNTS, "config", "optimizer", "extra", "checksums")}
    )


def read_parts(header: Checkpoint, parts: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of some parts by their full names, checked against their checksums.

    Raises:
        BrokenCheckpoint: if a checksum is wrong.
    """
    prefixes = tuple(f"{part}." for part in parts)
    with opened(header.path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
    for part in parts:
        _compare(header, part, sorted(_named(tensors, f"{part}.").items()))
    return tensors


def verify(header: Checkpoint, parts: Sequence[str]) -> None:
    """Compare parts with their checksums, one tensor at a time.

    Raises:
        BrokenCheckpoint: if a checksum is wrong.
    """
    with opened(header.path) as file:
        for part in parts:
            names = sorted(name for name in file.keys() if name.startswith(f"{part}."))  # noqa: SIM118
            _compare(header, part, ((name, file.get_tensor(name)) for name in names))


def read_into(path: Path, own: Mapping[str, Rows], world: World = ALONE) -> None:
    """Copy tensors into those of the same full names: of one in shards, this process's rows alone.

    They are not compared with their checksums: `verify` them before.

    Raises:
        SnriseError: for one that is missing or misshapen, before anything is copied.
    """
    with opened(path) as file, torch.no_grad():
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in own.keys() & {*file.keys()}}
        _check_shapes({name: held.shape for name, held in own.items()}, shapes, path)
        for name, held in own.items():
            if held.own.shape == held.shape:
                held.own.copy_(file.get_tensor(name))
            elif len(held.own):
                held.own.copy_(file.get_slice(name)[rows(held.shape[0], world.rank, world.size)])


def read_part(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one part by their names within it."""
    return of_part(read_parts(read_header(path), (part,)), part)


def load_network(network: nn.Module, path: Path, *, ema: bool = True) -> Checkpoint:
    """Load the averaged weights (or the last ones) into a network built from the same config; returns the header."""
    header = read_header(path)
    part = "ema" if ema else "network"
    if not ema:
        header.require_whole("sample from those: leave out --last")
    network.load_state_dict(matching(network.state_dict(), read_parts(header, (part,)), part, path), strict=False)
    return header


def matching(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], part: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a part, by the names of `own`; an error names one that is missing or misshapen."""
    theirs = of_part(tensors, part)
    wanted, found = ({f"{part}.{name}": tuple(t.shape) for name, t in named.items()} for named in (own, theirs))
    _check_shapes(wanted, found, path)
    return theirs


def _check_shapes(own: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise for a tensor that is missing or misshapen."""
    missing = sorted(own.keys() - theirs.keys())
    wrong = [name for name in own if name in theirs and own[name] != theirs[name]]
    if missing or wrong:
        name = (missing or wrong)[0]
        got = "no such tensor" if missing else str(theirs[name])
        raise invalid(f"{path}: {name}", got, str(own[name]), "is it a checkpoint of this config?")


def of_part(values: Mapping[str, T], part: str) -> dict[str, T]:
    """The values of a part, by their names within it."""
    return {name.removeprefix(f"{part}."): v for name, v in _named(values, f"{part}.").items()}


def checksum(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of names, types, shapes and bytes, in the order given: sorted by name."""
    digest = _digest()
    for name, tensor in tensors:
        _count(digest, name, tensor)
    return digest.hexdigest()


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _count(digest: hashlib.blake2b, name: str, t: Tensor) -> None:
    digest.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
    digest.update(t.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _compare(header: Checkpoint, part: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raise if the tensors of a part have another checksum."""
    path = header.path
    if part not in header.checksums:
        raise invalid(str(path), f"no {part}", "a checkpoint of this config", "choose another --out")
    if checksum(tensors) != header.checksums[part]:
        raise BrokenCheckpoint(f"{path}: the checksum of its {part} is wrong: the file has changed or is damaged")


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Context manager: the tensors of a file, as `safetensors.safe_open` gives them."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _not_whole(path, error) from error


def header_sum(metadata: Mapping[str, str]) -> str:
    """A hash of counts and config."""
    return hashlib.blake2b((metadata["snrise"] + metadata["config"]).encode(), digest_size=16).hexdigest()


def _named(values: Mapping[str, T], prefix: str) -> dict[str, T]:
    return {name: v for name, v in values.items() if name.startswith(prefix)}


def _not_whole(path: Path, error: Exception) -> BrokenCheckpoint:
    return BrokenCheckpoint(f"{path}: not a whole checkpoint of snrise ({type(error).__name__})")
