"""Shards are listed once, into an index; each process reads its images and nothing else."""

import contextlib
import io
import itertools
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_shards import png, write

from snrise._errors import SnriseError
from snrise.data import Cache, Dataset, Preprocess, Shards, cache_home, shard_index
from snrise.data.shard_index import Index
from snrise.files import in_turn, write_atomically
from snrise.parallel import share

COLOURS = ("red", "lime", "blue", "white", "black")


def write_shard(path, number, each=5, first=0):
    colours = [COLOURS[(number + i) % 5] for i in range(each)]
    return write(path, {f"{first + i}.{suffix}": data for i, colour in enumerate(colours)
                        for suffix, data in (("png", png(colour)), ("cls", colour.encode()))})


def write_shards(folder, count=3):
    for number in range(count):
        write_shard(folder / f"{number}.tar", number)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_shards(tmp_path / "shards")


class Opened:
    """The tar files that this process opens."""

    def __init__(self):
        self.files = None
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if event == "open" and self.files is not None and str(arguments[0]).endswith(".tar"):
            self.files.append(Path(arguments[0]).name)

    @contextlib.contextmanager
    def __call__(self):
        self.files = found = []
        try:
            yield found
        finally:
            self.files = None


opened = Opened()


def indices(folder):
    return sorted(folder.glob(".snrise*")), sorted(cache_home().glob("index-*"))


def told(source):
    return [(source.name(i), source.read(i).getpixel((0, 0)), source.classes[source.labels[i]])
            for i in range(len(source))]


@pytest.mark.parametrize("classes", ["cls", None])
def test_shards_are_listed_once(folder, classes):
    with opened() as files:
        first = Shards(folder, classes)
    assert {*files} == {"0.tar", "1.tar", "2.tar"}
    assert [len(found) for found in indices(folder)] == [1, 0]
    with opened() as files:
        again = Shards(folder, classes)
        assert again.name(14) == str(folder / "2.tar:4.png")
    assert files == []
    assert again == first
    assert (again.labels, again.fingerprint()) == (first.labels, first.fingerprint())
    with opened() as files:
        assert again.read(7).getpixel((0, 0)) == first.read(7).getpixel((0, 0))
    assert {*files} == {"1.tar"}


def test_the_index_goes_with_its_folder(folder, tmp_path):
    Shards(folder, "cls")
    moved = folder.rename(tmp_path / "moved")
    with opened() as files:
        source = Shards(moved / "*.tar", "cls")
    assert files == []
    assert len({pixel for _, pixel, _ in told(source)}) == 5


@pytest.mark.parametrize("change", ["content", "size", "gone", "new"])
def test_a_changed_shard_is_listed_anew_and_the_others_are_not(folder, change):
    before, shard = told(Shards(folder, "cls")), folder / "1.tar"
    stat = shard.stat()
    match change:
        case "content":  # of the same size
            write_shard(shard, 0, first=5)
            assert shard.stat().st_size == stat.st_size
            os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        case "size":
            write(shard, {"only.png": png("red"), "only.cls": b"red"})
            os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        case "gone":
            shard.unlink()
        case "new":
            write(folder / "3.tar", {"one.png": png("red"), "one.cls": b"crimson"})
    with opened() as files:
        source = Shards(folder, "cls")
    assert {*files} == {"content": {"1.tar"}, "size": {"1.tar"}, "gone": set(), "new": {"3.tar"}}[change]
    after = told(source)
    with pytest.MonkeyPatch.context() as nothing_kept:
        nothing_kept.setattr(Index, "unpacked", lambda path: None)
        assert told(Shards(folder, "cls")) == after
    match change:
        case "content":
            assert [name for name, *_ in after[5:10]] == [f"{shard}:{i}.png" for i in range(5, 10)]
            assert [pixel for _, pixel, _ in after[5:10]] == [pixel for _, pixel, _ in before[:5]]
            assert after[:5] + after[10:] == before[:5] + before[10:]
        case "size":
            assert after == [*before[:5], (f"{shard}:only.png", (255, 0, 0), "red"), *before[10:]]
        case "gone":
            assert after == before[:5] + before[10:]
        case "new":
            assert after == [*before, (f"{folder}/3.tar:one.png", (255, 0, 0), "crimson")]
    assert [len(found) for found in indices(folder)] == [1, 0]


def test_classes_and_patterns_have_an_index_each(folder):
    for classes, pattern in (("cls", "*.tar"), (None, "*.tar"), (None, "[01].tar")) * 2:
        source = Shards(folder / pattern, classes)
        assert (source.labels is None, len(source)) == (classes is None, 10 if "[" in pattern else 15)
    assert len(indices(folder)[0]) == 3


