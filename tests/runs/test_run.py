"""A run in its folder: what it writes, and what it does when things break."""

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from snrise._errors import SnriseError
from snrise.checkpoint import checkpoints, latest
from snrise.data import to_float
from snrise.experiment import Experiment
from snrise.runs import Run, summarize
from tiny import comparable, config, objects


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def opened(folder, *overrides, tell=lambda line: None):
    return Run(Experiment.of(config(*overrides)), folder, tell)


class Spoilt:
    """A run's data, with images that are not a number at some positions of the stream."""

    def __init__(self, dataset, *positions):
        self.dataset, self.positions = dataset, positions

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def batches(self, batch, seed, position=0):
        for got in self.dataset.batches(batch, seed, position):
            if got.position in self.positions:
                got = got._replace(images=to_float(got.images))
                got.images[1] = torch.nan
            yield got


def faulty(folder, *overrides, at=(16,), tell=lambda line: None):
    run = opened(folder, "log.every=8", "log.checkpoint=8", "log.keep=9", *overrides, tell=tell)
    run.data = Spoilt(run.data, *at)
    return run


def test_a_dropped_step_is_told_with_its_files_and_the_run_goes_on(tmp_path):
    told = []
    with faulty(tmp_path / "run", tell=told.append) as run:
        reports = list(run)
        run.save()
    assert (run.state.images_seen, run.state.position, run.state.faults) == (64, 72, 1)
    (event,) = objects(tmp_path / "run" / "events.jsonl")
    assert (event["event"], event["step"], event["images_seen"], event["position"]) == ("fault", 2, 16, 24)
    assert (event["loss"], event["action"], event["where"]) == ("nan", "skip", "output of stem.enter (Conv2d)")
    names = [run.data.name(i) for i in reports[2].indices]
    assert sorted(image["name"] for image in event["images"]) == sorted(names)
    assert event["images"][0]["name"] == names[1]
    assert event["images"][0]["eps_loss"] == "nan"
    assert all(isinstance(image["logsnr"], float) for image in event["images"])
    assert len(told) == 1
    assert told[0].startswith("step dropped: loss or gradient not finite after 16 images, step 2: output of stem.ent")
    assert [line["faults"] for line in objects(tmp_path / "run" / "log.jsonl")] == [0, 0, *[1] * 6]


def test_stop_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with faulty(tmp_path / "run", "training.on_fault=stop") as run, pytest.raises(SnriseError) as error:
        list(run)
    assert str(error.value).startswith("loss or gradient not finite after 16 images, step 2: output of stem")
    assert "the last good checkpoint is kept; lower training.learning_rate" in str(error.value)
    assert [int(p.stem) for p in checkpoints(tmp_path / "run" / "checkpoints")] == [8, 16]
    assert objects(tmp_path / "run" / "events.jsonl")[0]["action"] == "stop"


def test_rollback_takes_the_last_weights_and_the_next_data(tmp_path):
    told = []
    overrides = ("training.on_fault=rollback", "log.checkpoint=16")
    with faulty(tmp_path / "run", *overrides, at=(24,), tell=told.append) as run:
        reports = list(run)
    assert [(r.images_seen, r.position, r.batch) for r in reports[:6]] == [
        (8, 8, 8), (16, 16, 8), (24, 24, 8), (24, 32, 0), (24, 40, 8), (32, 48, 8)]
    assert reports[-1].images_seen == 64
    assert "rolled back to 16 images" in told[0]
    assert [line["images_seen"] for line in objects(tmp_path / "run" / "log.jsonl")] == list(range(8, 65, 8))
    # From the same weights with the same data, without the fault:
    with opened(tmp_path / "other", "log.checkpoint=16", "log.every=8") as other:
        steps = iter(other)
        next(steps), next(steps)
        other.state.position = 32
        other.save()
    with opened(tmp_path / "other", "log.checkpoint=16", "log.every=8") as other:
        expected = list(other)
    assert [r.loss for r in expected] == [r.loss for r in reports[4:]]


