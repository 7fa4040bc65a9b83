"""The folder that is uploaded of a run: weights, settings, card, pictures, and the codec of a run on codes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from snrise import experiment, plots
from snrise._errors import SnriseError, invalid, require
from snrise.codecs import Autoencoder, autoencoders, copy_autoencoder
from snrise.config import RunConfig, parse, to_yaml
from snrise.construct import plain
from snrise.export import DTYPES, WeightFormat, write_weights
from snrise.files import write_atomically
from snrise.hub import WEIGHTS, is_hub_name
from snrise.interop import export_pipeline
from snrise.models import beside, models
from snrise.networks import External
from snrise.runs.gallery import Gallery, as_png
from snrise.sharing.card import About, card
from snrise.trained import Trained, averaged, load, newest, saved

__all__ = ["Parcel", "pack", "shared_settings"]

#: Within a repository, the autoencoder of a run on codes.
CODEC = "codec"


@final
@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What goes to a repository beside the weights of a run.

    Attributes:
        about: what the model card says that no file knows; `judged` and `pipeline` are filled in.
        dtype: of the weights.
        width: of the average, for a run that keeps several; None for that of the run.
        pipeline: whether diffusers' pipeline goes along.
    """

    about: About
    dtype: WeightFormat = WeightFormat.BF16
    width: float | None = None
    pipeline: bool = False


def shared_settings(config: RunConfig, name: str) -> RunConfig:
    """Settings without the folders of this machine: of their paths the last word, of a codec its copy at the Hub.

    Args:
        config: of a run.
        name: of its repository, `hub:USER/NAME`.
    """
    document = plain(config)
    data = document["data"]
    data["cache_folder"] = None
    if data.get("path") is not None:
        data["path"] = _last(data["path"])
    document["training"]["start"] = _begun(config.training.start)
    if isinstance(config.codec, Autoencoder) and _is_local(config.codec.path):
        document["codec"]["path"] = f"{name}/{CODEC}"
    return parse(document)


def _last(path: str) -> str:
    """The last word of a path to a file or folder here; names of data sets, and globs, stay as they are."""
    return Path(path).name if Path(path).is_absolute() or Path(path).exists() or path.startswith((".", "~")) else path


def _begun(start: str | None) -> str | None:
    return start if start is None or is_hub_name(start) or start in models() else Path(start).name


def _is_local(path: str) -> bool:
    return path not in autoencoders() and not is_hub_name(path) and Path(path).exists()


def pack(run: Path, folder: Path, parcel: Parcel, watch: Callable[[float], None] | None = None) -> Trained:
    """Write a new folder with all that goes to a repository; what was packed, as anybody loads it from there.

    The pictures are made from the weights as they are packed, so that everyone can make them again.

    Args:
        run: a run's folder, a checkpoint, exported weights or a name.
        folder: a folder that is not there yet, or an empty one.
        parcel: what goes along.
        watch: called with the number of pictures that are done.

    Raises:
        SnriseError: for a run without weights, a network of its own, or a folder with something in it.
    """
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    require(empty, "--out", str(folder), "a folder that is not there yet", "remove it, or choose another")
    file, name = newest(run), parcel.about.name
    header, config = saved(file)
    if isinstance(config.network, External):
        raise invalid("push", f"weights of a network of its own, {config.network.type}", "a run of a network of snrise")
    settings = to_yaml(shared_settings(config, name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(header, folder / WEIGHTS, parcel.dtype, settings, averaged(file, parcel.width))
        write_atomically(folder / "config.yaml", settings.encode())
        judged = _judged(run, folder, header.images_seen)
        trained = _loaded(file, folder)
        if parcel.pipeline:
            _add_pipeline(trained, folder, DTYPES[parcel.dtype])
        _draw(trained, folder, parcel.about.pictures, watch)
        about = replace(parcel.about, judged=judged, pipeline=parcel.pipeline)
        write_atomically(folder / "README.md", card(trained, about).encode())
    except OSError as error:
        raise SnriseError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return trained


def _loaded(file: Path, folder: Path) -> Trained:
    """The packed weights, in the network of a file; its codec is packed too, and read from here."""
    header, config = saved(file)
    names, codec = header.extra.get("classes"), config.codec
    network = experiment.network(config, None if names is None else len(names))
    trained = load(folder / WEIGHTS, network=network)
    if not isinstance(codec, Autoencoder) or not _is_local(codec.path):
        return trained
    copy_autoencoder(codec.path, folder / CODEC)
    here = replace(codec, path=str(folder / CODEC))
    return replace(trained, config=replace(trained.config, codec=here))


def _add_pipeline(trained: Trained, folder: Path, dtype: torch.dtype) -> None:
    made = export_pipeline(trained, folder / "made", dtype)
    for part in sorted(made.iterdir()):
        part.rename(folder / part.name)
    made.rmdir()


def _draw(trained: Trained, folder: Path, number: int, watch: Callable[[float], None] | None) -> None:
    """Samples, and the noise schedule."""
    gallery = Gallery(trained=trained)
    images = torch.cat(list(gallery.draw(range(number), number, watch)))
    origin = {"numbers": [0, number - 1]} | gallery.origin()
    write_atomically(folder / "samples.png", as_png(plots.sample_grid(images), origin))
    config = trained.config
    size = config.shape[1:]
    stated = config.schedule.reference or size
    figure = plots.schedule_curves({config.name: config.schedule(size)}, size, stated)
    plots.save(figure, folder / "schedule.png")


def _judged(run: Path, folder: Path, images_seen: int) -> dict[str, Any] | None:
    """The report of `snrise evaluate` on these weights, if there is one beside the run; copied."""
    place = beside(run)
    file = place.with_name(f"{place.stem}-evaluation") / "metrics.json"
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise SnriseError(f"{file}: not JSON: {error}; measure again with snrise evaluate") from None
    if found.get("images_seen") != images_seen:
        return None  # of an earlier checkpoint
    write_atomically(folder / "metrics.json", text.encode())
    return found
