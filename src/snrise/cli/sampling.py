"""From the options of `snrise sample` to settings: what is particular to the command line."""

from collections.abc import Callable
from dataclasses import replace

from snrise import documents
from snrise._errors import SnriseError
from snrise.construct import construct
from snrise.quantities import parse_size
from snrise.schedules import ByResolution, Schedule
from snrise.trained import Trained

__all__ = ["at_resolution", "interval_of", "on_schedule"]


def interval_of(text: str | None) -> list[float] | None:
    """Two values of λ, with a comma between them."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise SnriseError(f"--guidance-interval: got {text!r}; allowed: two values of λ, such as -3,5") from None
    return [low, high]


def at_resolution(trained: Trained, text: str | None) -> Trained:
    """At another resolution, if one is given; a schedule that is stated for no resolution is that of the run's own."""
    if text is None:
        return trained
    return trained.at(parse_size(text, "--resolution"), "--resolution")


def on_schedule(trained: Trained, text: str | None, warn: Callable[[str], None]) -> Trained:
    """On another schedule, if one is given, with a warning of what that means."""
    if text is None:
        return trained
    base: Schedule = construct(Schedule, documents.value(text, "--schedule"), "--schedule")
    other = replace(trained, config=replace(trained.config, schedule=ByResolution(base=base, reference=None)))
    grids = (t.generation().logsnrs for t in (trained, other))
    own, new = (f"{float(grid.min()):.1f} … {float(grid.max()):.1f}" for grid in grids)
    warn(
        f"sampling on another schedule than the model was trained with: λ {new} instead of {own}; levels outside of "
        "those trained are guesses, and steps fall where training spent other shares of its time"
    )
    return other
