"""Pictures by number in a folder: made once, gone on with after any interruption, and each says how it was made."""

import dataclasses
import json
import multiprocessing
import random
import shutil
import time

import pytest
import torch
from PIL import Image

from snrise import experiment
from snrise._errors import SnriseError
from snrise.files import held
from snrise.runs import gallery as module
from snrise.runs.gallery import SETTINGS, Gallery, as_png, command_of, origin_of
from snrise.trained import Trained
from tiny import config, perturbed

NAMES = ("activities", "flags", "symbols")
BATCH = 4


def made(*overrides, classes=NAMES, **fields):
    settings = config(*overrides, *(() if classes else ("data.classes=null",)))
    model = perturbed(experiment.network(settings, len(classes) if classes else None))
    trained = Trained(
        config=settings, network=model, images_seen=8, fingerprint="0123", classes=classes,
        frequencies=(0.5, 0.25, 0.25) if classes else None,
    )
    return Gallery(trained=trained, **fields)


def fill(gallery, folder, count, first=0):
    return list(gallery.fill(folder, range(first, first + count), BATCH))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".json")}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a job of 10 pictures that was not interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    assert fill(made(seed=3), folder, 10) == [0, 4, 8, 10]
    return folder


def test_a_batch_is_written_before_the_next_is_made(tmp_path):
    for done in made(seed=3).fill(tmp_path, range(10), BATCH):
        assert len(list(tmp_path.glob("*.png"))) == done


def test_pictures_are_those_of_their_numbers(straight):
    gallery = made(seed=3)
    drawn = torch.cat(list(gallery.draw(range(10), BATCH)))
    for i, image in enumerate(drawn):
        with Image.open(straight / f"{i:06d}.png") as picture:
            assert picture.tobytes() == image.permute(1, 2, 0).numpy().tobytes()
    assert torch.equal(gallery.labels(range(5, 9)), gallery.labels(range(100))[5:9])
    assert (torch.cat(list(gallery.draw(range(5, 9), BATCH))).int() - drawn[5:9].int()).abs().max() <= 1
    assert made(classes=None).labels(range(3)) is None


def test_chosen_classes_take_turns():
    assert dataclasses.replace(made(), classes=("symbols", "flags")).labels(range(3, 6)).tolist() == [1, 2, 1]


@pytest.mark.parametrize("failing", [0, 1, 3, 4, 6, 9])
def test_an_interrupted_job_ends_as_one_that_was_not(straight, tmp_path, monkeypatch, failing):
    written = []

    def fail(path, content):
        if path.name == f"{failing:06d}.png":
            raise KeyboardInterrupt
        write(path, content)

    def note(path, content):
        written.append(path)
        write(path, content)

    write = module.write_atomically
    monkeypatch.setattr(module, "write_atomically", fail)
    with pytest.raises(KeyboardInterrupt):
        fill(made(seed=3), tmp_path, 10)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert failing // BATCH * BATCH <= len(before) < 10
    monkeypatch.setattr(module, "write_atomically", note)
    assert fill(made(seed=3), tmp_path, 10)[0] == len(before)
    assert len(written) == 10 - len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(tmp_path) == contents(straight)


def test_a_finished_job_computes_nothing(straight, monkeypatch):
    monkeypatch.setattr(module, "generate", None)
    assert fill(made(seed=3), straight, 10) == [10]
    assert fill(made(seed=3), straight, 3, first=4) == [3]


def test_a_picture_that_is_not_whole_or_missing_is_made_again(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "job")
    (tmp_path / "job" / "000002.png").write_bytes((straight / "000002.png").read_bytes()[:-1])
    (tmp_path / "job" / "000005.png").write_bytes(b"")
    (tmp_path / "job" / "000009.png").unlink()
    assert fill(made(seed=3), tmp_path / "job", 10) == [7, 8, 9, 10]
    assert contents(tmp_path / "job") == contents(straight)


def test_more_pictures_go_on(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "job")
    assert fill(made(seed=3), tmp_path / "job", 14) == [10, 12, 14]
    assert contents(tmp_path / "job").items() >= contents(straight).items()
    fill(made(seed=3), tmp_path / "whole", 14)
    labels = {name: origin_of(tmp_path / name / "000013.png")["class"] for name in ("job", "whole")}
    assert labels["job"] == labels["whole"]
    assert (tmp_path / "job" / "000013.png").read_bytes() == (tmp_path / "whole" / "000013.png").read_bytes()


