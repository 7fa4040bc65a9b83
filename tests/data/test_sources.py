"""What every source promises, and the two that exist."""

import os
import pickle
import tarfile

import pytest
from PIL import Image

from snrise._errors import SnriseError
from snrise.data import Emoji, ImageFolder, Part, Shards, Source
from snrise.data.folder import suffixes

FORMATS = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]


def save(path, colour="red", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    for file in ("dog/b.png", "cat/deep/er/a.PNG", "cat/z.jpg", ".hidden/x.png", "cat/.y.png"):
        save(tmp_path / "pets" / file)
    (tmp_path / "pets" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


@pytest.fixture(params=["emoji", "folder", "unlabelled", "shards", "held out", "rest"])
def source(request, pets):
    match request.param:
        case "shards":
            with tarfile.open(pets / "pets.tar", "w") as shard:
                for name in ("dog/b.png", "cat/z.jpg"):
                    shard.add(pets / name, name)
            return Shards(pets / "pets.tar")
        case "emoji":
            return Emoji("subclass", only=("flags",))
        case "held out" | "rest":
            return Part(Emoji("class"), 5, held_out=request.param == "held out")
        case "folder":
            return ImageFolder(pets, "folders")
        case _:
            return ImageFolder(pets)


def test_every_source_keeps_the_contract(source):
    assert isinstance(source, Source)
    assert (source.labels is None) == (source.classes is None)
    if source.labels is not None:
        assert len(source.labels) == len(source)
        assert set(source.labels) == set(range(len(source.classes)))
        assert list(source.classes) == sorted(set(source.classes))
    names = [source.name(i) for i in range(len(source))]
    assert len(set(names)) == len(source) == len(list(names))
    assert source.read(len(source) - 1).load() is not None


def test_every_source_pickles_compares_and_repeats_its_fingerprint(source):
    source.fingerprint()
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert (copy.labels, copy.classes) == (source.labels, source.classes)
    assert repr(copy) == repr(source)
    assert copy.fingerprint() == source.fingerprint()
    assert len(pickle.dumps(source)) < 10_000


def test_emoji_counts():
    assert len(Emoji()) == 1852
    assert Emoji().labels is None
    assert len(Emoji("class").classes) == 9
    assert len(Emoji("subclass").classes) == 97
    food = Emoji("subclass", only=("food-drink",))
    assert len(food) == 128
    assert all(name.startswith(("food-", "drink", "dishware")) for name in food.classes)


def test_emoji_are_sorted_and_described():
    source = Emoji("class")
    keys = [source.name(i) for i in range(len(source))]
    assert keys == sorted(keys)
    unicorn = keys.index("1f984")
    assert source.caption(unicorn) == "unicorn"
    assert source.classes[source.labels[unicorn]] == "animals-nature"
    image = source.read(unicorn)
    assert (image.format, image.mode, image.size) == ("WEBP", "RGBA", (256, 256))


def test_emoji_fingerprints_tell_selections_apart():
    assert len({s.fingerprint() for s in (Emoji(), Emoji("class"), Emoji(None, ("flags",)), Emoji("subclass"))}) == 4


def test_emoji_licenses_ship_in_full():
    from importlib import resources

    text = (resources.files("snrise.data") / "builtin/LICENSES.md").read_text()
    assert text.count("Permission is hereby granted, free of charge") == 3
    for holder in ("Microsoft Corporation", "LobeHub", "Miles Johnson"):
        assert f"{holder}\n" in text


def test_folder_lists_nested_images_sorted_without_hidden_ones(pets):
    source = ImageFolder(pets)
    assert source.files == ("cat/deep/er/a.PNG", "cat/z.jpg", "dog/b.png")
    assert source.name(2) == str(pets / "dog" / "b.png")


@pytest.mark.parametrize("suffix", [*FORMATS, *(["avif"] if ".avif" in suffixes() else [])])
def test_folder_reads_each_format(tmp_path, suffix):
    save(tmp_path / f"a.{suffix}")
    save(tmp_path / "b.png").rename(tmp_path / f"b.{suffix.upper()}")
    source = ImageFolder(tmp_path)
    assert len(source) == 2
    r, g, b = source.read(0).convert("RGB").getpixel((4, 4))
    assert r > 245
    assert max(g, b) < 10


def test_folder_labels_are_its_first_folders(pets):
    source = ImageFolder(pets, "folders")
    assert source.classes == ("cat", "dog")
    assert source.labels == (0, 0, 1)


def test_folder_labels_from_csv(pets):
    table = pets / "labels.csv"
    table.write_text("\ufeffclass,id,file\nb,1,dog/b.png\n a ,2,./cat/z.jpg\nb,3,cat/deep/er/a.PNG\n", encoding="utf-8")
    source = ImageFolder(pets, table)
    assert source.classes == ("a", "b")
    assert source.labels == (1, 0, 1)


def test_folder_follows_links_but_not_in_circles(pets):
    (pets / "dog" / "up").symlink_to(pets)
    (pets / "bird").symlink_to(pets / "cat")
    assert ImageFolder(pets).files[:2] == ("bird/deep/er/a.PNG", "bird/z.jpg")
    assert len(ImageFolder(pets)) == 5


@pytest.mark.parametrize("change", ["content", "mtime", "name", "label"])
def test_folder_fingerprint_changes_with(pets, change):
    before = ImageFolder(pets, "folders").fingerprint()
    file = pets / "dog" / "b.png"
    stat = file.stat()
    match change:
        case "content":
            file.write_bytes(file.read_bytes() + b"\0")
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        case "mtime":
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        case "name":
            file.rename(pets / "dog" / "c.png")
        case "label":
            assert ImageFolder(pets).fingerprint() != before
            return
    assert ImageFolder(pets, "folders").fingerprint() != before


def test_folder_fingerprint_survives_a_move(pets):
    before = ImageFolder(pets, "folders").fingerprint()
    moved = pets.rename(pets.with_name("animals"))
    assert ImageFolder(moved, "folders").fingerprint() == before


def error(call):
    with pytest.raises(SnriseError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_emoji_errors():
    assert "Emoji.classes: no such label 'clas'; did you mean 'class'?" in error(lambda: Emoji("clas"))
    text = error(lambda: Emoji("class", only=("food-drinks",)))
    assert "Emoji.only: no such class of emoji 'food-drinks'; did you mean 'food-drink'?" in text


def test_folder_path_errors(pets):
    assert f"did you mean '{pets}'?" in error(lambda: ImageFolder(pets.with_name("pest")))
    assert "has nothing like it" in error(lambda: ImageFolder(pets.with_name("qqqqqq")))
    assert f"the path exists up to '{pets}'" in error(lambda: ImageFolder(pets / "a" / "b"))
    text = error(lambda: ImageFolder(pets / "notes.txt"))
    assert "allowed: a folder; give the folder it is in" in text


def test_folder_without_images(tmp_path):
    assert "the folder is empty" in error(lambda: ImageFolder(tmp_path))
    for name in ("a.TXT", "b.txt", "c"):
        (tmp_path / name).write_text("")
    text = error(lambda: ImageFolder(tmp_path))
    assert "no image among its files: .txt (2), no suffix (1)" in text
    assert ".jpeg .jpg .png" in text


def test_folder_class_errors(pets):
    save(pets / "loose.png")
    save(pets / "loose2.png")
    text = error(lambda: ImageFolder(pets, "folders"))
    assert f"{pets / 'loose.png'}" in text
    assert "move 'loose.png' and 1 more into a subfolder" in text
    assert "classes=None" in text


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("path,class\n", "got 'path,class'; allowed: a header line with the columns file,class; missing: file"),
        ("", "missing: file, class"),
        ("file,class\ncat/z.jpg,a\n", "got 'no row for cat/deep/er/a.PNG'"),
        ("file,class\ncat/z.jpg,a\n", "add rows for 'cat/deep/er/a.PNG' and 1 more"),
        ("file,class\nghost.png,a\n", "got 'ghost.png'"),
        ("file,class\nghost.png,a\n", "remove 'ghost.png' from the CSV"),
        ("file,class\ncat/z.jpg,\n", "a file and a class in each row; fill in line 2"),
        ("file,class\ncat/z.jpg\n", "fill in line 2"),
        ("file,class\ncat/z.jpg,a\ncat/z.jpg,b\n", "one row for each file; remove the second row, line 3"),
        ("file,class\ncat/z.jpg,\xff\n", "not a CSV in UTF-8"),
    ],
)
def test_csv_errors(pets, table, text):
    (pets / "labels.csv").write_text(table, encoding="latin-1")
    got = error(lambda: ImageFolder(pets, pets / "labels.csv"))
    assert got.startswith(f"ImageFolder.classes: {pets / 'labels.csv'}: ")
    assert text in got


def test_missing_csv(pets):
    assert "got 'No such file or directory'; allowed: 'folders', None, or a CSV" in error(
        lambda: ImageFolder(pets, "folder")
    )


def test_a_folder_that_cannot_be_listed_is_named(pets, monkeypatch):
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(SnriseError, match=r"^\S+pets/cat: cannot be listed: Permission denied; allow it, or m"):
        ImageFolder(pets)


def test_other_files_are_known(pets):
    assert ImageFolder(pets).ignored == ("notes.txt",)


@pytest.mark.parametrize("every", [2, 3, 7, 1852])
def test_parts_share_out_all_images(every):
    whole = Emoji("class")
    parts = [Part(whole, every, held_out=held_out) for held_out in (True, False)]
    names = [{part.name(i): part.labels[i] for i in range(len(part))} for part in parts]
    assert len(names[0]) == 1852 // every
    assert not names[0].keys() & names[1].keys()
    assert names[0] | names[1] == {whole.name(i): whole.labels[i] for i in range(1852)}
    assert parts[0].fingerprint() != parts[1].fingerprint() != whole.fingerprint()


def test_a_part_of_too_little():
    with pytest.raises(SnriseError, match=r"Part\.every: got 1; allowed: a whole number from 2 to the 1852 images$"):
        Part(Emoji(), 1, held_out=True)
