"""Autoencoders in diffusers' format: how a path names one, and what its folder holds."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from snrise._errors import SnriseError, invalid, require
from snrise.codecs.architectures import diffusers_class
from snrise.codecs.given import codes_of
from snrise.hub import fetch, is_hub_name

__all__ = [
    "ABOUT", "EXPORTED", "Facts", "autoencoders", "codec_folder", "config_of", "copy_autoencoder",
    "export_autoencoder", "facts_of", "fingerprint_of", "load_autoencoder", "loaded",
]

#: The classes of diffusers that can be a codec.
CLASSES = ("AutoencoderKL", "VQModel", "AutoencoderDC", "AutoencoderTiny")
#: Within the folder of a run of `snrise train-codec`, the autoencoder in diffusers' format.
EXPORTED = "diffusers"
#: Beside its weights, what a run of `snrise train-codec` knows of their training.
ABOUT = "snrise.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
#: The side of an image that tells the shape of its codes.
PROBE = 512
BUILTIN = Path(__file__).parent / "builtin"


class Facts(NamedTuple):
    """Channels of a code, and how many times smaller its side is."""

    channels: int
    factor: int


def autoencoders() -> dict[str, Path]:
    """The folders of the built-in autoencoders by name.

    >>> sorted(autoencoders())
    ['emoji-f8']
    """
    return {folder.name: folder for folder in sorted(BUILTIN.glob("*")) if (folder / "config.json").is_file()}


def codec_folder(path: str) -> Path:
    """The folder in diffusers' format that a codec's path means.

    Raises:
        SnriseError: if there is none.
    """
    given = autoencoders().get(path, Path(path))
    for folder in (given, given / EXPORTED):
        if (folder / "config.json").is_file():
            return folder
    if given.exists():
        allowed = "a run of snrise train-codec after its first checkpoint, or a folder with config.json of diffusers"
        raise invalid("codec.path", path, allowed)
    if not is_hub_name(path) and (path.count("/") != 1 or path.startswith((".", "/", "~"))):
        known = ", ".join(autoencoders())
        allowed = f"{known}, a run of snrise train-codec, a folder in diffusers' format, or a name at the Hub"
        raise invalid("codec.path", path, allowed, "train one: snrise train-codec")
    try:
        return fetch(path if is_hub_name(path) else f"hub:{path}", ("config.json", WEIGHTS, ABOUT)).folder
    except SnriseError as error:
        raise SnriseError(f"codec.path: {path} is no folder here; {error}") from error


@torch.no_grad()
def load_autoencoder(network: nn.Module, path: str, where: str = "path") -> None:
    """Give a network the weights of the autoencoder at a path, which has to be built alike.

    Raises:
        SnriseError: if there is none, or it has other layers or sizes; nothing is changed then.
    """
    theirs = _tensors(codec_folder(path))
    for name, own in network.state_dict().items():
        found = f"{path}, without {name}" if name not in theirs else f"{path}, where {name} is {[*theirs[name].shape]}"
        fits = name in theirs and theirs[name].shape == own.shape
        require(fits, where, found, f"an autoencoder of the same settings, with {name} of {[*own.shape]}")
    network.load_state_dict(theirs, strict=False)


def export_autoencoder(path: str, out: Path, dtype: torch.dtype) -> Path:
    """Write an autoencoder into a new folder in diffusers' format, its weights in a dtype; returns their file.

    Raises:
        SnriseError: if there is no whole autoencoder at the path, or already something at `out`.
    """
    stored = _tensors(codec_folder(path))
    file = copy_autoencoder(path, out)
    try:
        save_file({key: t.to(dtype) for key, t in stored.items()}, file, {"format": "pt"})
    except OSError as error:
        raise SnriseError(f"{out}: cannot be written: {error.strerror or error}") from error
    return file


def copy_autoencoder(path: str, out: Path) -> Path:
    """Copy an autoencoder into a new folder, to the last bit; returns the file of its weights.

    Raises:
        SnriseError: if there is no autoencoder at the path, or already something at `out`.
    """
    folder = codec_folder(path)
    require(not out.exists(), "--out", str(out), "a folder that is not there yet", "remove it, or choose another")
    files = (folder / "config.json", folder / ABOUT, _weights(folder))
    try:
        out.mkdir(parents=True)
        for file in files:
            if file.is_file():
                shutil.copyfile(file, out / file.name)
    except OSError as error:
        raise SnriseError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out / WEIGHTS


def config_of(folder: Path) -> dict[str, Any]:
    """The settings in a folder, of a class that can be a codec.

    Raises:
        SnriseError: for others, or a file that cannot be read.
    """
    file = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if config["_class_name"] in CLASSES:
            return config
        got = config["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = f"{type(error).__name__}"
    raise invalid(str(file), got, f"settings of diffusers' {', '.join(CLASSES)}")


def _class(config: dict[str, Any]) -> Any:
    return diffusers_class(config["_class_name"])


@lru_cache(maxsize=16)
def facts_of(folder: Path) -> Facts:
    """Asked of the network without weights, so that it is right for every class."""
    config = config_of(folder)
    with torch.device("meta"):
        network = _class(config).from_config(config)
        codes = codes_of(network.encode(torch.zeros(1, 3, PROBE, PROBE)))
    return Facts(codes.shape[1], PROBE // codes.shape[-1])


def _stamped(folder: Path) -> tuple[Path, int]:
    """A folder, and when its weights were written: those of a run that goes on change."""
    return folder, _weights(folder).stat().st_mtime_ns


def fingerprint_of(folder: Path) -> str:
    """What identifies the weights in a folder, as they are now."""
    return _fingerprint(*_stamped(folder))


@lru_cache(maxsize=16)
def _fingerprint(folder: Path, stamp: int) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for block in _blocks(_weights(folder)):
        digest.update(block)
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while block := opened.read(2**22):
                yield block
    except OSError as error:
        raise SnriseError(f"{file}: cannot be read: {error.strerror}") from error


def _weights(folder: Path) -> Path:
    file = folder / WEIGHTS
    require(file.is_file(), str(folder), "no weights", file.name, "save them with safe_serialization=True")
    return file


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = _weights(folder)
    try:
        stored: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError) as error:
        fix = "write or fetch it again"
        raise invalid(str(file), f"{type(error).__name__}", "a whole file of weights", fix) from error
    return stored


def loaded(folder: Path, device: torch.device) -> nn.Module:
    """The network with its weights as they are now, read once.

    Raises:
        SnriseError: for files that are not those of an autoencoder.
    """
    return _loaded(*_stamped(folder), str(device))


@lru_cache(maxsize=2)
def _loaded(folder: Path, stamp: int, device: str) -> nn.Module:
    """The network with its weights, in float32, which all of these classes compute in without overflow."""
    try:
        network: nn.Module = _class(config_of(folder)).from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SnriseError(f"{folder}: cannot be read as an autoencoder ({reason})") from error
    return network.float().eval().requires_grad_(False).to(device)
