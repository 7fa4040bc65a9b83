"""Images to batches: sources (built-in emoji, a folder), one preprocessing, and an order that is a pure function.

>>> from snrise.data import Dataset, Emoji, Preprocess
>>> dataset = Dataset(Emoji("class"), Preprocess((32, 32)), flip=True)
>>> len(dataset), next(dataset.batches(8, seed=0)).images.shape
(1852, torch.Size([8, 3, 32, 32]))
"""

from snrise.data.dataset import Batch, Dataset
from snrise.data.emoji import Emoji
from snrise.data.folder import ImageFolder
from snrise.data.order import flips, order
from snrise.data.pixels import to_float, to_uint8
from snrise.data.preprocess import Fit, Preprocess
from snrise.data.reading import read_image
from snrise.data.sources import Source, open_image

__all__ = [
    "Batch",
    "Dataset",
    "Emoji",
    "Fit",
    "ImageFolder",
    "Preprocess",
    "Source",
    "flips",
    "open_image",
    "order",
    "read_image",
    "to_float",
    "to_uint8",
]
