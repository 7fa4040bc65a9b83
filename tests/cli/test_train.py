"""`snrise train`: a run's folder, going on, and each of its errors."""

import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from snrise import cli
from snrise.config import parse
from snrise.runs import Pace, Run
from snrise.training import latest, read_header
from tiny import DOCUMENT, command, config, fails, objects, size_of

pytestmark = pytest.mark.usefixtures("beside_tiny_yaml")


def train(*arguments):
    return command("train", *arguments)


def weights(folder):
    return load_file(latest(folder / "checkpoints"))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log(folder):
    return objects(folder / "log.jsonl")


def test_a_dry_run_prints_whole_settings_and_trains_nothing(tmp_path):
    output = train("tiny.yaml", "training.batch=4", "seed=3", "--dry-run", "--out", "run")
    assert parse(yaml.safe_load(output)) == config("training.batch=4", "seed=3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.yaml"]


def told(*arguments):
    """What a dry run says of the settings, on standard error."""
    result = CliRunner().invoke(cli.app, ["train", *map(str, arguments), "--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr


def test_a_run_is_introduced():
    assert re.search(
        r"tiny: [\d,]+ images at 16x16 \(0\.\d MB, kept in memory\), 3 classes; 0\.\d M parameters; "
        r"batches of 4 on cpu in fp32\n", told("tiny.yaml", "training.batch=4"))


def test_the_schedule_is_diagnosed():
    assert "schedule: t = 1 is not yet noise" in told("tiny.yaml", "schedule.base={kind: cosine, logsnr_min: 3}")


def test_a_seed_is_an_option_too():
    assert yaml.safe_load(train("tiny.yaml", "--seed", 7, "--dry-run"))["seed"] == 7


def test_a_run_leaves_its_folder(tmp_path):
    output = train("tiny.yaml", "log.samples=24", "log.checkpoint=24", "log.keep=9", "--out", "runs/[red] mine")
    run = tmp_path / "runs" / "[red] mine"
    assert {p.relative_to(run).as_posix() for p in run.rglob("*.*")} == {
        ".lock", "config.yaml", "log.jsonl", "events.jsonl",
        *(f"checkpoints/{n:012d}.safetensors" for n in (24, 48, 64)), *(f"samples/{n:012d}.png" for n in (24, 48, 64)),
    }
    assert parse(yaml.safe_load((run / "config.yaml").read_text())) == config(
        "log.samples=24", "log.checkpoint=24", "log.keep=9")
    assert [line["images_seen"] for line in log(run)] == [16, 32, 48, 64]
    assert all(line["loss"] > 0 for line in log(run))
    header = read_header(latest(run / "checkpoints"))
    assert (header.step, header.images_seen) == (8, 64)
    assert parse(yaml.safe_load(header.config)) == parse(yaml.safe_load((run / "config.yaml").read_text()))
    assert header.extra["classes"] == ["activities", "flags", "symbols"]
    assert sum(header.extra["frequencies"]) == pytest.approx(1)
    # A grid of 4 pictures of 16 px, each pixel shown as 4×4, with 2 px between.
    assert size_of(run / "samples" / "000000000064.png") == (134, 134)
    assert f"done: {run.relative_to(tmp_path)}/samples/000000000064.png" in output
    assert "snrise sample runs/[red] mine" in output


def test_the_folder_has_the_runs_name(tmp_path):
    train("tiny.yaml", "name=other", "training.images=8")
    assert (tmp_path / "runs" / "other" / "log.jsonl").exists()


def test_going_on_at_another_resolution(tmp_path):
    train("tiny.yaml", "--out", "low", "schedule.reference=null")
    output = train("--from", "low", "--resolution", "32", "--out", "high", "network.stem=2", "training.images=8")
    (told,) = re.findall(r"beginning with the weights of low/checkpoints/0+64\.safetensors; as drawn: (.*)", output)
    assert told == "stem.enter.weight"
    settings = parse(yaml.safe_load((tmp_path / "high/config.yaml").read_text()))
    # The schedule was right at 16 px, so at 32 px it is shifted by a factor of 2.
    assert settings.schedule.reference == (16, 16)
    assert settings.schedule(settings.data.resolution).factor == 2
    low, high = weights(tmp_path / "low"), weights(tmp_path / "high")
    moved = {name: (high[name] - low[name]).abs().max() for name in low if name.startswith("ema.middle")}
    assert moved
    # One step of warm-up from the averaged weights, and not from new ones.
    assert max(moved.values()) < 1e-3
    # Once begun, the run is its own.
    assert "beginning" not in train("--from", "low", "--resolution", "32", "--out", "high", "network.stem=2",
                                    "training.images=16")


def test_a_recipe_may_begin_with_a_runs_weights(tmp_path):
    train("tiny.yaml", "training.images=8", "--out", "first")
    output = train("tiny.yaml", "--from", "first", "seed=7", "training.images=8", "--out", "second")
    told = r"beginning with the weights of first/checkpoints/0+8\.safetensors\n"
    assert re.search(told, output)
    assert re.search(told, train("tiny.yaml", "training.start=first", "training.images=8", "--out", "third"))


@pytest.mark.slow
def test_growing_by_an_octave(tmp_path):
    """The network of the run below becomes the inner one, weights and all; the outer level's bands are measured."""
    train("tiny.yaml", "--out", "low")
    grow = ("--from", "low", "--grow", "2", "--out", "high", "training.images=16", "training.optimizer=muon")
    output = train(*grow)
    assert "tiny-grown: 561 images at 32x32" in output
    settings = parse(yaml.safe_load((tmp_path / "high" / "config.yaml").read_text()))
    assert settings.network.inner == config().network
    assert settings.network.frozen
    assert max(settings.network.variances) < 0.2
    assert settings.schedule.reference == (64, 64)
    low, high = (weights(tmp_path / name) for name in ("low", "high"))
    inner = {name: value for name, value in high.items() if ".inner." in name and name.startswith("ema.")}
    assert inner
    for name, value in inner.items():
        assert torch.equal(value, low[name.replace(".inner.", ".")]), name
    # The same command again goes on; the nest samples and grows like any other run.
    assert "going on from 16 images" in train(*grow)
    command("sample", "high", "-n", 2, "--steps", 2, "--out", "grid.png")
    assert "as drawn" in train("--from", "high", "--grow", "2", "--out", "higher", "training.images=8")
    # Each level has a loss for its own bands.
    higher = parse(yaml.safe_load((tmp_path / "higher" / "config.yaml").read_text()))
    for run in (settings, higher):
        size = (sum(run.network.variances) / 3) ** 0.5
        assert run.loss.weighting.sigma_data == run.loss.levels.draw.factor == pytest.approx(size, rel=5e-3)
    assert max(higher.network.variances) != max(settings.network.variances)


def test_weights_of_another_network_do_not_fit(tmp_path, monkeypatch, capsys):
    train("tiny.yaml", "training.images=8", "--out", "first")
    vit = "network={kind: vit, width: 48, depth: 1, patch: 4, head: 16, bottleneck: 8, class_tokens: 0}"
    error = fails(monkeypatch, capsys, "train", "tiny.yaml", "--from", "first", vit, "--out", "second")
    assert re.fullmatch(r"training\.start: got 'first/checkpoints/0+8\.safetensors'; allowed: a checkpoint of a "
                        r"network with like parts; none of its weights fit", error)


def test_tensorboard(tmp_path):
    train("tiny.yaml", "log.tensorboard=true", "training.images=16", "--out", "run")
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert b"grad_norm" in events.read_bytes()


def test_samples_do_not_disturb_the_training(tmp_path):
    train("tiny.yaml", "--out", "plain")
    train("tiny.yaml", "log.samples=8", "log.checkpoint=8", "log.every=8", "--out", "watched")
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "watched"))


