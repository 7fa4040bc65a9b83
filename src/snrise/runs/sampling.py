"""Settings of sampling, from options: what `snrise sample` and the app have in common."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from snrise._errors import require, unknown
from snrise._typing import StrEnum
from snrise.construct import kind_of
from snrise.runs.gallery import Gallery
from snrise.samplers import SAMPLERS
from snrise.trained import Trained

__all__ = ["Clip", "check_guidance", "with_options"]

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
