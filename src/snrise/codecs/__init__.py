"""Codecs: between pictures, RGB as stored and shown, and what is diffused."""

from snrise.codecs.architectures import ARCHITECTURES, KL, VQ, Architecture
from snrise.codecs.autoencoder import ABOUT, EXPORTED, Autoencoder, codec_folder, codes_of
from snrise.codecs.base import Codec
from snrise.codecs.grey import Grey
from snrise.codecs.pixels import Pixels

__all__ = [
    "ABOUT", "ARCHITECTURES", "CODECS", "EXPORTED", "KL", "VQ", "Architecture", "Autoencoder", "Codec", "Grey",
    "Pixels", "codec_folder", "codes_of",
]

#: Every codec by the name that a config gives it.
CODECS: dict[str, type[Codec]] = {"pixels": Pixels, "grey": Grey, "diffusers": Autoencoder}
