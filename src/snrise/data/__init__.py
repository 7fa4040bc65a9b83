"""Images to batches: sources (built-in emoji, a folder), one preprocessing, and an order that is a pure function.

>>> from snrise.data import Dataset, Emoji, Preprocess
>>> dataset = Dataset(Emoji("class"), Preprocess((32, 32)), flip=True)
>>> len(dataset), next(dataset.batches(8, seed=0)).images.shape
(1852, torch.Size([8, 3, 32, 32]))
"""

from snrise.data.dataset import Batch, ByIndex, Data, Dataset, Unreadable
from snrise.data.emoji import Emoji
from snrise.data.external import Blank, Indexed, MapStyle, Streamed, Values, as_data
from snrise.data.folder import ImageFolder, suffix_counts
from snrise.data.hub import Hub
from snrise.data.order import flips, order
from snrise.data.parts import Part
from snrise.data.pixels import to_float, to_uint8
from snrise.data.preprocess import Fit, Preprocess
from snrise.data.reading import read_image
from snrise.data.shards import Shards
from snrise.data.sources import Source, open_image
from snrise.data.store import Cache, cache_home

__all__ = [
    "Batch",
    "Blank",
    "ByIndex",
    "Cache",
    "Data",
    "Dataset",
    "Emoji",
    "Fit",
    "Hub",
    "ImageFolder",
    "Indexed",
    "MapStyle",
    "Part",
    "Preprocess",
    "Shards",
    "Source",
    "Streamed",
    "Unreadable",
    "Values",
    "as_data",
    "cache_home",
    "flips",
    "open_image",
    "order",
    "read_image",
    "suffix_counts",
    "to_float",
    "to_uint8",
]
