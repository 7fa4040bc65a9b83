"""`snrise plan`: what it prints, what it writes, and each of its errors."""

import re

import pytest
import torch
import yaml

import snrise
from examples import FakeNetwork
from snrise.experiment import Experiment
from snrise.runs import Run
from tiny import command, config, fails, size_of

pytestmark = pytest.mark.usefixtures("beside_tiny_yaml")


def run(*arguments):
    return command("plan", *arguments)


@pytest.mark.slow
def test_table_memory_time_and_picture(tmp_path):
    text = run("tiny.yaml", "--device", "h100", "--out", "out/plan.png")
    lines = text.splitlines()
    assert lines[0] == "tiny: UViT at 16x16, batch 8, adamw, fp32; on H100 SXM 80 GB, 79.10 GiB"
    assert " ".join(lines[2].split()) == "where width n Mparams % GFLOP % MiB kept % recomp. %"
    assert [line.split()[:2] for line in lines[3:10]] == [
        ["stem", "0.00"], ["16x16", "down"], ["8x8", "middle"], ["16x16", "up"], ["condition", "0.01"],
        ["loss", "0.00"], ["all", "0.04"]]
    assert all(len(line) <= 80 for line in lines[2:10])
    assert "kept for the way back of 8 images" in text
    assert "most at a time" in text
    assert "all levels checkpointed" in text
    assert "at 15% of 67 TFLOP/s (NVIDIA H100 datasheet" in text
    assert "schedule                  fit for this resolution" in text
    assert "does not fit" not in text
    assert lines[-1] == "written: out/plan.png"
    assert min(size_of(tmp_path / "out" / "plan.png")) > 500


@pytest.mark.slow
def test_this_machine_is_timed():
    text = run("tiny.yaml", "--seconds", "0", "--device", "this")
    assert "images/s: measured here, 1 at once," in text
    assert "a million images          not known: --device this measures it" in run("tiny.yaml", "--device", "cpu")


@pytest.mark.slow
def test_a_preset_is_planned_at_its_own_resolution():
    lines = run("--preset", "s-128", "--device", "4090", "--batch", "16", "network.levels.2.blocks=1").splitlines()
    assert lines[0].startswith("s-128: UViT at 128x128, batch 16, muon, bf16; on RTX 4090 24 GB")
    assert "64x64 down" in lines[4]


@pytest.mark.slow
def test_sizes_and_parts():
    text = run("tiny.yaml", "--resolution", "16x32", "--device", "cpu", "training.accumulate=4")
    assert text.startswith("tiny: UViT at 16x32, batch 8 in 4 parts, ")
    assert "\n8x16 middle " in text
    assert "\nkept for the way back of 2 images; " in text


@pytest.mark.slow
def test_what_does_not_fit_is_told_with_advice():
    text = run("tiny.yaml", "--device", "4090", "--batch", "100000")
    assert re.search(r"\ndoes not fit:\n  training.accumulate=\d fits: the same result in \d parts\n", text)
    assert re.search(r"\n  network.levels.\d.checkpoint=true.* fits: the same result for \d\d% more operations\n", text)


@pytest.mark.slow
def test_many_devices_share_the_batch():
    text = run("tiny.yaml", "--device", "h100", "--gpus", "2", "--nodes", "2", "--parallel", "fsdp")
    assert "\ndevices                   4: 2 nodes of 2, 2 images each a step\n" in text
    assert "\nin parallel               fsdp: parameters, gradients, optimizer state and averages sharded, " in text
    assert re.search(r"\nsent a step, each +\d.\d\d GB over NVLink 4 .*, \d.\d\d GB over InfiniBand NDR", text)
    assert re.search(r"\nefficiency +\d+% with overlap; the (chip|network) is the limit\n", text)
    assert " GPU hours at 15% of 67 TFLOP/s" in text
    assert "\ncomputed, nothing measured: " in text


