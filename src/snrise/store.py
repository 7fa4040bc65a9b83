"""The store of a group of processes: where they find each other, and say why they end."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

__all__ = ["LINGER", "PATIENCE", "answer", "fresh", "of_torchrun"]

T = TypeVar("T")

#: Where a process that starts asks for the name of what this start keeps in the store, and where it is told.
ASKS, TOLD = "snrise/asks", "snrise/told"
#: Seconds in which the others, who may be in the middle of a step, have to notice a loss, to find out who is missing.
PATIENCE = 10.0
#: Seconds that the process with the store stays, until the others, who may be in the middle of a step, know the reason.
LINGER = 20.0


def fresh(host: str, port: int, rank: int, size: int, timeout: timedelta) -> "dist.Store":
    """The group's store, without what earlier starts left there.

    torchrun keeps one store over its restarts, with the addresses of processes that are dead, and its count of restarts
    differs between machines. So process 0 draws a name for what this start keeps, and tells it to each process that
    asks by a name of its own, until all have said that they know.

    Raises:
        RuntimeError: if it cannot be reached, or not all processes ask in time.
    """
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=rank == 0 and not of_torchrun(), timeout=timeout, wait_for_workers=False,
        multi_tenant=True,
    )
    name, until = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    if rank:
        store.set(f"{ASKS}/{rank}", name)
        name = store.get(f"{TOLD}/{name}").decode()
        store.set(f"{name}/{rank}", "knows")
    missing = [] if rank else [*range(1, size)]
    while missing:
        for other in missing:
            if store.check([f"{ASKS}/{other}"]):
                store.set(f"{TOLD}/{store.get(f'{ASKS}/{other}').decode()}", name)
        missing = [other for other in missing if not store.check([f"{name}/{other}"])]
        if time.monotonic() > until:
            raise RuntimeError(f"no sign of process {', '.join(map(str, missing))}")
        time.sleep(0.02)
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def of_torchrun() -> bool:
    """Whether torchrun itself keeps the store."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def answer(ask: Callable[[], T], seconds: float = 2 * PATIENCE) -> T | None:
    """What is asked of the store; None if it has gone with its process, or does not answer, which it may never do."""
    answers: list[T] = []

    def wait() -> None:
        with suppress(RuntimeError, ValueError):
            answers.append(ask())

    thread = threading.Thread(target=wait, daemon=True)
    with _hushed():
        thread.start()
        thread.join(seconds)
    return answers[0] if answers else None


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what PyTorch's libraries print: for a store that has gone, pages of stack frames."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
