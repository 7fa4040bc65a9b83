import io
import itertools
import os
import pathlib
import pickle
import shutil
import signal
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snrise._errors import SnriseError
from snrise.data import (
    Cache,
    Dataset,
    ImageFolder,
    Preprocess,
    Unreadable,
    flips,
    order,
    read_image,
)

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


#: Every way to keep pixels or not.
WAYS = [{"cache": Cache.MEMORY}, {"cache": Cache.DISK}, {"cache": Cache.NONE, "workers": 0},
        {"cache": Cache.NONE, "workers": 2}]
ways = pytest.mark.parametrize("way", WAYS, ids=["memory", "disk", "threads", "processes"])


@ways
def test_images_are_the_sources(way, tmp_path):
    data = dataset(cache_folder=tmp_path, **way)
    assert data.cached == way["cache"]
    indices = [3, 9, 3, 0]
    assert torch.equal(data.images(indices), torch.stack([expected(i) for i in indices]))
    assert data.images([]).shape == (0, 3, 4, 4)


def test_what_fits_is_decoded_once_and_what_does_not_each_time(tmp_path):
    for cache in (Cache.MEMORY, Cache.DISK):
        kept = Numbered()
        data = dataset(kept, cache=cache, cache_folder=tmp_path)
        for _ in range(3):
            data.images(range(N))
        take(data, 5, 4)
        assert kept.reads == [1] * N
    again = Numbered()
    dataset(again, cache=Cache.DISK, cache_folder=tmp_path).images(range(N))
    assert again.reads == [0] * N
    fresh = Numbered()
    data = dataset(fresh, cache=Cache.NONE)
    data.images([5, 5])
    data.images([5])
    assert fresh.reads[5] == 2


def test_changing_a_batch_leaves_the_kept_pixels_alone():
    data = dataset()
    data.images([1]).zero_()
    assert torch.equal(data.images([1])[0], expected(1))


def test_pixels_are_kept_where_they_fit(tmp_path, monkeypatch):
    size = N * 3 * 4 * 4
    assert dataset().bytes == size
    assert dataset(cache_bytes=size).cached == Cache.MEMORY
    free = shutil.disk_usage(tmp_path)
    for left, expected in ((10 * size, Cache.DISK), (10 * size - 1, Cache.NONE)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, left=left: free._replace(free=left))
        data = dataset(cache_bytes=size - 1, cache_folder=tmp_path / "not" / "there")
        assert data.cached == expected
        assert dataset(cache_bytes=size - 1, disk_bytes=size - 1, cache_folder=tmp_path).cached == Cache.NONE


@ways
@pytest.mark.parametrize("flip", [False, True])
def test_batches_are_a_pure_function_of_seed_and_position(way, flip, tmp_path):
    data = dataset(flip=flip, cache_folder=tmp_path, **way)
    for batch in take(data, 4, 6, seed=5, position=7):
        assert batch.indices == order(5, batch.position, 6, N)
        coins = flips(5, batch.position, 6) & flip
        pixels = torch.stack([expected(i, bool(coin)) for i, coin in zip(batch.indices, coins, strict=True)])
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.images, pixels)
        assert batch.labels.tolist() == [data.source.labels[i] for i in batch.indices]
        assert batch.labels.dtype == torch.int64
    assert [batch.position for batch in take(data, 3, 6, position=7)] == [7, 13, 19]


def test_batches_of_8_are_batches_of_32_cut_up():
    data = dataset(flip=True)
    small, large = take(data, 8, 8), take(data, 2, 32)
    assert torch.equal(torch.cat([b.images for b in small]), torch.cat([b.images for b in large]))
    assert torch.equal(torch.cat([b.labels for b in small]), torch.cat([b.labels for b in large]))


def test_labels_and_their_frequencies():
    assert dataset().frequencies == pytest.approx((0.2, 0.8))
    bare = dataset(Numbered(labels=None, classes=None))
    assert bare.labels is None
    assert bare.frequencies is None
    assert take(bare, 1, 4)[0].labels is None


