"""A run's state at its start: from its newest checkpoint, from the weights of another run, or new."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from snrise._errors import SnriseError
from snrise.checkpoint import Checkpoint
from snrise.experiment import Experiment
from snrise.parallel import World, launched, restarts
from snrise.runs.folder import RunFolder
from snrise.runs.joint import divide
from snrise.trained import newest
from snrise.training import TrainState, start_from
from snrise.training.saving import find_whole, load_verified

__all__ = ["begin", "data_facts"]


def begin(
    experiment: Experiment, folder: RunFolder, facts: Mapping[str, Any], tell: Callable[[str], None], world: World
) -> tuple[TrainState, Checkpoint | None]:
    """The state of a run, with the header of its newest whole checkpoint, or None if it is at its start.

    Under torchrun, the line that says so also says how many processes and restarts there are.

    Raises:
        SnriseError: if the checkpoint is of a run on other data than those of `facts`.
    """
    found, broken = find_whole(folder.checkpoints, experiment.averages != (), world)
    for problem in broken:
        tell(f"passed over a broken checkpoint: {problem}")
    if found is None and restarts():
        tell(f"beginning anew on {world}: there is no checkpoint yet")
    if found is None and experiment.start is not None:
        _initialise(experiment.network, newest(Path(experiment.start)), tell)
    world.copy_([*experiment.network.state_dict().values()])
    divide(experiment, world)
    state = TrainState.of(experiment)
    if found is None:
        return state, None
    checkpoint = load_verified(state, found, world)
    _check_data(folder, checkpoint.extra, facts, tell)
    tell(f"going on from {state.images_seen:,} images{f' on {world}' if launched() else ''} ({checkpoint.path})")
    return state, checkpoint


def _initialise(network: nn.Module, file: Path, tell: Callable[[str], None]) -> None:
    own = start_from(network, file)
    kept = f"; as drawn: {', '.join(own[:4])}{f' and {len(own) - 4} more' if len(own) > 4 else ''}" if own else ""
    tell(f"beginning with the weights of {file}{kept}")


def data_facts(experiment: Experiment, fingerprint: str) -> dict[str, Any]:
    """What a checkpoint keeps of the data: their number, fingerprint, classes and class frequencies."""
    classes, frequencies = experiment.classes, experiment.frequencies
    return {
        "images": experiment.dataset.length, "fingerprint": fingerprint,
        "classes": None if classes is None else list(classes),
        "frequencies": None if frequencies is None else list(frequencies),
    }


def _check_data(
    folder: RunFolder, saved: Mapping[str, Any], facts: Mapping[str, Any], tell: Callable[[str], None]
) -> None:
    """Raise if the data are not those of the run so far; tell if they may not be."""
    for name in ("images", "classes"):
        if saved[name] != facts[name]:
            was, now = (len(f[name]) if name == "classes" and f[name] else f[name] for f in (saved, facts))
            differing = f"{name} were {was}, now {now}" if was != now else f"{name} have other names"
            raise SnriseError(f"{folder.path}: holds a run on other data: {differing}; choose another --out")
    if saved["fingerprint"] != facts["fingerprint"]:
        tell("the files have changed since the last checkpoint: the run is no longer exactly repeatable")