def test_a_table_and_a_picture_by_number_of_devices(tmp_path):
    text = run("tiny.yaml", "--device", "h100", "--scaling", "1,2,8,16", "--out", "scaling.png")
    lines = text.splitlines()
    assert lines[0] == "tiny at 16x16, 8 images each, fp32; on H100 SXM 80 GB at 15% of the peak"
    rows = [line.split() for line in lines[4:8]]
    assert [(row[0], row[-8]) for row in rows] == [("1", "1"), ("2", "ddp"), ("8", "ddp"), ("16", "ddp")]
    assert [row[-7] for row in rows] == ["8", "16", "64", "128"]
    assert all(len(line) <= 80 for line in lines[3:8])
    assert lines[-1] == "written: scaling.png"
    assert min(size_of(tmp_path / "scaling.png")) > 500


@pytest.mark.slow
def test_a_schedule_and_a_network_that_are_unwise_are_told():
    text = run("tiny.yaml", "--resolution", "128", "--device", "cpu", "schedule.reference=null")
    assert "schedule                  not fit for this resolution" in text
    assert "\nschedule: t = 1 is not yet noise: " in text
    assert re.search(r"\nnetwork: \d\d% of the operations are at more than 32x32 cells, and 60% is the most", text)


@pytest.mark.slow
def test_a_run_is_planned_with_its_settings_and_classes(tmp_path):
    how = config()
    with Run(Experiment.of(how), tmp_path / "run", tell=lambda _: None) as begun:
        begun.save()
    document = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    document["data"] |= {"source": "folder", "path": "gone", "only": []}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(document))
    parameters = {
        run(what, *more, "--device", "cpu").splitlines()[9].split()[1]
        for what, *more in (("run",), ("tiny.yaml", "--classes", "3"))
    }
    assert len(parameters) == 1
    assert run("tiny.yaml", "--classes", "100000", "--device", "cpu").splitlines()[9].split()[1] == "3.24"


def test_a_run_of_a_network_of_ones_own_is_refused_with_what_to_do(monkeypatch, capsys):
    with Run(snrise.Experiment(data=torch.zeros(8, 3, 8, 8, dtype=torch.uint8), network=FakeNetwork()), "run",
             tell=lambda _: None) as begun:
        begun.save()
    assert fails(monkeypatch, capsys, "plan", "run") == (
        "config.network: got 'examples.FakeNetwork'; allowed: a network that can be built from settings; plan it in "
        "Python: snrise.planning.plan(experiment, device)")


@pytest.mark.slow
def test_a_recipe_that_misses_its_images_is_planned():
    assert run("folder", "--device", "cpu").startswith("folder: UViT at 32x32, batch 32, muon")


@pytest.mark.parametrize(("arguments", "message"), [
    (["--device", "h10"], "--device: no such device 'h10'; did you mean 'h100'? allowed: 4090, a100, cpu, h100, this"),
    (["--preset", "m-51"], "--preset: no such preset 'm-51'; did you mean 'm-512'?"),
    (["--preset", "m-512", "--resolution", "100"], "config.data.resolution: got '100x100'; allowed: sides that are "),
    (["a", "b"], "plan: got ['a', 'b']; allowed: one recipe, config file or run, then key=value settings"),
    (["emoji-23"], "recipe: no such recipe or file 'emoji-23'"),
    (["--out", "a.pgn"], "--out a.pgn: no such picture format '.pgn'"),
    (["--resolution", "5x"], "--resolution: got '5x'"),
    (["--gpus", "0"], "--gpus: got 0; allowed: a whole number above 0; use 1"),
    (["--device", "cpu", "--gpus", "2"], "Cluster.device: got \"this machine's CPU\"; allowed: one whose links are"),
    (["--device", "h100", "--gpus", "2", "--parallel", "dpd"], "--parallel: no such way to train in parallel 'dpd'"),
    (["--device", "h100", "--gpus", "8", "--batch", "30"],
     "config.training.batch: got 30; allowed: a multiple of the 8 ranks; nearest: 24 or 32"),
    (["--device", "h100", "--scaling", "1,12"],
     "--scaling: got '12'; allowed: numbers of devices that fill nodes of 8; nearest: 8 or 16"),
    (["training.bach=3"], "config.training.bach: no such setting"),
])
def test_errors_are_one_line(monkeypatch, capsys, arguments, message):
    assert fails(monkeypatch, capsys, "plan", *arguments).startswith(message)