def test_a_longer_run_goes_on(tmp_path):
    fixed = ("tiny.yaml", "training.decay=0", "training.class_dropout=0.5")
    train(*fixed, "training.images=96", "--out", "straight")
    train(*fixed, "training.images=40", "--out", "run")
    output = train(*fixed, "training.images=96", "--out", "run")
    assert "going on from 40 images (run/checkpoints/000000000040.safetensors)" in output
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "straight"))
    assert [line["images_seen"] for line in log(tmp_path / "run")] == [16, 32, 40, 48, 64, 80, 96]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["images"] == 96


def test_a_finished_run_stays_as_it_is(tmp_path):
    train("tiny.yaml", "--out", "run")
    before, lines = weights(tmp_path / "run"), log(tmp_path / "run")
    assert "done:" in train("tiny.yaml", "--out", "run")
    assert equal(before, weights(tmp_path / "run"))
    assert log(tmp_path / "run") == lines


LONG = ("tiny.yaml", "training.images=800", "log.every=40", "training.decay=0.5", "data.flip=true")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "tiny.yaml").write_text(DOCUMENT)
    train(folder / "tiny.yaml", *LONG[1:], "--out", folder / "run")
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_by_a_signal_and_started_again_is_the_uninterrupted_one(tmp_path, uninterrupted, number):
    code = "import torch; torch.set_num_threads(1); from snrise.cli import main; main()"
    command = [sys.executable, "-c", code, "train", *LONG, "--out", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        journal = tmp_path / "run" / "log.jsonl"
        while process.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.005)
        process.send_signal(number)
        output, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (128 + number, "")
    assert "and saved; the same command goes on" in output
    assert 40 <= read_header(latest(tmp_path / "run" / "checkpoints")).images_seen < 800
    assert "going on from" in train(*LONG, "--out", "run")
    assert equal(weights(tmp_path / "run"), weights(uninterrupted))
    assert [line["images_seen"] for line in log(tmp_path / "run")] == list(range(40, 801, 40))


