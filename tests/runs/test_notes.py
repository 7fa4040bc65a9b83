"""What is said of the data before training."""

import pytest
from PIL import Image

from snrise.data import Dataset, ImageFolder, Preprocess
from snrise.runs import notes


def folder(path, **sizes):
    for name, size in sizes.items():
        file = path / name.replace("_", "/")
        file.with_suffix(".png").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(file.with_suffix(".png"))
    return path


def said(path, classes=None, **options):
    return list(notes(Dataset(ImageFolder(path, classes), Preprocess((16, 16), **options))))


def test_what_a_user_should_know_is_told(tmp_path):
    folder(tmp_path, cat_a=(20, 20), cat_b=(16, 16), cat_c=(15, 40), dog_a=(40, 15), ant_a=(99, 99))
    for name in ("cat/x.heic", "cat/y.exr", "z.HEIC", "README"):
        (tmp_path / name).touch()
    assert said(tmp_path, "folders") == [
        f"4 files in {tmp_path} are not read as images: .heic (2), no suffix (1), .exr (1)",
        "of 5 images looked at, 2 are smaller than 16x16: they are enlarged; data.upscale=false leaves them out",
        "2 of 3 classes have a single image: ant, dog",
    ]
    assert said(tmp_path, upscale=False)[1] == "of 5 images looked at, 2 are smaller than 16x16: they are refused"


def test_nothing_is_said_of_what_is_well(tmp_path):
    folder(tmp_path, cat_a=(20, 20), cat_b=(16, 16))
    assert said(tmp_path, "folders") == []


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_broken_files_are_told_in_their_turn(tmp_path, content):
    folder(tmp_path, a=(20, 20))
    (tmp_path / "b.png").write_bytes(content)
    assert said(tmp_path) == []
