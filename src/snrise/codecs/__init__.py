"""Codecs: between pictures, RGB as stored and shown, and what is diffused."""

from snrise.codecs.architectures import ARCHITECTURES, DC, KL, VQ, Architecture, Coded
from snrise.codecs.autoencoder import Autoencoder
from snrise.codecs.base import Codec
from snrise.codecs.folders import (
    ABOUT,
    EXPORTED,
    autoencoders,
    codec_folder,
    copy_autoencoder,
    export_autoencoder,
    load_autoencoder,
)
from snrise.codecs.given import Given, codes_of
from snrise.codecs.grey import Grey
from snrise.codecs.pixels import Pixels

__all__ = [
    "ABOUT", "ARCHITECTURES", "CODECS", "DC", "EXPORTED", "KL", "VQ", "Architecture", "Autoencoder", "Codec",
    "Coded", "Given", "Grey", "Pixels", "autoencoders", "codec_folder", "codes_of", "copy_autoencoder",
    "export_autoencoder", "load_autoencoder",
]

#: Every codec by the name that a config gives it.
CODECS: dict[str, type[Codec]] = {"pixels": Pixels, "grey": Grey, "diffusers": Autoencoder}
