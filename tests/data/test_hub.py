"""Data sets of the library `datasets` as a source."""

import sys

import pytest
from PIL import Image

from snrise._errors import SnriseError
from snrise.data import Hub


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SnriseError, match=r"data.source=hub: needs the library datasets: pip install 'snrise\[hub\]'"):
        Hub("cats")


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({
        "image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"]), "text": datasets.Value("string"),
    })
    rows = {
        "image": [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")], "label": [1, 0, 1],
        "text": ["b", "a", "b"],
    }
    found = datasets.Dataset.from_dict(rows, features)
    found.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": found, "test": found.select([1])}).save_to_disk(tmp_path / "splits")
    return tmp_path


@pytest.mark.filterwarnings("default")
def test_a_saved_data_set(saved):
    source = Hub(saved / "one", "label")
    assert (source.labels, source.classes) == ((1, 0, 1), ("dog", "cat"))
    assert [source.read(i).getpixel((0, 0)) for i in range(3)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert source.name(2) == f"{saved}/one/train[2]"
    assert Hub(saved / "one", "text").classes == ("a", "b")
    assert Hub(saved / "one").labels is None
    assert source.fingerprint() == Hub(saved / "one", "label").fingerprint() != Hub(saved / "one").fingerprint()


@pytest.mark.filterwarnings("default")
def test_splits_and_mistakes(saved):
    assert len(Hub(saved / "splits", split="test")) == 1
    with pytest.raises(SnriseError, match="data.split: no such split 'tets'; did you mean 'test'?"):
        Hub(saved / "splits", split="tets")
    with pytest.raises(SnriseError, match="no such column 'img'; did you mean 'image'?"):
        Hub(saved / "one", column="img")
    with pytest.raises(SnriseError, match="no such column 'labels'; did you mean 'label'?"):
        Hub(saved / "one", "labels")
    with pytest.raises(SnriseError, match="data.path: datasets cannot load 'nobody/nothing'"):
        Hub("nobody/nothing")
