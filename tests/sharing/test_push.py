"""What is uploaded of a run: weights, settings that tell no folders, a card that says what is true."""

import json
import re

import numpy as np
import pytest
import yaml
from PIL import Image

import snrise
from coded import latent, saved
from snrise.codecs import Autoencoder
from snrise.config import parse
from snrise.documents import read_document
from snrise.encoding import with_measured_codes
from snrise.plots import sample_grid
from snrise.runs.gallery import origin_of
from snrise.sharing import About, Parcel, pack, shared_settings
from snrise.trained import saved as header_of
from tiny import command, config, fails, pixels, saved_run

FLAGS = ["activities", "flags", "symbols"]
FILES = ["README.md", "config.yaml", "samples.png", "schedule.png", "snrise.safetensors"]


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch):
    """A run of three classes in a folder to work in."""
    monkeypatch.chdir(tmp_path)
    private = ("data.cache_folder=/home/me/cache", "training.start=/home/me/a/0.pt")
    return saved_run(tmp_path / "run", config(*private), FLAGS)


def packed(run, folder, **options):
    return pack(run, folder, Parcel(about=About(name="hub:me/flags", pictures=4), **options))


def said_of(folder):
    """The model card without its head."""
    return (folder / "README.md").read_text().split("---\n", 2)[2]


def test_what_is_written_without_uploading(tmp_path):
    told = command("push", "run", "me/flags", "--out", "parcel", "-n", 4, "--licence", "mit", "--data", "Mine, CC0.")
    assert told == "what hub:me/flags would hold: parcel; nothing is uploaded\n"
    assert sorted(file.name for file in (tmp_path / "parcel").iterdir()) == FILES
    head, body = re.fullmatch(r"---\n(.*?)---\n(.*)", (tmp_path / "parcel" / "README.md").read_text(), re.S).groups()
    assert yaml.safe_load(head) == {
        "library_name": "snrise", "pipeline_tag": "unconditional-image-generation", "license": "mit",
        "tags": ["snrise", "diffusion", "image-generation"],
    }
    assert set(re.findall(r"\]\(([^)]+)\)", body)) == {"samples.png", "schedule.png", "config.yaml"}
    for said in ("Mine, CC0.", "Classes: activities, flags, symbols.", "Not measured yet.", "`0.pt`", "16×16 px"):
        assert said in body


def test_its_samples_are_those_of_its_weights(tmp_path):
    command("push", "run", "me/flags", "--out", "parcel", "-n", 4)
    command("sample", "parcel/snrise.safetensors", "-n", 4, "--out", "again.png")
    assert (pixels("parcel/samples.png") == pixels("again.png")).all()
    assert origin_of(tmp_path / "parcel" / "samples.png") == origin_of(tmp_path / "again.png")


def test_exported_weights_and_their_copies_are_the_same(tmp_path):
    """What a repository holds may be pushed again: nothing changes but the name on its card."""
    command("export", "run", "--out", "a.safetensors")
    first = packed(tmp_path / "a.safetensors", tmp_path / "b")
    again = packed(tmp_path / "b" / "snrise.safetensors", tmp_path / "c")
    assert first.fingerprint == again.fingerprint
    files = [tmp_path / name for name in ("a.safetensors", "b/snrise.safetensors", "c/snrise.safetensors")]
    assert len({header_of(file)[0].extra["exported_from"] for file in files}) == 1


def test_settings_tell_no_folder_of_this_machine(tmp_path, run):
    packed(run, tmp_path / "parcel")
    for file in (tmp_path / "parcel").iterdir():
        for secret in (b"/home/me", str(tmp_path).encode()):
            assert secret not in file.read_bytes(), file
    shared = parse(read_document(str(tmp_path / "parcel" / "config.yaml")))
    assert shared == shared_settings(config("training.start=0.pt"), "hub:me/flags")
    assert shared == header_of(tmp_path / "parcel" / "snrise.safetensors")[1]


@pytest.mark.parametrize(("path", "kept"), [
    ("/data/mine/photos", "photos"), ("../photos", "photos"), ("here/photos", "photos"),
    ("elsewhere/photos", "elsewhere/photos"),
])
def test_of_the_data_the_last_word_is_told(tmp_path, path, kept):
    (tmp_path / "here" / "photos").mkdir(parents=True)
    settings = config("data={source: folder, path: X, resolution: [16, 16]}", f"data.path={path}")
    assert shared_settings(settings, "hub:me/a").data.source.path == kept