@pytest.mark.slow
def test_averages_of_a_stretch_that_was_rolled_back_are_forgotten(tmp_path):
    """Those after the last checkpoint, such as a run that was killed while it wrote one leaves."""
    settings = ("training.averages=[0.05,0.1]", "log.checkpoint=16")
    with opened(tmp_path / "run", *settings) as run:
        for _ in zip(range(4), run, strict=False):
            pass
    assert [int(p.stem) for p in checkpoints(run.folder.averages)] == [16, 32]
    latest(run.folder.checkpoints).unlink()
    with opened(tmp_path / "run", *settings) as run:
        assert run.state.images_seen == 16
        assert [int(p.stem) for p in checkpoints(run.folder.averages)] == [16]
        list(run)
        run.save()
    with opened(tmp_path / "other", *settings) as other:
        list(other)
        other.save()
    mine, theirs = (checkpoints(each.folder.averages) for each in (run, other))
    assert [p.name for p in mine] == [p.name for p in theirs]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(mine, theirs, strict=True))


def test_rollback_before_the_first_checkpoint_is_to_the_beginning(tmp_path):
    with faulty(tmp_path / "run", "training.on_fault=rollback", "log.checkpoint=1000", at=(8,)) as run:
        reports = list(run)
    assert [(r.images_seen, r.position) for r in reports[:3]] == [(8, 8), (8, 16), (8, 24)]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_too_many_faults_stop_the_run(tmp_path, policy):
    run = faulty(tmp_path / "run", f"training.on_fault={policy}", "training.fault_limit=3", "log.checkpoint=1000",
                 at=range(8, 1000, 8))
    with run, pytest.raises(SnriseError, match="loss or gradient 4 times since the last checkpoint; not finite after"):
        list(run)
    assert len(objects(tmp_path / "run" / "events.jsonl")) == 4


@pytest.mark.slow
def test_a_spike_is_logged_with_its_files(tmp_path):
    with opened(tmp_path / "run", "training.images=800", "log.every=800") as run:
        steps = iter(run)
        for _ in range(60):
            next(steps)
        with torch.no_grad():
            run.state.network.get_parameter("conditioning.logsnr.2.bias" if False else "norm.weight").mul_(1000)
        report = next(steps)
    (event,) = objects(tmp_path / "run" / "events.jsonl")
    assert (event["event"], event["step"]) == ("spike", 61)
    assert event["loss"] == report.loss > 3 * event["usual_loss"]
    losses = [image["eps_loss"] for image in event["images"]]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 8


def test_logs_hold_the_size_of_steps_and_the_loss_by_level(tmp_path):
    with opened(tmp_path / "run", "log.every=32") as run:
        steps = iter(run)
        for _ in range(3):
            next(steps)
        before = torch.cat([p.detach().flatten().clone() for p in run.state.network.parameters()])
        next(steps)
        after = torch.cat([p.detach().flatten() for p in run.state.network.parameters()])
    (line,) = objects(tmp_path / "run" / "log.jsonl")
    assert line["update_ratio"] == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-4)
    assert len(line["loss_by_logsnr"]) == 10
    assert (line["faults"], line["skipped"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 3, 4, 5])
def test_logs_of_an_interrupted_run_are_those_of_one_that_was_not(tmp_path, at):
    overrides = ("log.every=24", "training.images=96")
    with opened(tmp_path / "straight", *overrides) as run:
        list(run)
    with opened(tmp_path / "run", *overrides) as run:
        steps = iter(run)
        for _ in range(at):
            next(steps)
        run.save()
        next(steps)  # what is not saved does not count
    with opened(tmp_path / "run", *overrides) as run:
        list(run)
    assert comparable(tmp_path / "run" / "log.jsonl") == comparable(tmp_path / "straight" / "log.jsonl")


def pictures(folder, count=6):
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return ("data.source=folder", f"data.path={folder}", "data.only=[]", "data.classes=null")


