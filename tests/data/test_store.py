"""Where pixels are kept."""

import multiprocessing
import shutil

import numpy as np
import pytest

from snrise._errors import SnriseError
from snrise.data import store as data_store
from snrise.data.store import InMemory, Nowhere, OnDisk, cache_home

COUNT, SIZE = 5, (4, 6)


def pixels(index):
    return np.random.default_rng(index).integers(0, 256, (3, *SIZE), dtype=np.uint8)


def on_disk(home, fingerprint="a", identity="cats"):
    return OnDisk(home, identity, fingerprint, COUNT, SIZE)


@pytest.mark.parametrize("make", [lambda home: InMemory(COUNT, SIZE), on_disk], ids=["memory", "disk"])
def test_what_is_put_is_gathered(tmp_path, make):
    store = make(tmp_path)
    assert not any(store.has(i) for i in range(COUNT))
    for i in (3, 0):
        store.put(i, pixels(i))
    assert [store.has(i) for i in range(COUNT)] == [True, False, False, True, False]
    gathered = store.gather([3, 0, 3])
    assert (gathered == np.stack([pixels(3), pixels(0), pixels(3)])).all()
    gathered[:] = 0  # a copy
    assert (store.gather([3])[0] == pixels(3)).all()


def test_nowhere_keeps_nothing():
    store = Nowhere()
    store.put(0, pixels(0))
    assert not store.has(0)


def test_a_later_run_finds_the_pixels(tmp_path):
    on_disk(tmp_path).put(2, pixels(2))
    again = on_disk(tmp_path)
    assert [again.has(i) for i in range(COUNT)] == [False, False, True, False, False]
    assert (again.gather([2])[0] == pixels(2)).all()


def test_black_pixels_count_once_they_are_put(tmp_path):
    black = np.zeros((3, *SIZE), np.uint8)
    store = on_disk(tmp_path)
    assert not store.has(1)
    store.put(1, black)
    assert on_disk(tmp_path).has(1)


def test_changed_data_are_decoded_anew_and_the_old_pixels_go(tmp_path):
    old = on_disk(tmp_path, "a")
    old.put(2, pixels(2))
    other = on_disk(tmp_path, "a", "dogs")
    other.put(1, pixels(1))
    new = on_disk(tmp_path, "b")
    assert not new.has(2)
    assert old.has(2)
    assert (old.gather([2])[0] == pixels(2)).all()  # mapped, though the folder has gone
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(s.folder.name for s in (new, other))
    assert on_disk(tmp_path, "a", "dogs").has(1)


@pytest.mark.parametrize("part", ["pixels", "checksums"])
def test_a_damaged_image_does_not_count(tmp_path, part):
    store = on_disk(tmp_path)
    store.put(2, pixels(2))
    at = {"pixels": 2 * 3 * 4 * 6 + 7, "checksums": 2 * 4}[part]
    content = bytearray((store.folder / part).read_bytes())
    content[at] ^= 1
    (store.folder / part).write_bytes(content)
    again = on_disk(tmp_path)
    assert not again.has(2)
    again.put(2, pixels(2))
    assert again.has(2)


def fill(home, first):
    store = on_disk(home)
    for i in range(COUNT):
        store.put((first + i) % COUNT, pixels((first + i) % COUNT))


def test_two_processes_may_fill_it_at_once(tmp_path):
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    processes = [context.Process(target=fill, args=(tmp_path, first)) for first in (0, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    store = on_disk(tmp_path)
    assert all(store.has(i) and (store.gather([i])[0] == pixels(i)).all() for i in range(COUNT))
    assert [p.name for p in tmp_path.iterdir()] == [store.folder.name]


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_writing_not_the_run(tmp_path, monkeypatch):
    store = on_disk(tmp_path)
    store.put(0, pixels(0))
    monkeypatch.setattr(data_store, "_write", no_space)
    store.put(1, pixels(1))
    store.put(2, pixels(2))
    assert [store.has(i) for i in range(3)] == [True, False, False]
    assert store.full


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SnriseError, match=r"data\.cache: cannot keep pixels in .*: Not a directory; set data"):
        on_disk(tmp_path / "file")


def test_a_folder_cut_short_is_told(tmp_path):
    folder = on_disk(tmp_path).folder
    (folder / "pixels").write_bytes(b"")
    with pytest.raises(SnriseError, match="cannot keep pixels"):
        on_disk(tmp_path)
    shutil.rmtree(folder)
    assert not on_disk(tmp_path).has(0)


def test_home_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "snrise"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_home() == tmp_path / ".cache" / "snrise"