@pytest.mark.parametrize(("start", "kept"), [
    ("emoji-32", "emoji-32"), ("hub:a/b@c", "hub:a/b@c"), ("runs/a/0.safetensors", "0.safetensors"),
])
def test_what_a_run_was_begun_from_is_told(start, kept):
    assert shared_settings(config(f"training.start={start}"), "hub:me/a").training.start == kept


def test_a_report_beside_the_run_is_on_the_card(tmp_path, run):
    report = {"images_seen": 8, "samples": 500,
              "references": 1852, "features": "pooled", "FD-pooled": 12.345, "FD-pooled error": 0.5,
              "recall": 0.25, "size": [16, 16], "decibels": {"a": 1.0}, "cautions": ["few samples"]}
    (tmp_path / "run-evaluation").mkdir()
    (tmp_path / "run-evaluation" / "metrics.json").write_text(json.dumps(report))
    packed(run, tmp_path / "parcel")
    told = ("| FD-pooled | 12.35 ± 0.5 |", "| recall | 0.25 |", "500 samples beside 1,852 images",
            "Caution: few samples")
    for said in told:
        assert said in said_of(tmp_path / "parcel")
    assert json.loads((tmp_path / "parcel" / "metrics.json").read_text()) == report
    (tmp_path / "run-evaluation" / "metrics.json").write_text(json.dumps(report | {"images_seen": 4}))
    packed(run, tmp_path / "later")
    assert "Not measured yet." in said_of(tmp_path / "later")
    assert not (tmp_path / "later" / "metrics.json").exists()


def test_the_folder_that_one_is_in_may_be_pushed(tmp_path, run, monkeypatch):
    monkeypatch.chdir(run)
    command("push", ".", "me/flags", "--out", tmp_path / "parcel", "-n", 1)
    assert sorted(file.name for file in (tmp_path / "parcel").iterdir()) == FILES


def test_the_pipeline_of_diffusers_goes_along(tmp_path, run):
    pytest.importorskip("diffusers")
    packed(run, tmp_path / "parcel", pipeline=True)
    files = sorted([*FILES, "model_index.json", "pipeline.py", "unet"])
    assert sorted(file.name for file in (tmp_path / "parcel").iterdir()) == files
    pipeline = snrise.interop.SnrisePipeline.from_pretrained(tmp_path / "parcel")
    pipeline.set_progress_bar_config(disable=True)
    assert [image.size for image in pipeline(1, classes=["flags"], seed=4).images] == [(16, 16)]
    said = 'DiffusionPipeline.from_pretrained("me/flags", trust_remote_code=True)'
    assert said in said_of(tmp_path / "parcel")


@pytest.fixture
def on_codes(tmp_path):
    pytest.importorskip("diffusers")
    settings = latent(saved(tmp_path / "codec"), "training.batch=4")
    measured = with_measured_codes(settings)
    return saved_run(tmp_path / "on-codes", measured, None)


def test_a_codec_goes_along(tmp_path, on_codes):
    """Byte for byte, or its weights would not be those that the settings ask for."""
    packed(on_codes, tmp_path / "parcel")
    shared = parse(read_document(str(tmp_path / "parcel" / "config.yaml")))
    assert shared.codec.path == "hub:me/flags/codec"
    assert shared.codec.weights == Autoencoder(path=str(tmp_path / "parcel" / "codec")).fingerprint()
    with Image.open(tmp_path / "parcel" / "samples.png") as picture:
        assert picture.width > 4 * 32
    assert "Diffusion on codes of an autoencoder, 32×32 px" in said_of(tmp_path / "parcel")


def test_a_pipeline_of_codes_goes_along(tmp_path, on_codes):
    packed(on_codes, tmp_path / "parcel", pipeline=True)
    pipeline = snrise.interop.SnrisePipeline.from_pretrained(tmp_path / "parcel")
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(4, output_type="pt").images
    assert (np.asarray(sample_grid(found)) == pixels(tmp_path / "parcel" / "samples.png")).all()


def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    told = fails(monkeypatch, capsys, "push", "run", "me/flags", "--out", "full")
    assert told.startswith("--out: got 'full'; allowed: a folder that is not there yet")
    assert fails(monkeypatch, capsys, "push", "run", "flags").startswith("hub: got 'hub:flags'; allowed: hub:USER/NAME")
    assert "no checkpoint" in fails(monkeypatch, capsys, "push", "no-run", "me/flags", "--out", "new")
    (tmp_path / "run-evaluation").mkdir()
    (tmp_path / "run-evaluation" / "metrics.json").write_text("{")
    assert "not JSON" in fails(monkeypatch, capsys, "push", "run", "me/flags", "--out", "newer")