def test_unreadable_images_are_skipped_and_listed(tmp_path):
    settings = pictures(tmp_path / "photos")
    (tmp_path / "photos" / "2.png").write_bytes(b"")
    (tmp_path / "photos" / "4.png").write_bytes((tmp_path / "photos" / "4.png").read_bytes()[:200])
    with opened(tmp_path / "run", *settings) as run:
        list(run)
    listed = (tmp_path / "run" / "skipped.txt").read_text().splitlines()
    assert [line.partition(": cannot be read: ")[0] for line in listed] == [
        str(tmp_path / "photos" / f"{i}.png") for i in (2, 4)]
    assert objects(tmp_path / "run" / "log.jsonl")[-1]["skipped"] == 2
    assert summarize(tmp_path / "run").skipped == 2


def test_other_data_are_refused_and_changed_files_told(tmp_path):
    settings, told = pictures(tmp_path / "photos"), []
    with opened(tmp_path / "run", *settings, "training.images=8") as run:
        list(run)
        run.save()
    (tmp_path / "photos" / "3.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes())
    with opened(tmp_path / "run", *settings, tell=told.append):
        pass
    assert "the files have changed since the last checkpoint: the run is no longer exactly repeatable" in told
    (tmp_path / "photos" / "5.png").unlink()
    with pytest.raises(SnriseError, match="holds a run on other data: images were 6, now 5; choose another --out"):
        opened(tmp_path / "run", *settings)


def test_the_settings_of_the_checkpoint_count_not_those_of_the_file(tmp_path):
    with opened(tmp_path / "run", "training.images=8") as run:
        list(run)
        run.save()
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(SnriseError, match="these may not change: loss.prediction was 'v', now 'x'; these may change: "
                                          "training.images was 8, now 16; choose another --out"):
        opened(tmp_path / "run", "loss.prediction=x", "training.images=16")


def test_a_broken_checkpoint_is_passed_over_and_told(tmp_path):
    with opened(tmp_path / "run", "log.checkpoint=8", "log.keep=9", "training.images=24") as run:
        list(run)
        run.save()
    newest = latest(tmp_path / "run" / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:-1])
    told = []
    with opened(tmp_path / "run", "training.images=24", tell=told.append) as run:
        assert run.state.images_seen == 16
    assert told[-2].startswith(f"passed over a broken checkpoint: {newest}: not a whole checkpoint")
    assert told[-1].startswith("going on from 16 images")


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    with (opened(tmp_path / "run"),
          pytest.raises(SnriseError, match="another process is at work here; stop it first, or choose another --out")):
        opened(tmp_path / "run")
    opened(tmp_path / "run").close()


def test_a_run_goes_on_with_activation_checkpointing(tmp_path):
    """It changes memory, not numbers; and runs older than the setting go on too."""
    told = []
    with opened(tmp_path / "run") as run:
        next(iter(run))
        run.save()
    with opened(tmp_path / "run", "network.levels.1.checkpoint=true", tell=told.append) as run:
        assert told[0] == "changed: network.levels.1.checkpoint was False, now True"
        assert run.state.images_seen == 8
        next(iter(run))


@pytest.mark.parametrize("error", [
    torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1"),
])
def test_lack_of_memory_says_what_to_lower(tmp_path, monkeypatch, error):
    def forward(*_):
        raise error

    with opened(tmp_path / "run") as run:
        monkeypatch.setattr(run.state.network, "forward", forward)
        with pytest.raises(SnriseError, match=r"out of memory: 8 images of 16x16 in 1 parts on cpu; set "
                                              r"training.accumulate=2 \(the same result in more parts\), or lower .*; "
                                              r"`snrise plan .*run` says what fits"):
            next(iter(run))


def test_other_errors_are_left_alone(tmp_path, monkeypatch):
    def forward(*_):
        raise RuntimeError("a bug")

    with opened(tmp_path / "run") as run:
        monkeypatch.setattr(run.state.network, "forward", forward)
        with pytest.raises(RuntimeError, match="a bug"):
            next(iter(run))


def test_what_made_the_run_is_written_beside_it(tmp_path):
    with opened(tmp_path / "run") as run:
        made = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["made_with"]
        assert made["torch"] == torch.__version__
        assert made["data"] == run.data.source.fingerprint()
        assert made["images"] == str(len(run.data))
        assert made == run.config.made_with
