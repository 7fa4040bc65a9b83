import json

import pytest
import torch

from snrise.training import Report
from snrise.training.logs import JsonLines, Meter


def report(step, loss=1.0, **other):
    fields = {
        "step": step, "images_seen": 8 * step, "batch": 8, "loss": loss, "eps_loss": 2 * loss, "grad_norm": 3 * loss,
        "learning_rate": 0.1 * step, "seconds": 0.5, "data_seconds": 0.1, "logsnr": torch.zeros(8),
        "eps_losses": torch.ones(8),
    }
    return Report(**fields | other)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_meter_means_over_the_interval_and_begins_anew():
    meter = Meter()
    for step, loss in ((1, 1.0), (2, 2.0), (3, 6.0)):
        meter.add(report(step, loss))
    values = meter.read()
    assert values == pytest.approx({
        "step": 3, "images_seen": 24, "loss": 3.0, "eps_loss": 6.0, "grad_norm": 9.0, "learning_rate": 0.3,
        "images_per_second": 16.0, "data_share": 0.2,
    })
    meter.add(report(4, 5.0, seconds=2.0))
    assert meter.read()["loss"] == 5.0
    assert meter.reports == []


def test_meter_keeps_no_tensor_of_a_batch():
    meter = Meter()
    meter.add(report(1))
    assert meter.reports[0].logsnr.numel() == meter.reports[0].eps_losses.numel() == 0


@pytest.mark.parametrize(("resumed_at", "kept"), [(0, []), (15, [8]), (16, [8, 16]), (100, [8, 16, 24])])
def test_json_lines_forget_what_came_after_the_point_of_resuming(tmp_path, resumed_at, kept):
    path = tmp_path / "log.jsonl"
    writer = JsonLines(path, 0)
    for seen in (8, 16, 24):
        writer.write({"images_seen": seen, "loss": 1 / seen})
    JsonLines(path, resumed_at).write({"images_seen": resumed_at + 8})
    assert [line["images_seen"] for line in lines(path)] == [*kept, resumed_at + 8]


@pytest.mark.parametrize("torn", ['{"images_seen": 16, "lo', '{"loss": 3}', "[]", "nonsense", "3"])
def test_json_lines_forget_a_torn_line(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_text('{"images_seen": 8}\n' + torn)
    JsonLines(path, 1000).write({"images_seen": 16})
    assert lines(path) == [{"images_seen": 8}, {"images_seen": 16}]


def test_json_lines_begin_with_an_empty_file(tmp_path):
    JsonLines(tmp_path / "new" / "log.jsonl", 0)
    assert (tmp_path / "new" / "log.jsonl").read_text() == ""