def test_leaving_the_stream_ends_its_threads():
    before = threading.active_count()
    for batch in dataset(cache=Cache.NONE, workers=0).batches(4, seed=0):
        if batch.position >= 8:
            break
    del batch
    stream = dataset(cache=Cache.NONE, workers=0).batches(4, seed=0)
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
        (lambda: dataset(workers=-1), r"Dataset\.workers: got -1"),
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
    for way in WAYS:
        with pytest.raises(SnriseError, match=r"^\S+: cannot be read: [^\n]+$"):
            take(Dataset(broken, Preprocess((8, 8)), cache_folder=broken.path, **way), 3, 4)


class Holed(Numbered):
    """Images 3, 4 and 9 cannot be read."""

    def read(self, index):
        if index in (3, 4, 9):
            raise OSError("hole")
        return super().read(index)


@ways
def test_an_unreadable_image_is_replaced_by_the_next_with_its_label(way, tmp_path):
    data = dataset(Holed(), unreadable=Unreadable.SKIP, cache_folder=tmp_path, **way)
    instead = {3: 5, 4: 5, 9: 0}
    for batch in take(data, 4, 6, seed=2):
        actual = [instead.get(i, i) for i in order(2, batch.position, 6, N)]
        assert batch.indices == actual
        assert torch.equal(batch.images, torch.stack([expected(i) for i in actual]))
        assert batch.labels.tolist() == [data.source.labels[i] for i in actual]
    assert sorted(data.skipped) == [3, 4, 9]
    assert data.skipped[3] == "3: cannot be read: hole; allowed: an intact image file; replace or remove it"


@ways
def test_nothing_but_unreadable_images_is_an_error(way, tmp_path, broken):
    data = Dataset(broken, Preprocess((8, 8), upscale=False), unreadable=Unreadable.SKIP, cache_folder=tmp_path, **way)
    with pytest.raises(SnriseError, match=r"^data: none of the 10 images can be read; the first: \S+: cannot be"):
        take(data, 1, 4)


def test_a_killed_worker_is_one_line():
    data = dataset(Deadly(), cache=Cache.NONE, workers=1)
    with pytest.raises(SnriseError, match=r"^data\.workers: DataLoader worker \(pid\(s\) \d+\) .*; lower data.workers"):
        take(data, 3, 4)


class Deadly(Numbered):
    def read(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def encoded(kind):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


@given(kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]), seed=st.integers(0, 2**32 - 1),
       count=st.integers(0, 6), cut=st.floats(0, 1))
def test_mutated_files_are_read_or_refused_in_a_line(tmp_path_factory, kind, seed, count, cut):
    draw, content = np.random.default_rng(seed), bytearray(encoded(kind))
    for at in draw.integers(0, len(content), count):
        content[at] = draw.integers(0, 256)
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "a.png").write_bytes(content[: round(len(content) * max(cut, 0.5))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = read_image(ImageFolder(folder), 0, Preprocess((8, 8), max_pixels=10**6))
        except SnriseError as error:
            assert "\n" not in str(error)
            assert str(error).startswith(str(folder / "a.png"))
        else:
            assert pixels.shape == (3, 8, 8)


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = ImageFolder(tmp_path)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "read_bytes", forbidden)
    with pytest.raises(SnriseError, match=r"a\.png: cannot be read: Permission denied; allowed: an intact image file"):
        read_image(source, 0, Preprocess((8, 8)))


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    pixels = read_image(ImageFolder(tmp_path), 0, Preprocess((4, 6)))
    assert (pixels == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]).all()


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    """60,000 × 60,000 pixels in a header; there is nothing behind it."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(content + struct.pack(">I", 4) + b"IDAT" + b"\0" * 8)
    with pytest.raises(SnriseError, match=r"bomb\.png: got '60000 high × 60000 wide = 3,600,000,000 pixels'; all"):
        read_image(ImageFolder(tmp_path), 0, Preprocess((4, 6)))


@given(st.integers(1, 30))
def test_images_spread_over_all_of_them(most):
    data = Dataset(Numbered(), Preprocess((8, 8)))
    found = data.spread(most)
    assert found[0] == 0
    assert len(found) <= min(most, N)
    assert N - found[-1] <= found.step
    assert len(found) > most / 2 or most > N
