"""Data: sources of images, preprocessing, caching, and batches in an order that is a pure function of the seed.

>>> from snrise.data import Dataset, Emoji, Preprocess
>>> dataset = Dataset(Emoji("class"), Preprocess((32, 32)), flip=True)
>>> len(dataset), next(dataset.batches(8, seed=0)).images.shape
(1852, torch.Size([8, 3, 32, 32]))
"""

from snrise.data.base import Batch, Blank, ByIndex, Data, evenly, numbered
from snrise.data.dataset import Dataset, Unreadable
from snrise.data.emoji import Emoji, EmojiConfig
from snrise.data.external import ExternalConfig, Indexed, MapStyle, Streamed, as_data
from snrise.data.folder import FolderConfig, ImageFolder, suffix_counts
from snrise.data.hub import Hub, HubConfig
from snrise.data.items import Values
from snrise.data.order import flips, order
from snrise.data.parts import Part
from snrise.data.pixels import as_float, as_uint8, to_float, to_uint8
from snrise.data.preprocess import Fit, Preprocess
from snrise.data.reading import read_image
from snrise.data.shards import Shards, ShardsConfig
from snrise.data.sources import Source, SourceConfig, open_image
from snrise.data.store import Cache, cache_home

__all__ = [
    "SOURCES", "Batch", "Blank", "ByIndex", "Cache", "Data", "Dataset", "Emoji", "EmojiConfig", "ExternalConfig",
    "Fit", "FolderConfig", "Hub", "HubConfig", "ImageFolder", "Indexed", "MapStyle", "Part", "Preprocess", "Shards",
    "ShardsConfig", "Source", "SourceConfig", "Streamed", "Unreadable", "Values", "as_data", "as_float",
    "as_uint8", "cache_home", "evenly", "flips", "numbered", "open_image", "order", "read_image", "suffix_counts",
    "to_float", "to_uint8",
]

#: Every source's settings by the name that a config gives it.
SOURCES: dict[str, type[SourceConfig]] = {
    "emoji": EmojiConfig, "folder": FolderConfig, "shards": ShardsConfig, "hub": HubConfig, "external": ExternalConfig,
}
