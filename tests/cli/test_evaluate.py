"""`snrise evaluate`: a report on a run or a folder, and each of its errors."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from snrise import experiment, trained
from snrise.data import ImageFolder
from snrise.metrics import FEATURES, kernel_distance
from tiny import DOCUMENT, POOLED, command, config, fails


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with held-out images, and a folder of pictures."""
    path = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        (path / "tiny.yaml").write_text(DOCUMENT)
        command("train", "tiny.yaml", "data.hold_out=10", "training.images=16", "--out", "run")
    dataset = experiment.dataset(config())
    (path / "pictures").mkdir()
    for i, image in enumerate(dataset.images(range(0, 240, 10))):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path / "pictures" / f"{i:02}.png")
    return path


@pytest.fixture(autouse=True)
def in_a_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setitem(FEATURES, "pooled", POOLED)


def evaluate(*arguments):
    output = command("evaluate", *arguments, "--features", "pooled", "--out", "report")
    return output, json.loads(Path("report/metrics.json").read_text())


def test_a_run_is_judged_by_its_own_data_and_what_it_has_not_seen():
    output, found = evaluate("run", "-n", 24, "--held-out", 8, "sampling.steps=3")
    assert (found["run"], found["images_seen"], found["samples"], found["references"]) == ("tiny", 16, 24, 505)
    assert found["unseen"]["images"] == 8
    assert found["unseen"]["logsnrs"][0] == -9
    assert 0 < found["unseen"]["eps_loss"][3] < 2
    assert found["unseen"]["bits_per_dimension"] > 0
    for text in ("24 samples beside 505 images", "KID-pooled", "that the run has not seen", "bits per dimension"):
        assert text in output
    for name in ("spectrum.png", "nearest.png"):
        with Image.open(f"report/{name}") as picture:
            assert min(picture.size) > 100


def test_the_exact_likelihood_stands_beside_the_bound():
    output, report = evaluate("run", "-n", 8, "--held-out", 3, "--likelihood", "sampling.steps=1")
    unseen = report["unseen"]
    assert (unseen["flow_images"], unseen["flow_steps"]) == (3, 24)
    assert f"{unseen['flow_bits_per_dimension']:.4f} ± {unseen['flow_bits_per_dimension_error']:.4f} bits per" in output
    assert unseen["flow_bits_per_dimension"] == pytest.approx(unseen["bits_per_dimension"], rel=0.2)


def test_the_settings_of_sampling_count(monkeypatch):
    steps = []
    generate = trained.generate

    def noted(how, *rest, **more):
        steps.append(how.sampling.steps)
        return generate(how, *rest, **more)

    monkeypatch.setattr(trained, "generate", noted)
    evaluate("run", "-n", 8, "--held-out", 2, "sampling.steps=4")
    assert steps == [4]


@pytest.mark.slow
@pytest.mark.parametrize("how", [["sampling.upsample=2"], ["--resolution", "32"]])
def test_larger_pictures_than_trained_are_compared_with_larger_images(tmp_path, how):
    few = ("-n", 24, "--held-out", 2, "--seed", 3)
    command("sample", "run", *few[:2], *few[4:], *how, "--batch", 24, "--out", tmp_path)
    _, found = evaluate("run", *few, *how, "--batch", 24)
    _, folder = evaluate(tmp_path, "--reference", "built-in")
    assert (found["size"], found["references"]) == ([32, 32], 505)
    assert found["unseen"]["images"] == 2
    _, mine = evaluate("run", *few, *how, "--batch", 24, "--reference", "built-in")
    for name in ("KID-pooled", "FD-pooled"):
        assert_close(mine[name], folder[name])


def test_a_folder_is_judged_by_a_reference():
    _, found = evaluate("pictures", "--reference", "pictures")
    assert (found["folder"], found["samples"], found["size"]) == ("pictures", 24, [16, 16])
    assert abs(found["FD-pooled"]) < 1e-6
    assert "unseen" not in found
    _, other = evaluate("pictures", "--reference", "built-in", "-n", 10, "--resolution", "32")
    assert (other["samples"], other["references"], other["size"]) == (10, 1852, [32, 32])
    assert other["FD-pooled"] > 0.01


def test_a_folders_numbers_are_those_of_its_pictures():
    _, found = evaluate("pictures", "--reference", "built-in", "--limit", 100)
    mine = torch.stack([torch.frombuffer(bytearray(ImageFolder("pictures").read(i).tobytes()), dtype=torch.uint8)
                        .reshape(16, 16, 3).permute(2, 0, 1) for i in range(24)])
    dataset = experiment.dataset(config("data={source: emoji, resolution: [16, 16]}"))
    theirs = dataset.images(range(0, 1852, 19))
    assert_close(found["KID-pooled"], kernel_distance(POOLED(mine), POOLED(theirs)).value)


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "--features", "inception"], "--features: no such features 'inception'; did you mean 'inception-v3'?"),
    (["pictures"], "--reference: got None; allowed: a folder of images, or built-in, to compare pictures with"),
    (["pictures", "sampling.steps=3"], "KEY=VALUE: got ['sampling.steps=3']; allowed: nothing: this is a folder of"),
    (["pictures", "--validation", "built-in"], "--validation: got 'built-in'; allowed: nothing: this is a folder of"),
    (["pictures", "--likelihood"], "--likelihood: got True; allowed: nothing: this is a folder of"),
    (["run", "training.batch=3"], "settings: got 'training.batch=3'; allowed: sampling.key=value"),
    (["run", "sampling.step=3"], "config.sampling.step: no such setting 'step'; did you mean 'steps'?"),
    (["nothing", "--reference", "built-in"], "ImageFolder.path: got 'nothing'; allowed: an existing folder"),
])
def test_a_mistake_is_one_line(monkeypatch, capsys, arguments, message):
    assert fails(monkeypatch, capsys, "evaluate", *arguments).startswith(message)


def test_pictures_of_several_sizes(tmp_path, monkeypatch, capsys):
    for side in (16, 20):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    error = fails(monkeypatch, capsys, "evaluate", tmp_path, "--reference", "built-in")
    assert error == f"{tmp_path / '20.png'}: not 16x16 as {tmp_path / '16.png'}; give --resolution"
