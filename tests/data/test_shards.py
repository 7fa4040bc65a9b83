"""WebDataset shards as a source."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from snrise import data, experiment
from snrise._errors import SnriseError
from snrise.data import Shards
from tiny import config


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


def write(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            shard.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    write(tmp_path / "s" / "1.tar", {
        "a/x.png": png("red"), "a/x.cls": b"cat\n", "a/x.json": b'{"kind": 3}', "a/x.txt": b"a cat", "._y.png": b"",
    })
    write(tmp_path / "s" / "0.tar", {
        "y.seg.png": png("lime"), "y.cls": b"dog", "y.json": b'{"kind": 1}', "README": b"hello",
        "z.JPG": png("blue"), "z.cls": b"cat", "z.json": b'{"kind": 3}',
    })
    return tmp_path / "s"


@pytest.mark.parametrize("path", ["", "*.tar"])
def test_images_of_all_shards_in_order(shards, path):
    source = Shards(shards / path, "cls")
    assert [source.name(i) for i in range(3)] == [
        f"{shards}/0.tar:y.seg.png", f"{shards}/0.tar:z.JPG", f"{shards}/1.tar:a/x.png"]
    assert (source.labels, source.classes) == ((1, 0, 0), ("cat", "dog"))
    assert [source.read(i).getpixel((0, 0)) for i in range(3)] == [(0, 255, 0), (0, 0, 255), (255, 0, 0)]


def test_labels_of_the_json_or_none(shards):
    source = Shards(shards / "0.tar", "kind")
    assert (source.labels, source.classes) == ((0, 1), ("1", "3"))
    assert Shards(shards).labels is Shards(shards).classes is None


def test_the_emoji_are_a_shard(tmp_path):
    shard = shutil.copy(Path(data.__file__).parent / "builtin" / "fluent-emoji-3d.tar", tmp_path)
    source = Shards(shard, "class")
    assert (len(source), len(source.classes)) == (1852, 9)
    assert source.read(100).size == (256, 256)


def test_the_fingerprint_is_that_of_the_files_and_labels(shards):
    before = Shards(shards).fingerprint()
    assert before == Shards(shards / "*.tar").fingerprint()
    assert before != Shards(shards, "cls").fingerprint()
    write(shards / "1.tar", {"a.png": png("red")})
    assert before != Shards(shards).fingerprint()


@pytest.mark.parametrize(("members", "by", "told"), [
    ({"a.txt": b""}, None, "no image in 1 shards"),
    ({"a.png": png("red")}, "cls", "0.tar:a.cls: got 'no such member'; allowed: a label for every image"),
    ({"a.png": png("red"), "a.json": b"{}"}, "kind", "0.tar:a.json: got \"no entry 'kind'\"; allowed: one of its entr"),
    ({"a.png": png("red"), "a.json": b"["}, "kind", "0.tar:a.json: got \"no entry 'kind'\"; allowed: one of its entr"),
    ({"a.png": png("red"), "a.json": b"[1]"}, "kind", "0.tar:a.json: got \"no entry 'kind'\"; allowed: one of its"),
])
def test_what_is_missing_is_named(tmp_path, members, by, told):
    write(tmp_path / "0.tar", members)
    with pytest.raises(SnriseError) as error:
        Shards(tmp_path, by)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_no_shards_and_broken_shards(tmp_path, shards):
    with pytest.raises(SnriseError, match="allowed: a tar file, a pattern such as"):
        Shards(tmp_path / "none-*.tar")
    for content in (b"nonsense" * 100, (shards / "0.tar").read_bytes()[:700]):
        (tmp_path / "bad.tar").write_bytes(content)
        with pytest.raises(SnriseError, match=r"(bad\.tar: cannot be read: not a whole, uncompressed tar|no image in)"):
            Shards(tmp_path / "bad.tar")


def test_a_config_names_them(shards):
    settings = config("data.source=shards", f"data.path={shards}", "data.classes=cls", "data.only=[]")
    batch = next(experiment.dataset(settings).batches(4, seed=0))
    assert batch.images.shape == (4, 3, 16, 16)
    assert set(batch.labels.tolist()) == {0, 1}