def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    """The first is answered at the next step; here that never comes."""
    raised = []

    def interrupted(run):
        yield from ()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                raised.append(number)
                raise

    monkeypatch.setattr(Run, "__iter__", interrupted)
    result = CliRunner().invoke(cli.app, ["train", "tiny.yaml", "--out", "run"])
    assert raised == [signal.SIGINT]
    assert result.exit_code == 130
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_two_runs_of_a_seed_are_the_same(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train("tiny.yaml", "--seed", seed, "--out", name)
        torch.manual_seed(seed)
    a, b, c = (tmp_path / name for name in "abc")
    assert equal(weights(a), weights(b))
    assert not equal(weights(a), weights(c))
    assert [line["loss"] for line in log(a)] == [line["loss"] for line in log(b)]
    assert (a / "samples" / "000000000064.png").read_bytes() == (b / "samples" / "000000000064.png").read_bytes()


def test_skipped_files_are_counted_at_the_end(photographs):
    (photographs / "sea" / "torn.png").write_bytes((photographs / "sea" / "b.png").read_bytes()[:99])
    output = train("tiny.yaml", "--data", photographs, "training.images=16", "--out", "run")
    assert "1 images could not be read and were skipped: run/skipped.txt" in output


def test_the_handlers_of_signals_are_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train("tiny.yaml", "training.images=8")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.fixture
def photographs(tmp_path):
    """Pictures of mixed sizes and formats in two folders."""
    def noise(mode, size, seed):
        shape = (size[1], size[0], len(Image.new(mode, (1, 1)).getbands()))
        pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        return Image.fromarray(pixels.squeeze(-1) if shape[2] == 1 else pixels, mode=mode)

    pictures = {"sea/a.jpg": ("RGB", (90, 60)), "sea/b.png": ("RGBA", (50, 80)), "sea/c.png": ("L", (33, 47)),
                "hill/d.jpg": ("CMYK", (64, 64)), "hill/e.webp": ("RGB", (40, 200)), "hill/f.JPG": ("RGB", (120, 70))}
    for i, (name, (mode, size)) in enumerate(pictures.items()):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6
        noise(mode, size, i).save(path, format="JPEG" if path.suffix == ".JPG" else None,
                                  **({"exif": exif} if name == "hill/f.JPG" else {}))
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("classes", [None, "folders"])
def test_a_folder_of_photographs(tmp_path, photographs, classes):
    arguments = () if classes is None else (f"data.classes={classes}",)
    output = train("tiny.yaml", "--data", photographs, "--resolution", "32x48", "training.images=8", "training.batch=4",
                   "log.samples=4", "--out", "run", *arguments)
    assert f"6 images at 32x48 (0.0 MB, kept in memory), {0 if classes is None else 2} classes" in output
    told = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (told["source"], told["path"], told["resolution"], told["classes"]) == (
        "folder", str(photographs), [32, 48], classes)
    assert "only" not in told
    for name in ("000000000004.png", "000000000008.png"):
        assert size_of(tmp_path / "run" / "samples" / name) == (2 * 50 + 2, 2 * 34 + 2)
    assert read_header(latest(tmp_path / "run" / "checkpoints")).extra["classes"] == (classes and ["hill", "sea"])


def test_shards_are_data_too(tmp_path, photographs):
    with tarfile.open(tmp_path / "photos.tar", "w") as shard:
        for name in ("sea/b.png", "hill/d.jpg"):
            shard.add(photographs / name, Path(name).name)
    output = train("--data", "photos.tar", "--dry-run", "network.levels=[{channels: 16, blocks: 1}]")
    told = yaml.safe_load(output)["data"]
    assert (told["source"], told["path"], told["classes"]) == ("shards", "photos.tar", None)
    assert "2 images at 16x16" in train("tiny.yaml", "--data", "photos.tar", "training.images=8", "--out", "run")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_a_folder_has_a_recipe_of_its_own(photographs):
    output = train("--data", photographs, "--dry-run", "network.levels=[{channels: 16, blocks: 1}]")
    assert "source: folder" in output
    assert "name: folder" in output


def test_emoji_by_name():
    with_path = DOCUMENT.replace("source: emoji", "source: folder, path: x")
    Path("folder.yaml").write_text(with_path)
    output = train("folder.yaml", "--data", "emoji", "--dry-run")
    assert "source: emoji" in output
    assert "path" not in output


@pytest.mark.parametrize(("change", "told"), [
    ("seed=1", "seed was 0, now 1"), ("training.optimizer=muon", "training.optimizer.kind was 'adamw', now 'muon'"),
    ("schedule.base={kind: linear_beta}", "schedule.base.kind was 'cosine', now 'linear_beta'"),
    ("network.levels.0.channels=32", "network.levels.0.channels was 16, now 32"),
    ("data.flip=true", "data.flip was False, now True"),
])
def test_other_settings_than_the_runs_are_refused(tmp_path, monkeypatch, capsys, change, told):
    train("tiny.yaml", "training.images=8", "--out", "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    error = fails(monkeypatch, capsys, "train", "tiny.yaml", "training.images=8", change, "--out", "run")
    assert error.startswith("run: holds a run with other settings; these may not change: ")
    assert told in error
    assert (tmp_path / "run" / "config.yaml").read_text() == before


@pytest.mark.parametrize("change", [
    "training.images=16", "log.grid=1", "sampling.steps=1", "training.learning_rate=1.0", "training.batch=4",
])
def test_some_settings_may_change(change):
    train("tiny.yaml", "training.images=8", "--out", "run")
    key, _, value = change.partition("=")
    output = train("tiny.yaml", "training.images=8", change, "--out", "run")
    assert re.search(rf"changed: {key} was \d\S*, now {value}", output)


ERRORS = [
    (["emoji-33"], "recipe: no such recipe or file 'emoji-33'; did you mean 'emoji-"),
    (["none.yaml"], "recipe: no such recipe or file 'none.yaml'"),
    (["tiny.yaml", "emoji-32"], "train: got ['tiny.yaml', 'emoji-32']; allowed: one recipe or config file"),
    (["tiny.yaml", "training.bach=3"], "config.training.bach: no such setting 'bach'; did you mean 'batch'?"),
    (["tiny.yaml", "training.batch=many"], "config.training.batch: got 'many'"),
    (["tiny.yaml", "training.batch=[1"], "config.training.batch: got '[1'; allowed: a YAML value"),
    (["tiny.yaml", "data=3"], "config.data: got 3"),
    (["tiny.yaml", "--resolution", "big"], "--resolution: got 'big'; allowed: a side in pixels, or HEIGHTxWIDTH"),
    (["tiny.yaml", "--resolution", "17"], "config.data.resolution: got '17x17'; allowed: sides that are multiples of"),
    (["tiny.yaml", "--data", "nowhere"], "ImageFolder.path: got 'nowhere'; allowed: an existing folder"),
    (["tiny.yaml", "--device", "gpu"], "--device: got 'gpu'; not usable here"),
    (["tiny.yaml", "--device", "meta"], "--device: got 'meta'; not usable here"),
    (["tiny.yaml", "training.class_dropout=2"], "config.training.class_dropout: got 2.0; allowed: a share in [0, 1]"),
    (["tiny.yaml", "training.batch=0"], "config.training.batch: got 0; allowed: a whole number above 0"),
    (["tiny.yaml", "--grow", "2"], "--grow: got 2; allowed: with --from, and no recipe beside it"),
    (["--from", "emoji-32", "--grow", "3"], "--grow: got 3; allowed: 2; grow an octave at a time"),
    (["tiny.yaml", "--budget", "soon"], "--budget: got 'soon'; allowed: a time; such as 90s, 10m or 2h"),
    (["tiny.yaml", "--budget", "9s", "training.images=8"],
     "train: got ['--budget', 'training.images=8']; allowed: --budget or training.images, not both"),
    (["tiny.yaml", "training.learning_rate=0"], "config.training.learning_rate: got 0"),
    (["tiny.yaml", "sampling.guidance=-1"], "config.sampling.guidance: got -1"),
    (["tiny.yaml", "loss.factors=[3]"],
     "config.loss.factors[0]: got 3; allowed: a divisor of the resolution 16x16; such as 2"),
    (["tiny.yaml", "--out", "tiny.yaml"], "--out: got 'tiny.yaml'; allowed: a run's folder"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=[" ".join(a) for a, _ in ERRORS])
def test_a_mistake_is_one_line(monkeypatch, capsys, arguments, message):
    assert fails(monkeypatch, capsys, "train", *arguments).startswith(message)


def test_a_broken_image_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    error = fails(monkeypatch, capsys, "train", "tiny.yaml", "--data", "photos", "--out", "run", "data.unreadable=stop")
    assert error.startswith("photos/a.png: cannot be read")
    error = fails(monkeypatch, capsys, "train", "tiny.yaml", "--data", "photos", "--out", "run")
    assert error.startswith("data: none of the 1 images can be read; the first: photos/a.png: cannot be read")


def test_a_broken_config_of_a_run_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("a: [1")
    assert fails(monkeypatch, capsys, "train", "tiny.yaml", "--out", "run").startswith("run/config.yaml: not YAML")


def test_a_broken_checkpoint_is_one_line(tmp_path, monkeypatch, capsys):
    train("tiny.yaml", "training.images=8", "--out", "run")
    path = latest(tmp_path / "run" / "checkpoints")
    path.write_bytes(path.read_bytes()[:-100])
    error = fails(monkeypatch, capsys, "train", "tiny.yaml", "training.images=8", "--out", "run")
    broken = f"{path.relative_to(tmp_path)}: not a whole checkpoint of snrise (SafetensorError)"
    assert error == f"run/checkpoints: no whole checkpoint: {broken}; remove them to start anew"


def test_debug_shows_the_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["snrise", "--debug", "train", "emoji-33"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "snrise._errors.SnriseError: recipe: no such recipe" in error


@pytest.mark.slow
def test_the_program_itself():
    command = [sys.executable, "-c", "from snrise.cli import main; main()", "train", "emoji-33"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"error: recipe: no such recipe or file 'emoji-33'; .*\n", result.stderr)


def paced(monkeypatch, rate=50.0, grid_seconds=1.0):
    """Measurements that find this speed, each with the images of its config."""
    found = []

    def measure(how, **_):
        found.append(how.images)
        return Pace(rate, grid_seconds, how.log.samples)

    monkeypatch.setattr(sys.modules["snrise.runs.starting"], "measure", measure)
    return found


def test_a_budget_becomes_a_number_of_images_that_the_config_keeps(tmp_path, monkeypatch):
    """The learning rate ends with the time: its length is that number, and a run that goes on keeps it."""
    measured = paced(monkeypatch)
    budget = ("tiny.yaml", "--budget", "3s", "log.samples=1000", "log.checkpoint=48", "--out", "run")
    output = train(*budget)
    # 2 of the 3 seconds are for images, at 1/50 + 1/1000 of a second each, in batches of 8.
    assert "88 images: about 3 s on this machine (50 images/s)" in output
    settings = parse(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))
    assert (settings.training.images, settings.training.warmup) == (88, 8)
    assert log(tmp_path / "run")[-1]["images_seen"] == 88
    whole = weights(tmp_path / "run")
    latest(tmp_path / "run" / "checkpoints").unlink()
    monkeypatch.setattr(sys.modules["snrise.runs.starting"], "measure", lambda *_, **__: pytest.fail("measured again"))
    output = train(*budget)
    assert "88 images" in output
    assert "changed" not in output
    assert equal(weights(tmp_path / "run"), whole)
    assert len(measured) == 1


@pytest.mark.slow
def test_a_run_is_told_how_long_it_takes_before_its_first_step(monkeypatch):
    paced(monkeypatch, rate=0.5)
    output = train("tiny.yaml", "training.images=640", "training.batch=8", "--out", "run", "log.samples=10000")
    assert "640 images: about 21 min on this machine (0.5 images/s); for a shorter run: --budget 10m\n" in output
    output = train("tiny.yaml", "training.images=1280", "training.batch=8", "--out", "run", "log.samples=10000")
    assert "640 of 1,280 images left: about 21 min on this machine (0.5 images/s)\n" in output


def test_a_run_of_few_steps_is_not_measured(monkeypatch):
    monkeypatch.setattr(sys.modules["snrise.runs.starting"], "measure", lambda *_, **__: pytest.fail("measured"))
    assert "\n64 images\n" in train("tiny.yaml", "--out", "run")
    train("tiny.yaml", "training.images=6400", "--dry-run")


def test_a_real_measurement_gives_a_run_of_the_time(tmp_path):
    train("tiny.yaml", "--budget", "1s", "--out", "run")
    images = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["images"]
    assert images >= 8
    assert images % 8 == 0
    assert log(tmp_path / "run")[-1]["images_seen"] == images


def test_a_dry_run_with_a_budget_tells_the_number_of_images(monkeypatch):
    paced(monkeypatch)
    printed = train("tiny.yaml", "--budget", "1m", "--dry-run", "log.samples=1000")
    assert yaml.safe_load(printed)["training"]["images"] == 2808


def test_products_that_are_emulated_are_warned_of(monkeypatch):
    monkeypatch.setattr(sys.modules["snrise.runs.starting"], "bf16_is_native", lambda device: False)
    line = "precision: bf16 is emulated on cpu, many times slower; training.precision=auto is not"
    assert line in told("tiny.yaml", "training.precision=bf16")
    assert "precision:" not in told("tiny.yaml", "training.precision=fp32")


def test_pixels_on_disk_are_told_of(tmp_path):
    output = told("tiny.yaml", "data.cache=disk", f"data.cache_folder={tmp_path / 'pixels'}")
    assert f"kept on disk, in {tmp_path / 'pixels'}; data.cache=none keeps nothing" in output
