import json
import math

import pytest
import torch

from snrise._errors import SnriseError
from snrise.levels import Levels
from snrise.runs.logs import JsonLines, Meter, TensorBoard, WandB, loss_name
from snrise.schedules import Cosine, UniformLogSnr
from snrise.training import Report
from tiny import objects

UNIFORM = Levels(schedule=UniformLogSnr(logsnr_min=-10.0, logsnr_max=10.0))


def report(step, loss=1.0, **other):
    fields = {
        "step": step, "images_seen": 8 * step, "position": 8 * step, "batch": 8, "loss": loss, "eps_loss": 2 * loss,
        "grad_norm": 3 * loss, "learning_rate": 0.1 * step, "seconds": 0.5, "data_seconds": 0.1,
        "indices": list(range(8)), "logsnr": torch.ones(8), "eps_losses": torch.ones(8), "fault": None,
    }
    return Report(**fields | other)


def read(meter, last):
    """The values, without those that no one can foresee."""
    return {name: v for name, v in meter.read(last).items() if name != "memory_gib"}


def test_meter_means_over_the_interval_and_begins_anew():
    meter = Meter(UNIFORM)
    for step, loss in ((1, 1.0), (2, 2.0), (3, 6.0)):
        meter.add(last := report(step, loss))
    values = read(meter, last)
    assert values.pop("loss_by_logsnr") == [None] * 5 + [1.0] + [None] * 4
    assert values == pytest.approx({
        "step": 3, "images_seen": 24, "loss": 3.0, "eps_loss": 6.0, "grad_norm": 9.0, "learning_rate": 0.3,
        "images_per_second": 16.0, "data_share": 0.2,
    })
    meter.add(last := report(4, 5.0, seconds=2.0))
    assert read(meter, last)["loss"] == 5.0


def test_a_dropped_step_costs_time_and_nothing_else():
    meter = Meter(UNIFORM)
    meter.add(report(1))
    meter.add(report(1, math.nan, batch=0, eps_losses=torch.full((8,), torch.nan), fault="weight x"))
    values = read(meter, report(1))
    assert (values["loss"], values["images_per_second"], values["loss_by_logsnr"][5]) == (1.0, 8.0, 1.0)


def test_memory_is_that_of_the_process():
    meter = Meter(UNIFORM)
    meter.add(report(1))
    assert 0.05 < meter.read(report(1))["memory_gib"] < 100


def test_bins_are_equally_likely_in_training():
    for schedule in (UNIFORM.schedule, Cosine(logsnr_min=-8.0, logsnr_max=8.0)):
        levels = Levels(schedule=schedule, stratified=True)
        logsnr, _ = levels(10_000, torch.Generator().manual_seed(0))
        bins = torch.bucketize(logsnr.double(), Meter(levels).edges)
        assert bins.bincount(minlength=10).tolist() == pytest.approx([1000] * 10, abs=3)


def test_the_loss_of_a_bin_is_smoothed_over_its_images():
    meter, logsnr = Meter(UNIFORM), torch.tensor([-9.0] * 4 + [9.0] * 4)
    for _ in range(64):  # 256 images a bin after the first
        meter.add(report(1, logsnr=logsnr, eps_losses=torch.tensor([1.0] * 4 + [2.0] * 4)))
    for _ in range(64):
        meter.add(report(1, logsnr=logsnr, eps_losses=torch.tensor([0.0] * 4 + [2.0] * 4)))
    bins = meter.read(report(1))["loss_by_logsnr"]
    assert bins[0] == pytest.approx(0.5)
    assert bins[9] == pytest.approx(2.0)
    assert bins[1:9] == [None] * 8


def test_meter_goes_on_from_its_state():
    straight, first, second = Meter(UNIFORM), Meter(UNIFORM), Meter(UNIFORM)
    for meter in (straight, first):
        meter.add(report(1, 1.5))
    second.load(json.loads(json.dumps(first.state())))
    for meter in (straight, second):
        meter.add(report(2, 0.7, eps_losses=torch.full((8,), 0.1)))
    assert read(straight, report(2)) == read(second, report(2))


@pytest.mark.parametrize(("resumed_at", "kept"), [(0, []), (15, [8]), (16, [8, 16]), (100, [8, 16, 24])])
def test_json_lines_forget_what_came_after_the_point_of_resuming(tmp_path, resumed_at, kept):
    path = tmp_path / "log.jsonl"
    writer = JsonLines(path, 0)
    for seen in (8, 16, 24):
        writer.write({"images_seen": seen, "loss": 1 / seen})
    JsonLines(path, resumed_at).write({"images_seen": resumed_at + 8})
    assert [line["images_seen"] for line in objects(path)] == [*kept, resumed_at + 8]


@pytest.mark.parametrize("torn", ['{"images_seen": 16, "lo', '{"loss": 3}', "[]", "nonsense", "3"])
def test_json_lines_forget_a_torn_line(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_text('{"images_seen": 8}\n' + torn)
    JsonLines(path, 1000).write({"images_seen": 16})
    assert objects(path) == [{"images_seen": 8}, {"images_seen": 16}]


def test_json_lines_begin_with_an_empty_file(tmp_path):
    JsonLines(tmp_path / "new" / "log.jsonl", 0)
    assert (tmp_path / "new" / "log.jsonl").read_text() == ""


def test_json_lines_that_cannot_be_written_are_told(tmp_path):
    writer = JsonLines(tmp_path / "log.jsonl", 0)
    writer.path = tmp_path
    with pytest.raises(SnriseError, match="cannot be written: Is a directory"):
        writer.write({"images_seen": 1})


def logged(step):
    meter = Meter(UNIFORM)
    meter.add(report(step))
    return meter.read(report(step))


def test_tensorboard_resumed_at_a_point_keeps_that_point(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    centres = Meter(UNIFORM).centres
    first = TensorBoard(tmp_path, 0, centres)
    for step in (1, 2, 3):
        first.write(logged(step))
    second = TensorBoard(tmp_path, 16, centres)
    second.write(logged(3) | {"loss": 9.0})
    found = events.EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(8, 1.0), (16, 1.0), (24, 9.0)]
    assert [e.value for e in found.Scalars(loss_name(centres[5]))] == [1.0, 1.0, 1.0]


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    writer = WandB(tmp_path, "tiny", "offline", {"seed": 0}, Meter(UNIFORM).centres)
    writer.write(logged(1))
    writer.run.finish()
    wandb.teardown()  # its service writes the file in its own time; this waits for it, as the end of a process does
    (written,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert loss_name(Meter(UNIFORM).centres[5]).encode() in written.read_bytes()


def test_without_weights_and_biases_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(SnriseError, match=r"pip install 'snrise\[wandb\]'"):
        WandB(tmp_path, "tiny", "offline", {}, [])
