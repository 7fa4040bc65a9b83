"""From the options of `snrise sample` to settings."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from snrise import documents
from snrise._errors import SnriseError, require, unknown
from snrise._typing import StrEnum
from snrise.construct import construct, kind_of
from snrise.quantities import parse_size
from snrise.runs.gallery import Gallery
from snrise.samplers import SAMPLERS
from snrise.schedules import ByResolution, Schedule
from snrise.trained import Trained

__all__ = ["Clip", "at_resolution", "check_guidance", "interval_of", "on_schedule", "with_options"]

#: Where x̂ is clipped if nothing else is said; Saharia et al. 2022, sec. 2.3.
PERCENTILE = 0.995


class Clip(StrEnum):
    """What becomes of x̂ outside of the range of images."""

    NONE = "none"
    STATIC = "static"
    DYNAMIC = "dynamic"


def with_options(
    trained: Trained, changes: Mapping[str, Any], sampler: str | None, knobs: Mapping[str, float | None],
    clip: Clip | None,
) -> Trained:
    """The run with the settings of sampling that are given; None leaves one as it is."""
    changed = dict(changes) | _sampler(trained, sampler, knobs)
    given = {name: value for name, value in changed.items() if value is not None}
    if clip is not None:
        own = trained.config.sampling.dynamic_clip or PERCENTILE
        given |= {"clip": clip is not Clip.NONE, "dynamic_clip": own if clip is Clip.DYNAMIC else None}
    return trained.with_sampling([f"sampling.{name}={json.dumps(value)}" for name, value in given.items()])


def _sampler(trained: Trained, name: str | None, knobs: Mapping[str, float | None]) -> dict[str, Any]:
    """The settings that choose a sampler, and those of its knobs that are given."""
    if name is not None and name not in SAMPLERS:
        raise unknown("--sampler", name, SAMPLERS, "sampler")
    own = kind_of(trained.config.sampling.sampler)
    kind = name or own or ""
    chosen: dict[str, Any] = {"sampler": None if kind == own else kind}
    for knob, value in knobs.items():
        if value is not None:
            has = any(f.name == knob for f in dataclasses.fields(SAMPLERS[kind]))  # type: ignore[arg-type]
            require(has, f"--{knob}", value, f"nothing: the sampler {kind} has no {knob}", "add --sampler ancestral")
            chosen[f"sampler.{knob}"] = value
    return chosen


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


def check_guidance(gallery: Gallery, given: bool) -> None:
    """Raise for guidance that was asked for and could not be, and for a weak run that is no weaker self."""
    own, weak, scale = gallery.trained, gallery.weak, gallery.generation.sampling.guidance
    if weak is None:
        if given:
            allowed = "1: this run was trained without classes"
            require(own.classes is not None or scale == 1, "--guidance", scale, allowed, "or guide with --weak RUN")
        return
    require(scale != 1, "--weak", weak.config.name, "with a guidance other than 1", "add --guidance 2")
    require(weak.classes == own.classes, "--weak", "a run on other classes", "one on the run's")
    theirs, mine = ((c.loss.prediction.value, kind_of(c.process)) for c in (weak.config, own.config))
    require(theirs == mine, "--weak", theirs, f"the run's prediction and process, {mine}")