def test_a_folder_that_cannot_be_written_has_its_index_among_the_caches(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    refuse(monkeypatch, folder)
    source = Shards(folder, "cls")
    assert [len(found) for found in indices(folder)] == [0, 1]
    with opened() as files:
        assert Shards(folder, "cls") == source
    assert files == []
    other = write_shards(tmp_path / "elsewhere" / "shards", count=1)
    refuse(monkeypatch, other)
    assert len(Shards(other, "cls")) == 5
    with opened() as files:
        assert told(Shards(folder, "cls")) == told(source)


def refuse(monkeypatch, folder):
    """The folder cannot be written."""
    write = shard_index.write_atomically

    def refusing(path, content, **named):
        if path.parent == folder:
            raise SnriseError(f"{path}: cannot be written: Read-only file system")
        write(path, content, **named)

    monkeypatch.setattr(shard_index, "write_atomically", refusing)


def test_with_no_place_for_an_index_shards_are_listed_every_time(folder, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    refuse(monkeypatch, folder)
    for _ in range(2):
        with opened() as files:
            assert len(Shards(folder, "cls")) == 15
        assert {*files} == {"0.tar", "1.tar", "2.tar"}


@pytest.mark.parametrize("part", ["header", "body", "half"])
def test_a_damaged_index_does_not_count(folder, part):
    before = told(Shards(folder, "cls"))
    (file,), _ = indices(folder)
    content = bytearray(file.read_bytes())
    if part == "half":
        del content[len(content) // 2 :]
    else:
        content[content.index(b'"1.tar') + 1 if part == "header" else -9] ^= 1
    file.write_bytes(content)
    with opened() as files:
        assert told(Shards(folder, "cls")) == before
        assert len({*files}) == 3
        files.clear()
        Shards(folder, "cls")
        assert files == []


def build(folder, start, locked, listing):
    if not locked:
        shard_index.in_turn = contextlib.nullcontext
    start.wait()
    with opened() as files:
        source = Shards(folder, "cls")
    listing.put((len(files) > 0, len(source), source.labels))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.parametrize("locked", [True, False])
def test_processes_that_list_at_once_do_not_collide(folder, locked):
    """One lists and the others wait; where folders cannot be locked, each does, and any of their indices is right."""
    context = multiprocessing.get_context("fork")
    start, listing = context.Barrier(3), context.Queue()
    processes = [context.Process(target=build, args=(folder, start, locked, listing), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    found = [listing.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    if locked:
        assert sorted(listed for listed, *_ in found) == [False, False, True]
    assert [len(indices(folder)[0]), len([*folder.iterdir()])] == [1, 4]
    with opened() as files:
        source = Shards(folder, "cls")
    assert files == []
    assert all(one[1:] == (15, source.labels) for one in found)


def test_a_turn_is_waited_for(tmp_path):
    context = multiprocessing.get_context("fork")
    entered = context.Event()

    def enter():
        with in_turn(tmp_path):
            entered.set()

    process = context.Process(target=enter, daemon=True)
    with in_turn(tmp_path):
        process.start()
        assert not entered.wait(0.3)
    process.join(60)
    assert entered.is_set()
    with in_turn(tmp_path / "none"):
        pass


def test_a_file_that_others_write_at_once_stays_whole(tmp_path, monkeypatch):
    """Another process writes the same file while this one has not yet renamed its own."""
    def meanwhile(number):
        monkeypatch.undo()
        write_atomically(tmp_path / "file", b"of the other", shared=True)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_atomically(tmp_path / "file", b"mine", shared=True)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"mine")]


def of_noise(folder, count=3, each=12):
    """Shards of images that nothing compresses, some of them larger."""
    draw = np.random.default_rng(0)
    for number in range(count):
        members = {}
        for i in range(each):
            file = io.BytesIO()
            side = 64 + 16 * (i % 3)
            Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "png", compress_level=0)
            members |= {f"{i:02d}.png": file.getvalue(), f"{i:02d}.txt": bytes(50_000), f"{i:02d}.cls": b"%d" % (i % 3)}
        write(folder / f"{number}.tar", members)
    return folder


def dataset(folder):
    return Dataset(Shards(folder, "cls"), Preprocess((8, 8)), flip=True, cache=Cache.NONE, workers=0, threads=1)


@pytest.mark.parametrize("position", [0, 10, 37, 1000])
def test_slices_of_any_number_of_processes_are_the_batches_from_any_position(folder, position):
    data = dataset(folder)
    wholes = [*itertools.islice(data.batches(10, 3, position), 3)]
    for size in (1, 2, 3, 5):
        slices = [data.slices(10, 3, position, rank=rank, size=size) for rank in range(size)]
        for whole in wholes:
            parts = [next(part) for part in slices]
            assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
            assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
            assert [i for part in parts for i in part.indices] == whole.indices
            assert {part.position for part in parts} == {whole.position}
    later = next(data.batches(10, 3, position + 20))
    assert torch.equal(later.images, wholes[2].images)


def bytes_read():
    """The bytes that this process has read from files so far, as the system counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_process_reads_its_share_and_nothing_of_what_comes_before(tmp_path, size):
    data = dataset(of_noise(tmp_path))
    places, batch = data.source.index.places, 10
    next(data.batches(batch, 0))
    for rank in range(size):
        before = bytes_read()
        taken = [part.indices for part in itertools.islice(data.slices(batch, 0, 990, rank=rank, size=size), 4)]
        read = bytes_read() - before
        own = share(batch, rank, size)
        assert [len(part) for part in taken] == [len(own)] * 4
        wanted = sum(places[[*itertools.chain(*taken)], 1].tolist())
        ahead = sum(places[next(data.slices(batch, 0, 1030, rank=rank, size=size)).indices, 1].tolist())
        assert wanted <= read <= wanted + ahead + 10_000
