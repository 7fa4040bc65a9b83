"""Codes of an autoencoder in diffusers' format: latent diffusion."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from snrise._errors import invalid, require
from snrise._typing import Images, Pictures, Size
from snrise.codecs.base import Codec
from snrise.codecs.folders import ABOUT, codec_folder, config_of, facts_of, fingerprint_of, loaded
from snrise.codecs.given import Given, encoded
from snrise.networks.base import check_sides

__all__ = ["Autoencoder"]


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
        channels, factor = facts_of(self._folder)
        check_sides(size, factor, "config.data.resolution")
        return channels, size[0] // factor, size[1] // factor

    def encode(self, pictures: Pictures) -> Float[Tensor, "b c y x"]:
        """Codes, on the pictures' device, without gradients."""
        return self.given(pictures.device).encode(pictures)

    def decode(self, x: Images) -> UInt8[Tensor, "b 3 H W"]:
        """Pictures of codes, a few at a time; those of a side above 1,024 pixels in tiles where the class has them."""
        return self.given(x.device).decode(x)

    def given(self, device: torch.device) -> Given:
        """The same with its network, read once."""
        require(self.measured, "codec.std", list(self.std), "measured ones: see snrise.encoding.with_measured_codes")
        return Given(network=self._network(device), mean=self.mean, std=self.std, factor=self.factor)

    def raw(self, pictures: Pictures) -> Float[Tensor, "b c y x"]:
        """Codes as the autoencoder has them."""
        return encoded(self._network(pictures.device), pictures)

    def reconstruct(self, pictures: Pictures) -> UInt8[Tensor, "b 3 h w"]:
        """What becomes of pictures that are encoded and decoded; mean and deviation do not matter."""
        channels = facts_of(self._folder).channels
        unscaled = replace(self, mean=(0.0,) * channels, std=(1.0,) * channels)
        return unscaled.decode(unscaled.encode(pictures))

    def fingerprint(self) -> str:
        """What identifies the weights at the path."""
        return fingerprint_of(self._folder)

    def statements(self) -> tuple[float, float]:
        """Mean and standard deviation of codes that the folder states: codes are (raw − shift) · scaling."""
        config = config_of(self._folder)
        return config.get("shift_factor") or 0.0, 1 / (config.get("scaling_factor") or 1.0)

    @property
    def class_name(self) -> str:
        """Its class in diffusers."""
        return str(config_of(self._folder)["_class_name"])

    @property
    def factor(self) -> int:
        """How many times smaller the side of a code is."""
        return facts_of(self._folder).factor

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
        if self.weights is not None and (found := self.fingerprint()) != self.weights:
            fix = "give the path of those: codec.path=FOLDER"
            raise invalid("codec.path", f"{self.path} with weights {found}", f"the weights {self.weights}", fix)
        return loaded(self._folder, device)
