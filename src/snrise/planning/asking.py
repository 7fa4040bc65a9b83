"""What a plan is asked for: a recipe, a file or a run, with settings to change."""

from pathlib import Path
from typing import Any

from snrise import documents
from snrise._errors import invalid, require, unknown
from snrise.config import RunConfig, parse
from snrise.construct import plain
from snrise.hub import WEIGHTS, fetch, is_hub_name
from snrise.networks import PRESETS, External
from snrise.quantities import parse_size
from snrise.trained import newest
from snrise.training import checkpoints, read_header

__all__ = ["asked"]

#: The recipe that a preset is planned with, if none is named.
PRESET_RECIPE = "folder"


def asked(
    arguments: list[str], preset: str | None = None, resolution: str | None = None, batch: int | None = None,
    classes: int | None = None,
) -> tuple[RunConfig, int | None]:
    """The settings to plan, and the number of classes: what is given, where 0 is none, or else what the data have.

    Raises:
        SnriseError: for settings that are none, and for a network of one's own.
    """
    config = parse(_document(arguments, preset, resolution, batch))
    if isinstance(config.network, External):
        raise invalid("config.network", config.network.type, "a network that can be built from settings",
                      "plan it in Python: snrise.planning.plan(experiment, device)")
    known = _classes(_file(arguments, preset), config) if classes is None else classes or None
    return config, known


def _document(arguments: list[str], preset: str | None, resolution: str | None, batch: int | None) -> dict[str, Any]:
    """The plain settings that the command line asks for."""
    document = documents.read_document(_file(arguments, preset))
    section = document.setdefault("data", {})
    if preset is not None:
        if preset not in PRESETS:
            raise unknown("--preset", preset, PRESETS, "preset")
        document |= {"name": preset, "network": plain(PRESETS[preset])}
        resolution = resolution or preset.rsplit("-", 1)[1]
    if resolution is not None:
        section["resolution"] = list(parse_size(resolution, "--resolution"))
    if section.get("source", "emoji") != "emoji" and section.get("path") is None:
        section |= {"source": "emoji", "classes": None}  # no images are needed
    if batch is not None:
        document.setdefault("training", {})["batch"] = batch
    for assignment in arguments:
        if "=" in assignment:
            documents.override(document, assignment)
    documents.resolve(document)
    return document


def _file(arguments: list[str], preset: str | None) -> str:
    """The recipe or file that is asked for; for a run's folder, or its name at the Hub, its config.yaml."""
    names = [a for a in arguments if "=" not in a]
    require(len(names) <= 1, "plan", names, "one recipe, config file or run, then key=value settings")
    name = names[0] if names else documents.DEFAULT_RECIPE if preset is None else PRESET_RECIPE
    if is_hub_name(name) and not Path(name).exists():
        return str(fetch(name, (WEIGHTS, "config.yaml")).folder / "config.yaml")
    return str(Path(name) / "config.yaml") if Path(name).is_dir() else name


def _classes(file: str, config: RunConfig) -> int | None:
    """The number of classes, if the settings have any: from the run's checkpoint, or else from the data."""
    run = Path(file).parent
    if checkpoints(run / "checkpoints") or (run / WEIGHTS).is_file():
        weights = run / WEIGHTS
        names = read_header(weights if weights.is_file() else newest(run)).extra["classes"]
    else:
        names = None if config.data.source.classes is None else config.data.source.open().classes
    return None if names is None else len(names)
