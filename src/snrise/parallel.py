"""Several processes that train or sample one network, by torch.distributed; one is the trivial case and costs nothing.

In training, each computes the gradient of its slice of a batch, and gradients are summed: data parallelism. Otherwise
whole batches are dealt out. Processes are started by torchrun, whose environment variables say how many there are.
"""

import importlib
import json
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from snrise._errors import SnriseError, invalid, require
from snrise.sharding import Rows, rows
from snrise.store import LINGER, PATIENCE, answer, fresh, of_torchrun

__all__ = ["ALONE", "Disconnected", "World", "beside", "launched", "restarts", "share", "started"]

T = TypeVar("T")

#: How long a process waits for the others, who may be drawing a grid or saving; one that has died is noticed at once.
TIMEOUT = timedelta(minutes=30)
#: Bytes of gradients that are summed at a time.
BUCKET = 64 * 2**20
#: Where in the group's store a process that stops says why, those that notice a loss say so, and those that know why.
REASON, LOST, KNOWN = "snrise/reason", "snrise/lost", "snrise/known"
#: Longer texts that differ between processes are not shown.
SHOWN = 80


class Disconnected(SnriseError):
    """Another process of the group has ended or does not answer."""


def share(count: int, rank: int, size: int) -> range:
    """Which of `count` images, numbered from 0, are those of process `rank` of `size`: as even as they can be.

    Raises:
        SnriseError: if there are fewer images than processes.

    >>> [share(8, rank, 3) for rank in range(3)]
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    fix = f"start {count} at most: torchrun --nproc-per-node {count}"
    require(count >= size, "training.batch", count, f"an image or more for each of {size} processes", fix)
    return range(rank * count // size, (rank + 1) * count // size)


def launched() -> bool:
    """Whether torchrun has started this process."""
    return "WORLD_SIZE" in os.environ


def started() -> int:
    """How many processes torchrun has started, this one included; 1 without it. Nothing is joined."""
    return _number("WORLD_SIZE", 1)


def restarts() -> int:
    """How often torchrun has started its processes on this machine again because one of them had failed."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def beside() -> int:
    """How many processes of the group share this machine, this one included."""
    return _number("LOCAL_WORLD_SIZE", 1)


