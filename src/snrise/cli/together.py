"""Commands that run on several processes, and those that do not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from snrise._errors import invalid
from snrise.parallel import World, started

__all__ = ["by_one", "joined", "refuse_several"]

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def joined() -> Iterator[World]:
    """The processes that torchrun has started. An error in one ends all; all have to exit by `typer.Exit` alike."""
    world = World.from_environment()
    try:
        yield world
    except typer.Exit:
        raise
    except BaseException as error:
        world.leave(error)
        if isinstance(error, KeyboardInterrupt) and not world.leads:
            raise typer.Exit(1) from None  # the first one tells that it was stopped
        raise


def refuse_several(what: str) -> None:
    """Raise if there are several processes: in the first one, while the others end silently, with the same status."""
    count = started()
    if count == 1:
        return
    allowed = "one; several run train, sample, evaluate and sweep"
    error = invalid(what, f"{count} processes", allowed, "start it without torchrun")
    world = World.from_environment()
    if world.leads:
        typer.secho(f"error: {error}", err=True, fg="red")
    world.largest(0)  # or torchrun, as soon as one has ended, would end the first before it has told
    raise typer.Exit(2)


def by_one(command: Callable[P, T]) -> Callable[P, T]:
    """The command, refused on several processes."""

    @wraps(command)
    def alone(*arguments: P.args, **options: P.kwargs) -> T:
        refuse_several(f"snrise {command.__name__.replace('_', '-')}")
        return command(*arguments, **options)

    return alone
