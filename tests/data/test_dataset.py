import itertools
import pickle
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from snrise._errors import SnriseError
from snrise.data import Dataset, ImageFolder, Preprocess, flips, order, read_image, to_float, to_uint8

N = 10


@dataclass
class Numbered:
    """Image i is a ramp to the right plus 10·i; counts how often each is read."""

    reads: list[int] = field(default_factory=lambda: [0] * N)
    labels: tuple[int, ...] | None = (0, 1, 1, 1, 0, 1, 1, 1, 1, 1)
    classes: tuple[str, ...] | None = ("a", "b")

    def __len__(self):
        return N

    def read(self, index):
        self.reads[index] += 1
        return Image.fromarray((np.arange(4) + 10 * index).astype(np.uint8)[None].repeat(4, 0))

    def name(self, index):
        return str(index)

    def fingerprint(self):
        return "numbered"


def dataset(source=None, flip=False, **options):
    return Dataset(Numbered() if source is None else source, Preprocess((4, 4)), flip, **options)


def expected(index, mirrored=False):
    row = (torch.arange(4) + 10 * index).to(torch.uint8)
    return (row.flip(0) if mirrored else row).expand(3, 4, 4)


def take(data, count, batch, seed=0, position=0):
    return list(itertools.islice(data.batches(batch, seed, position), count))


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_images_are_the_sources(cache_bytes):
    data = dataset(cache_bytes=cache_bytes)
    assert data.cached == (cache_bytes > 0)
    indices = [3, 9, 3, 0]
    assert torch.equal(data.images(indices), torch.stack([expected(i) for i in indices]))
    assert data.images([]).shape == (0, 3, 4, 4)


def test_what_fits_is_decoded_once_and_what_does_not_each_time():
    kept, fresh = Numbered(), Numbered()
    data = dataset(kept)
    for _ in range(3):
        data.images(range(N))
    take(data, 5, 4)
    assert kept.reads == [1] * N
    assert dataset(kept, cache_bytes=N * 3 * 4 * 4).cached
    assert not dataset(kept, cache_bytes=N * 3 * 4 * 4 - 1).cached
    data = dataset(fresh, cache_bytes=0)
    data.images([5, 5])
    data.images([5])
    assert fresh.reads[5] == 3


def test_changing_a_batch_leaves_the_kept_pixels_alone():
    data = dataset()
    data.images([1]).zero_()
    assert torch.equal(data.images([1])[0], expected(1))


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_a_pure_function_of_seed_and_position(cache_bytes, flip):
    data = dataset(flip=flip, cache_bytes=cache_bytes)
    for batch in take(data, 4, 6, seed=5, position=7):
        assert batch.indices == order(5, batch.position, 6, N)
        coins = flips(5, batch.position, 6) & flip
        pixels = torch.stack([expected(i, bool(coin)) for i, coin in zip(batch.indices, coins, strict=True)])
        assert torch.equal(to_uint8(batch.images), pixels)
        assert_close(batch.images, to_float(pixels), rtol=0, atol=0)
        assert batch.labels.tolist() == [data.source.labels[i] for i in batch.indices]
        assert batch.labels.dtype == torch.int64
    assert [batch.position for batch in take(data, 3, 6, position=7)] == [7, 13, 19]


def test_batches_of_8_are_batches_of_32_cut_up():
    data = dataset(flip=True)
    small, large = take(data, 8, 8), take(data, 2, 32)
    assert torch.equal(torch.cat([b.images for b in small]), torch.cat([b.images for b in large]))
    assert torch.equal(torch.cat([b.labels for b in small]), torch.cat([b.labels for b in large]))


def test_labels_and_their_frequencies():
    assert_close(dataset().label_frequencies, torch.tensor([0.2, 0.8], dtype=torch.float64))
    bare = dataset(Numbered(labels=None, classes=None))
    assert bare.labels is None
    assert bare.label_frequencies is None
    assert take(bare, 1, 4)[0].labels is None


def test_leaving_the_stream_ends_its_threads():
    before = threading.active_count()
    for batch in dataset(cache_bytes=0).batches(4, seed=0):
        if batch.position >= 8:
            break
    del batch
    stream = dataset().batches(4, seed=0)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_a_pickle_leaves_pixels_out():
    data = dataset()
    before = len(pickle.dumps(data))
    data.images(range(N))
    assert len(pickle.dumps(data)) == before
    assert torch.equal(pickle.loads(pickle.dumps(data)).images([2]), data.images([2]))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dataset(cache_bytes=-1), r"Dataset\.cache_bytes: got -1"),
        (lambda: dataset(threads=0), r"Dataset\.threads: got 0"),
        (lambda: dataset().images([N]), r"Dataset\.images: got 10; allowed: an index from 0 to 9"),
        (lambda: dataset().images([-1]), r"Dataset\.images: got -1"),
        (lambda: dataset().batches(0, seed=0), r"Dataset\.batches\.batch: got 0"),
        (lambda: dataset().batches(1, seed=-1), r"data\.seed: got -1"),
        (lambda: dataset().batches(1, seed=0, position=-1), r"data\.position: got -1"),
    ],
)
def test_errors(call, text):
    with pytest.raises(SnriseError, match=text):
        call()


def test_an_empty_source_is_an_error():
    class Empty(Numbered):
        def __len__(self):
            return 0

    with pytest.raises(SnriseError, match=r"Dataset\.source: got 0; allowed: at least 1 image"):
        dataset(Empty())


@pytest.fixture
def broken(tmp_path):
    """A folder in which no file is right."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.jpg", "cut.png", "cut.webp", "cut.gif", "cut.bmp", "cut.tif"):
        noise.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "gone.png").write_text("")
    (tmp_path / "small.png").write_text("")
    noise.resize((3, 3)).save(tmp_path / "small.png")
    source = ImageFolder(tmp_path)
    (tmp_path / "gone.png").unlink()
    return source


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("cut.jpg", "truncated"),
        ("cut.png", "truncated"),
        ("cut.webp", ""),
        ("cut.gif", "truncated"),
        ("cut.bmp", "truncated"),
        ("cut.tif", ""),
        ("empty.png", "zero bytes"),
        ("text.jpg", "not an image in a format that Pillow knows"),
        ("gone.png", "No such file or directory"),
    ],
)
def test_unreadable_files_are_named_with_the_cause(broken, file, cause):
    with pytest.raises(SnriseError) as caught:
        read_image(broken, broken.files.index(file), Preprocess((8, 8)))
    text = str(caught.value)
    assert text.startswith(f"{broken.path / file}: cannot be read: ")
    assert cause in text
    assert text.endswith("allowed: an intact image file; replace or remove it")
    assert "\n" not in text
    assert "0x" not in text


def test_refused_images_are_named(broken):
    index = broken.files.index("small.png")
    with pytest.raises(SnriseError, match=r"small\.png: got '3 high × 3 wide'"):
        read_image(broken, index, Preprocess((8, 8), upscale=False))
    with pytest.raises(SnriseError, match=r"small\.png: got '3 high × 3 wide = 9 pixels'; allowed: at most 8"):
        read_image(broken, index, Preprocess((2, 2), max_pixels=8))
    with pytest.raises(SnriseError, match="at most 8"):  # and not that it is cut: it is refused before decoding
        read_image(broken, broken.files.index("cut.png"), Preprocess((2, 2), max_pixels=8))


def test_an_unreadable_file_stops_the_stream_by_name(broken):
    with pytest.raises(SnriseError, match="cannot be read"):
        take(Dataset(broken, Preprocess((8, 8))), 3, 4)