@final
@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that work together, as one of them sees them: it is number `rank` of `size`.

    Methods that exchange something are collective: every process has to call them, in the same order. `local` is the
    process's number on its machine, `group` PyTorch's handle of the processes: by default, all.

    >>> World().alone, World().leads, World().largest(3)
    (True, True, 3)
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    group: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def from_environment(cls, timeout: timedelta = TIMEOUT) -> "World":
        """The processes that torchrun has started; joins them, by NCCL on GPUs and Gloo on CPUs.

        A process group that exists is used. Without torchrun, or with one process, it is the trivial world.

        Raises:
            SnriseError: if the variables are incomplete, or the others cannot be reached in time.
        """
        if not dist.is_available():
            return cls()
        if not dist.is_initialized():
            if started() == 1:
                return cls()
            _join(timeout)
        known = dist.get_backend_config()
        allowed = "one for the CPU too, such as 'cpu:gloo,cuda:nccl'"
        require("cpu:" in known, "torch.distributed.init_process_group.backend", known, allowed)
        return cls(rank=dist.get_rank(), size=dist.get_world_size(), local=_number("LOCAL_RANK", 0))

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def __str__(self) -> str:
        """How many there are, and how often torchrun has restarted them.

        >>> str(World(size=2)), str(ALONE)
        ('2 processes', '1 process')
        """
        count = f"{self.size} process{'' if self.alone else 'es'}"
        allowed = os.environ.get("TORCHELASTIC_MAX_RESTARTS")
        return f"{count} after {restarts()} of {allowed} restarts" if restarts() else count

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: of several GPUs, unless one is named, the one of its number on the machine."""
        if self.alone or device.type != "cuda" or device.index is not None:
            return device
        return torch.device("cuda", self.local)

    def quiet(self, tell: Callable[[str], None]) -> Callable[[str], None]:
        """`tell` in the first process, nothing in the others."""
        return tell if self.leads else lambda line: None

    def batch(self, most: int, count: int) -> int:
        """How many of `count` images to make at a time: `most`, or fewer so that every process has some.

        >>> World(size=4).batch(64, 1000), World(size=4).batch(64, 10), World(size=4).batch(64, 3)
        (64, 3, 1)
        """
        return max(1, min(most, -(-count // self.size)))

    def rounds(self, jobs: Sequence[T]) -> Iterator[tuple[T | None, Sequence[T]]]:
        """Deal out jobs, one for each process at a time: this one's and all of the round; None where too few are left.

        >>> [mine for mine, _ in World(rank=1, size=2).rounds("abc")]
        ['b', None]
        """
        for first in range(0, len(jobs), self.size):
            dealt = jobs[first : first + self.size]
            yield dealt[self.rank] if self.rank < len(dealt) else None, dealt

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over the processes, in place; all get the same bits."""
        if self.alone:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([t.reshape(-1) for t in bucket])
            with self._connected():
                dist.all_reduce(flat, group=self.group)
            for t, part in zip(bucket, torch.split(flat, [t.numel() for t in bucket]), strict=True):
                t.copy_(part.view(t.shape))

    def copy_(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the values that they have in the first process, in place."""
        if self.alone:
            return
        for t in tensors:
            same = t.contiguous()
            with self._connected():
                dist.broadcast(same, src=0, group=self.group)
            t.copy_(same)

    def joined(self, part: Tensor, first: int, total: int) -> Tensor:
        """Columns `first` … of every process side by side: [k b] -> [k total], on the CPU, exactly."""
        if self.alone:
            return part
        whole = part.new_zeros(len(part), total)
        whole[:, first : first + part.shape[1]] = part
        with self._connected():
            dist.all_reduce(whole, group=self.group)
        return whole

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.alone:
            return number
        told = torch.tensor(int(number))
        with self._connected():
            dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self.group)
        return int(told)

    def gathered(self, value: T) -> list[T]:
        """What each process gave, by rank: anything that JSON can hold."""
        if self.alone:
            return [value]
        mine = json.dumps(value).encode()
        room = torch.zeros(self.largest(len(mine)), dtype=torch.uint8)
        room[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
        rooms = [torch.empty_like(room) for _ in range(self.size)]
        with self._connected():
            dist.all_gather(rooms, room, group=self.group)
        return [json.loads(bytes(r.tolist()).rstrip(b"\0")) for r in rooms]

    def parts(self, mine: Mapping[str, Tensor] | None) -> list[dict[str, Tensor]]:
        """The named tensors of all processes that have some, by rank, of any shapes: exactly, on the CPU."""
        if self.alone:
            return [] if mine is None else [dict(mine)]
        about = None if mine is None else {
            name: (str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in mine.items()}
        return [
            {name: self._told(rank, getattr(torch, dtype), shape, None if mine is None else mine.get(name))
             for name, (dtype, shape) in told.items()}
            for rank, told in enumerate(self.gathered(about)) if told is not None
        ]

    def _told(self, rank: int, dtype: torch.dtype, shape: Sequence[int], mine: Tensor | None) -> Tensor:
        """A tensor of process `rank`, as bytes, which Gloo sends of any dtype."""
        if rank == self.rank and mine is not None:
            t = mine.detach().cpu().contiguous()
        else:
            t = torch.empty(tuple(shape), dtype=dtype)
        if t.numel():
            with self._connected():
                dist.broadcast(_bytes(t), src=rank, group=self.group)
        return t

    def agree(self, where: str, told: Mapping[str, str]) -> None:
        """Raise unless all processes have the same texts."""
        for rank, theirs in enumerate(of_all := self.gathered(dict(told))):
            for name, value in theirs.items():
                if value != of_all[0][name]:
                    long = max(len(value), len(of_all[0][name])) > SHOWN
                    got, allowed = ("others", "the same") if long else (value, of_all[0][name])
                    fix = "every process needs the same script, settings and data, and a folder that all of them see"
                    raise invalid(f"{where}: {name} of process {rank}", got, f"{allowed}, as in process 0", fix)

    def first(self, action: Callable[[], T]) -> T:
        """Do something in the first process alone, once all are there; all get its result, or its `SnriseError`.

        The result is anything that JSON can hold.
        """
        if self.alone:
            return action()
        result: T = self._shared(action if self.leads else _nothing)[0]
        return result

    def apart(self) -> "World":
        """The same processes on connections of their own, for a thread that runs beside this one; on CPUs, by Gloo."""
        return self if self.alone else replace(self, group=dist.new_group(backend="gloo"))

    def assembled(self, tensor: Rows) -> Tensor | None:
        """In the first process, a tensor of which each holds its rows, or all of it, whole on the CPU; else None."""
        mine, shape = tensor.own.cpu().contiguous(), tensor.shape
        if self.alone or mine.shape == shape:
            return mine if self.leads else None
        with self._connected():
            if not self.leads:
                if len(mine):
                    dist.send(_bytes(mine), dst=0, group=self.group)
                return None
            whole = mine.new_empty(shape)
            for rank in range(self.size):
                part = whole[rows(shape[0], rank, self.size)]
                if rank == 0:
                    part.copy_(mine)
                elif len(part):
                    dist.recv(_bytes(part), src=rank, group=self.group)
        return whole

    def agreed(self, action: Callable[[], T]) -> T:
        """Do something in all processes; if it raises a `SnriseError` in some, all raise that of the first of them."""
        return action() if self.alone else self._shared(action)[self.rank]

    def leave(self, error: BaseException) -> None:
        """Leave the group because of an error, so that the others end at their next step, and know why."""
        if self.alone or not dist.is_initialized():
            return
        text, store = " ".join(str(error).split()) or type(error).__name__, dist.distributed_c10d._get_default_store()
        answer(lambda: store.compare_set(REASON, "", f"process {self.rank}: {text}"))
        dist.destroy_process_group()
        self._departed(store)

    def _departed(self, store: "dist.Store") -> None:
        """Say that this process knows why it ends; the one with which the store ends waits until all do."""
        answer(lambda: store.set(f"{KNOWN}/{self.rank}", "1"))
        if self.leads and not of_torchrun():
            seconds = LINGER if answer(lambda: store.check([REASON])) else PATIENCE
            answer(lambda: self._marked(store, KNOWN, self.size, seconds), LINGER)

    def _marked(self, store: "dist.Store", mark: str, enough: int, seconds: float = PATIENCE) -> set[int]:
        """Who has left this mark, once so many have, or after some time."""
        until, marked = time.monotonic() + seconds, {self.rank}
        while len(marked) < enough and time.monotonic() < until:
            marked |= {rank for rank in range(self.size) if store.check([f"{mark}/{rank}"])}
            time.sleep(0.02)
        return marked

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Leave the group if an error is raised within."""
        try:
            yield
        except BaseException as error:
            self.leave(error)
            raise

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Tell in a line that the others are gone, where PyTorch talks to them by itself."""
        try:
            yield
        except RuntimeError as error:
            if self.alone or not re.search("gloo|nccl|connection", str(error), re.IGNORECASE):
                raise
            raise self._lost(error) from error

    def _shared(self, action: Callable[[], T]) -> list[T]:
        """What an action returns in each process; all raise the first error."""
        result: Any = None
        raised: SnriseError | None = None
        try:
            result = action()
        except Disconnected:
            raise
        except SnriseError as error:
            raised = error
        told = self.gathered((result, None if raised is None else str(raised)))
        message = next((message for _, message in told if message is not None), None)
        if message is not None:
            raise raised or SnriseError(message)
        return [result for result, _ in told]

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Tell in a line that the others are gone."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> Disconnected:
        """What is raised when the others are gone."""
        return Disconnected(f"process {self.rank} of {self.size}: {self._cause(error)}")

    def _cause(self, error: RuntimeError) -> str:
        """Why the group has broken, as far as is known; leaves it."""
        if not dist.is_initialized():
            return "another thread has noticed a loss before"
        store = dist.distributed_c10d._get_default_store()
        # First, or those that wait for this process alone would not notice the loss. PyTorch's frames hold the group.
        traceback.clear_frames(error.__traceback__)
        dist.destroy_process_group()

        def ask() -> tuple[str | None, set[int]]:
            store.set(f"{LOST}/{self.rank}", "1")
            heard = self._marked(store, LOST, 1 if store.check([REASON]) else self.size - 1)
            return (store.get(REASON).decode() if store.check([REASON]) else None), heard

        reason, heard = answer(ask) or (None, {self.rank})
        self._departed(store)
        if reason is not None:
            return f"stopped because of {reason}"
        missing = ", ".join(str(rank) for rank in range(self.size) if rank not in heard)
        line = re.sub(r"^\[[^]]*\] ", "", str(error)).splitlines()[0].split(". ")[0]
        return (
            f"no answer from process {missing}: killed, perhaps for want of memory, or stuck ({line}); "
            "the same command goes on from what was saved"
        )


#: One process.
ALONE = World()


def _nothing() -> Any:
    return None


def _bytes(tensor: Tensor) -> Tensor:
    """A contiguous tensor's memory, so that every dtype can be sent."""
    return tensor.view(-1).view(torch.uint8)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    require(text.isdecimal(), name, text, "a whole number, as torchrun sets it")
    return int(text)


def _join(timeout: timedelta) -> None:
    """Join the group that the environment variables describe."""
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            fix = "start it with torchrun, or unset WORLD_SIZE"
            raise invalid(name, None, "the variables that torchrun sets, as WORLD_SIZE is set", fix)
    # Optimizers import it. Were that later, its functions' defaults would keep the group, and a process that leaves the
    # group would keep its connections, so that nobody notices.
    importlib.import_module("torch.distributed.nn.functional")
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    if gpus:
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
    rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    address = os.environ["MASTER_ADDR"], _number("MASTER_PORT", 0)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", store=fresh(*address, rank, size, timeout), rank=rank,
            world_size=size, timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise Disconnected(
            f"process {rank} of {size}: the others cannot be reached: {str(error).splitlines()[0]}; start all of them"
        ) from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in groups of one dtype and device and of limited size, in an order that all processes share."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for t in tensors:
        groups.setdefault((t.dtype, t.device), []).append(t)
    for group in groups.values():
        bucket: list[Tensor] = []
        held = 0
        for t in group:
            if bucket and held + t.nbytes > BUCKET:
                yield bucket
                bucket, held = [], 0
            bucket.append(t)
            held += t.nbytes
        yield bucket
