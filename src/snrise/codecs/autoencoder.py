"""Codes of an autoencoder in diffusers' format: latent diffusion."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from snrise._errors import SnriseError, invalid, require
from snrise._typing import Images, Pictures, Size
from snrise.codecs.architectures import diffusers_class
from snrise.codecs.base import Codec
from snrise.data import as_float, to_uint8
from snrise.networks.base import check_sides

__all__ = [
    "ABOUT", "EXPORTED", "Autoencoder", "autoencoders", "codec_folder", "codes_of", "export_autoencoder",
    "load_autoencoder",
]

#: The classes of diffusers that can be a codec.
CLASSES = ("AutoencoderKL", "VQModel", "AutoencoderDC", "AutoencoderTiny")
#: Within the folder of a run of `snrise train-codec`, the autoencoder in diffusers' format.
EXPORTED = "diffusers"
#: Beside its weights, what a run of `snrise train-codec` knows of their training.
ABOUT = "snrise.json"
#: Pixels that are encoded or decoded at a time; images of a longer side are decoded in tiles of this side.
AT_ONCE, TILE = 2**20, 1024
#: The side of an image that tells the shape of its codes.
PROBE = 512
BUILTIN = Path(__file__).parent / "builtin"


@final
@dataclass(frozen=True, kw_only=True)
class Autoencoder(Codec):
    """Codes of an autoencoder, each channel with the mean 0 and the variance 1: those of diffusers' classes.

    Of an `AutoencoderKL` the codes are the means that the encoder says; of a `VQModel`, the vectors before the nearest
    ones of its book are taken.

    Attributes:
        path: the name of a built-in one, the folder of a run of `snrise train-codec`, a folder in diffusers' format, or
            a name at the Hub.
        mean: of each channel; none yet: it is measured when a run starts. See `stated`.
        std: the standard deviation of each channel, so too.
        stated: whether mean and deviation are those that the folder states, its shift and scaling factors, instead.
        weights: identifies the weights that a run was trained with; None if any will do.
    """

    path: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    stated: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        good = len(self.mean) == len(self.std) and all(s > 0 for s in self.std)
        require(good, "std", list(self.std), "a number above 0 for each channel, as many as of mean")

    @property
    def range(self) -> None:
        """Codes have no bounds."""
        return

    @property
    def measured(self) -> bool:
        """Whether mean and deviation are known."""
        return bool(self.std)

    def shape(self, size: Size) -> tuple[int, int, int]:
        """Channels, and the size over the autoencoder's factor."""
        about = _about(self._folder)
        check_sides(size, about.factor, "config.data.resolution")
        return about.channels, size[0] // about.factor, size[1] // about.factor

    def encode(self, pictures: Pictures) -> Float[Tensor, "b c y x"]:
        """Codes, on the pictures' device, without gradients."""
        raw = self.raw(pictures)
        return (raw - self._each(self.mean, raw)) / self._each(self.std, raw)

    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """Pictures of codes, a few at a time; those of a side above 1,024 pixels in tiles where the class has them."""
        codes = x * self._each(self.std, x) + self._each(self.mean, x)
        network, (_, factor) = self._network(x.device), _about(self._folder)
        height, width = (factor * side for side in x.shape[-2:])
        if max(height, width) > TILE and hasattr(network, "enable_tiling"):
            network.enable_tiling()
        parts = torch.split(codes, max(1, AT_ONCE // (height * width)))
        with torch.no_grad():
            return torch.cat([to_uint8(network.decode(part).sample.float()) for part in parts])

    @torch.no_grad()
    def raw(self, pictures: Pictures) -> Float[Tensor, "b c y x"]:
        """Codes as the autoencoder has them."""
        network = self._network(pictures.device)
        parts = torch.split(as_float(pictures), max(1, AT_ONCE // (pictures.shape[-2] * pictures.shape[-1])))
        return torch.cat([codes_of(network.encode(part)) for part in parts]).float()

    def reconstruct(self, pictures: Pictures) -> UInt8[Tensor, "b 3 h w"]:
        """What becomes of pictures that are encoded and decoded; mean and deviation do not matter."""
        channels = _about(self._folder).channels
        unscaled = replace(self, mean=(0.0,) * channels, std=(1.0,) * channels)
        return unscaled.decode(unscaled.encode(pictures))

    def fingerprint(self) -> str:
        """What identifies the weights at the path."""
        return _fingerprint(*_stamped(self._folder))

    def statements(self) -> tuple[float, float]:
        """Mean and standard deviation of codes that the folder states: codes are (raw − shift) · scaling."""
        config = _config(self._folder)
        return config.get("shift_factor") or 0.0, 1 / (config.get("scaling_factor") or 1.0)

    @property
    def training_seconds(self) -> float | None:
        """How long the autoencoder was trained; None where that is not known, as of one from elsewhere."""
        try:
            return float(json.loads((self._folder / ABOUT).read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def _folder(self) -> Path:
        return codec_folder(self.path)

    def _network(self, device: torch.device) -> Any:
        folder = self._folder
        if self.weights is not None and (found := self.fingerprint()) != self.weights:
            fix = "give the path of those: codec.path=FOLDER"
            raise invalid("codec.path", f"{self.path} with weights {found}", f"the weights {self.weights}", fix)
        return _loaded(*_stamped(folder), str(device))

    def _each(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        require(self.measured, "codec.std", list(self.std), "measured ones: see snrise.encoding.with_measured_codes")
        return like.new_tensor(values)[:, None, None]


class _About(NamedTuple):
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
    return _from_hub(path)


@lru_cache(maxsize=4)
def _from_hub(name: str) -> Path:
    """The folder of an autoencoder at the Hub, fetched once."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        known = ", ".join(autoencoders())
        allowed = f"{known}, a run of snrise train-codec, a folder in diffusers' format, or a name at the Hub"
        raise invalid("codec.path", name, allowed, "train one: snrise train-codec")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=["config.json", "diffusion_pytorch_model.safetensors"]))
    except ImportError:
        raise SnriseError("codec.path: needs diffusers; pip install 'snrise[codec]'") from None
    except Exception as error:  # no connection, no such name: the Hub's own
        reason = f"{type(error).__name__} {error}".strip().splitlines()[0]
        raise SnriseError(f"codec.path: {name} is no folder here, and cannot be had from the Hub ({reason})") from error


@torch.no_grad()
def load_autoencoder(network: nn.Module, path: str, where: str = "path") -> None:
    """Give a network the weights of the autoencoder at a path, which has to be built alike.

    Raises:
        SnriseError: if there is none, or it has other layers or sizes; nothing is changed then.
    """
    theirs = load_file(_weights(codec_folder(path)))
    for name, own in network.state_dict().items():
        found = f"{path}, without {name}" if name not in theirs else f"{path}, where {name} is {[*theirs[name].shape]}"
        fits = name in theirs and theirs[name].shape == own.shape
        require(fits, where, found, f"an autoencoder of the same settings, with {name} of {[*own.shape]}")
    network.load_state_dict(theirs, strict=False)


def export_autoencoder(path: str, out: Path, dtype: torch.dtype) -> Path:
    """Write an autoencoder into a new folder in diffusers' format, its weights in a dtype; returns their file.

    Raises:
        SnriseError: if there is no autoencoder at the path, or already something at `out`.
    """
    folder = codec_folder(path)
    require(not out.exists(), "--out", str(out), "a folder that is not there yet", "remove it, or choose another")
    weights = _weights(folder)
    try:
        out.mkdir(parents=True)
        for file in (folder / "config.json", folder / ABOUT):
            if file.is_file():
                shutil.copyfile(file, out / file.name)
        save_file({name: t.to(dtype) for name, t in load_file(weights).items()}, out / weights.name, {"format": "pt"})
    except OSError as error:
        raise SnriseError(f"{out}: cannot be written: {error.strerror or error}") from error
    return out / weights.name


def _config(folder: Path) -> dict[str, Any]:
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
def _about(folder: Path) -> _About:
    """Asked of the network without weights, so that it is right for every class."""
    config = _config(folder)
    with torch.device("meta"):
        network = _class(config).from_config(config)
        codes = codes_of(network.encode(torch.zeros(1, 3, PROBE, PROBE)))
    return _About(codes.shape[1], PROBE // codes.shape[-1])


def _stamped(folder: Path) -> tuple[Path, int]:
    """A folder, and when its weights were written: those of a run that goes on change."""
    return folder, _weights(folder).stat().st_mtime_ns


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
    file = folder / "diffusion_pytorch_model.safetensors"
    require(file.is_file(), str(folder), "no weights", file.name, "save them with safe_serialization=True")
    return file


@lru_cache(maxsize=2)
def _loaded(folder: Path, stamp: int, device: str) -> nn.Module:
    """The network with its weights, in float32, which all of these classes compute in without overflow."""
    try:
        network: nn.Module = _class(_config(folder)).from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SnriseError(f"{folder}: cannot be read as an autoencoder ({reason})") from error
    return network.float().eval().requires_grad_(False).to(device)


def codes_of(encoded: Any) -> Tensor:
    """Codes in what diffusers' classes return: the mean of a distribution, `latent` or `latents`."""
    if hasattr(encoded, "latent_dist"):
        mean: Tensor = encoded.latent_dist.mode()
        return mean
    codes: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return codes
