"""The slices that processes read of each batch, side by side, are the batch."""

import pytest
import torch

from own import Pictures
from snrise._errors import SnriseError
from snrise.data import Blank, Cache, Dataset, Emoji, Indexed, Preprocess, Streamed, order
from snrise.parallel import share

EMOJI = Emoji("class", only=("activities",))


class Counted(Pictures):
    """Pictures that remember which of them were read."""

    def __init__(self):
        super().__init__()
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


DATA = {
    "data set": lambda: Dataset(EMOJI, Preprocess((16, 16)), flip=True),
    "data set in worker processes": lambda: Dataset(
        EMOJI, Preprocess((16, 16)), flip=True, cache=Cache.NONE, workers=1
    ),
    "by index": lambda: Indexed(Pictures()),
    "a stream": lambda: Streamed([Pictures()[i] for i in range(10)]),
    "blank": lambda: Blank((8, 8), ("a", "b"), (2, 3)),
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("size", [2, 3])
def test_slices_side_by_side_are_the_batches(name, size):
    whole = DATA[name]().batches(8, 5, 76)
    slices = [DATA[name]().slices(8, 5, 76, rank=rank, size=size) for rank in range(size)]
    for _ in range(3):
        batch, parts = next(whole), [next(part) for part in slices]
        assert [part.position for part in parts] == [batch.position] * size
        assert [(part.begin, part.whole) for part in parts] == [(share(8, rank, size).start, 8) for rank in range(size)]
        assert [i for part in parts for i in part.indices] == batch.indices
        for mine, theirs in zip(zip(*parts, strict=True), batch, strict=True):
            if isinstance(theirs, torch.Tensor):
                assert torch.equal(torch.cat(mine), theirs)


def test_a_slice_is_read_alone():
    items = Counted()
    data = Indexed(items)
    assert data.size == (8, 16)
    items.read.clear()
    part = next(data.slices(8, 0, 16, rank=1, size=2))
    assert items.read == part.indices == next(Indexed(Pictures()).batches(8, 0, 16)).indices[4:]
    emoji = DATA["data set"]()
    next(emoji.slices(8, 0, 16, rank=1, size=2))
    read = {i for i in range(len(emoji)) if emoji.store.has(i)}
    ahead = order(0, 28, 4, len(emoji))
    assert {*order(0, 20, 4, len(emoji))} <= read <= {*order(0, 20, 4, len(emoji)), *ahead}


def test_every_process_needs_an_image():
    with pytest.raises(SnriseError, match=r"training\.batch: got 2; allowed: an image or more for each of 3 processes"):
        Indexed(Pictures()).slices(2, 0, rank=0, size=3)