def test_what_differs_is_named(straight):
    for gallery, told in (
        (made("sampling.steps=3", seed=3), "sampling.steps was 2, now 3"),
        (made("sampling.guidance=2", seed=3, classes=NAMES), "sampling.guidance was 1.0, now 2.0"),
        (made(seed=4), "seed was 3, now 4"),
        (dataclasses.replace(made(seed=3), classes=("flags",)), "classes was None, now ['flags']"),
    ):
        with pytest.raises(SnriseError) as error:
            fill(gallery, straight, 10)
        assert str(error.value) == (
            f"{straight}: holds pictures that were made otherwise: {told}; choose another --out")
    other = made(seed=3)
    other = dataclasses.replace(other, trained=dataclasses.replace(other.trained, fingerprint="4567"))
    with pytest.raises(SnriseError, match=r"otherwise: run\.weights was '0123', now '4567'; choose"):
        fill(other, straight, 10)


def test_pictures_from_elsewhere_are_left_alone(tmp_path):
    (tmp_path / "000003.png").write_bytes(b"mine")
    with pytest.raises(SnriseError, match=r"holds 000003\.png, and no sampling\.json says how it was made; choose an"):
        fill(made(), tmp_path, 5)
    assert (tmp_path / "000003.png").read_bytes() == b"mine"
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(SnriseError, match=r"sampling\.json: not JSON: .*; choose another --out"):
        fill(made(), tmp_path, 5)


def test_two_processes_cannot_fill_one_folder(tmp_path):
    with held(tmp_path), pytest.raises(SnriseError, match="another process is at work here"):
        fill(made(), tmp_path, 5)


def test_a_picture_says_how_it_was_made(straight):
    origin = origin_of(straight / "000006.png")
    gallery = made(seed=3)
    assert origin["number"] == 6
    assert origin["class"] == NAMES[int(gallery.labels(range(6, 7)))]
    assert origin["run"] == {"name": "tiny", "images_seen": 8, "weights": "0123"}
    assert (origin["seed"], origin["resolution"], origin["sampling"]["steps"]) == (3, [16, 16], 2)
    assert origin["made_with"]["device"] == "cpu"
    told = json.loads((straight / SETTINGS).read_text())
    assert {name: origin[name] for name in told if name != "classes"} | {"classes": None} == told
    with Image.open(straight / "000006.png") as picture:
        assert picture.text["Software"].startswith("snrise ")


def test_any_name_survives(tmp_path):
    (tmp_path / "a.png").write_bytes(as_png(torch.zeros(3, 2, 2, dtype=torch.uint8), {"class": "café ✓ \"x\""}))
    assert origin_of(tmp_path / "a.png") == {"class": "café ✓ \"x\""}


def test_pictures_that_say_nothing(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "jpeg.png", "JPEG")
    (tmp_path / "torn.png").write_bytes(as_png(torch.zeros(3, 2, 2, dtype=torch.uint8), {})[:60])
    for name in ("plain.png", "jpeg.png", "torn.png"):
        with pytest.raises(SnriseError, match=rf"{name}: says nothing of how it was made \(.*\); is it a PNG"):
            origin_of(tmp_path / name)
    with pytest.raises(SnriseError, match="got 'no such file'; allowed: a picture of snrise sample"):
        origin_of(tmp_path / "none.png")


def test_the_command_of_a_grid_on_another_schedule():
    gallery = made(classes=None, seed=2)
    base = {"kind": "cosine", "logsnr_max": 9.0}
    origin = {"numbers": [4, 7], "classes": ["a b", "c"]} | {k: v for k, v in gallery.settings().items()
                                                          if k != "classes"}
    origin |= {"schedule": {"base": base, "reference": None}, "sampling": {"steps": 3}, "states": 2}
    assert command_of(origin) == (
        "snrise sample RUN -n 4 --first 4 --seed 2 --class 'a b' --class c --resolution 16x16 --states states.png "
        "--schedule '{\"kind\": \"cosine\", \"logsnr_max\": 9.0}' sampling.steps=3")


def fill_apart(folder, count):
    """A job in a process of its own."""
    torch.set_num_threads(1)
    fill(made("sampling.steps=1", seed=5), folder, count)


@pytest.mark.slow
@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_job_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    context, count, draw = multiprocessing.get_context("forkserver"), 160, random.Random()
    context.set_forkserver_preload(["tiny", "snrise.runs.gallery"])
    job = tmp_path / "killed"
    for _ in range(6):
        process = context.Process(target=fill_apart, args=(job, count))
        before = len(list(job.glob("0*.png")))
        process.start()
        until = time.monotonic() + 60
        while len(list(job.glob("0*.png"))) < min(before + 8, count) and time.monotonic() < until:
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join()
    fill_apart(job, count)
    fill_apart(tmp_path / "straight", count)
    assert contents(job) == contents(tmp_path / "straight")
    assert len(contents(job)) == count + 1
    assert not list(job.glob(".*.tmp"))
