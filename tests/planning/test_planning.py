"""Plans: tables that add up, batches that are the largest, advice that is right."""

import itertools
import os
import re
import time
from dataclasses import replace
from functools import lru_cache, partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snrise import plots
from snrise._errors import SnriseError
from snrise.config import parse
from snrise.construct import plain as plainly
from snrise.documents import override
from snrise.experiment import Experiment
from snrise.networks import Kind, Level, Stem, UViTConfig, ViTConfig, build, cost
from snrise.planning import DEVICES, Device, Rehearsal, device, plan, probe, rehearsal, rehearse
from snrise.planning.advice import about_resolution, largest_batch, to_fit
from snrise.planning.rehearsal import Steps
from snrise.planning.table import rows
from snrise.training import Precision
from tiny import MIXED, NETWORKS, config

CONFIGS = [pytest.param(NETWORKS[kind][name], id=name) for kind, name in (
    ("uvit", "mixed"), ("uvit", "wavelet"), ("unet", "deep"), ("vit", "class tokens"))]
CLASSES = 3
#: The least there is to plan, for what does not depend on the network.
LEAST = UViTConfig(levels=(Level(channels=8, blocks=1),), embedding=8)


@lru_cache
def planned(how, classes, device):
    return plan(Experiment.imagined(how, classes), device)


def warned(how):
    """What is unwise about the network of some settings: its table without the memory, which needs no rehearsal."""
    nothing = Rehearsal(images=1, static={}, gradients=0, kept={}, peak=0, flops=0.0)
    costs = cost(Experiment.imagined(how).network, how.data.resolution)
    return about_resolution(how, rows(how, costs, nothing, nothing))


def small(megabytes):
    """A CPU with so much memory."""
    return Device(title="a small CPU", memory=int(megabytes * 1e6), gpu=False, overhead=0.0, bf16_is_native=False)


def of(which, *overrides):
    return replace(config(*overrides), network=which)


@pytest.mark.slow
@pytest.mark.parametrize("which", CONFIGS)
def test_the_table_adds_up(which):
    how = of(which)
    found = planned(how, CLASSES, small(500))
    whole = found.whole
    assert whole.parameters == sum(p.numel() for p in build(which, CLASSES, device="meta").parameters())
    assert whole.kept == sum(found.step.kept.values())
    assert whole.checkpointed == sum(found.checkpointed.kept.values()) < whole.kept
    # Forward, and twice as much on the way back but for the image's own gradient.
    assert 2.5 * whole.flops < found.step.flops < 3 * whole.flops
    assert [row.stage for row in found.rows if row.stage] == list(which.stages())
    assert all(row.cells == (16 // row.stage.factor,) * 2 for row in found.rows if row.stage)
    assert [row.name for row in found.rows if not row.stage] == ["stem", "condition", "loss"]


def test_memory_is_where_it_was_made():
    """All levels hold something, the higher more, and each less with activation checkpointing."""
    found = planned(of(MIXED), CLASSES, small(500))
    levels = [row for row in found.rows if row.stage]
    assert [row.name for row in levels] == ["16x16 down", "8x8 down", "4x4 middle", "8x8 up", "16x16 up"]
    assert all(0 < row.checkpointed < 0.5 * row.kept for row in levels)
    assert levels[0].kept > levels[2].kept
    assert found.rows[-1].kept == found.rows[-1].checkpointed


def test_static_memory_is_known():
    found = planned(of(MIXED), CLASSES, small(500)).step
    size = 4 * sum(p.numel() for p in build(MIXED, CLASSES, device="meta").parameters())
    assert (found.static["parameters"], found.static["average"], found.gradients) == (size, size, size)
    assert found.static["optimizer"] == pytest.approx(2 * size, rel=0.01)
    muon = rehearse(Experiment.imagined(of(MIXED, "training.optimizer=muon"), CLASSES), small(500))
    assert size < muon.static["optimizer"] < 2 * size


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10**6), st.integers(0, 10**7),
       st.sampled_from([1, 8, 32, 1000, 10**6]))
def test_the_largest_batch_is_the_largest(base, slope, floor, limit, first):
    def peak(batch):
        asked.append(batch)
        return max(floor, base + slope * batch)

    asked = []
    found = largest_batch(peak, limit, first)
    most = min(65_536, -1 if floor > limit else (limit - base) // slope)
    assert found == max(0, most)
    assert len(asked) < 30


def test_a_plan_takes_few_rehearsals(monkeypatch):
    """The batch as it is, without and with activation checkpointing, two for the largest; the update only once."""
    done = []
    for name in ("rehearse", "rehearse_update"):
        monkeypatch.setattr(rehearsal, name, partial(noted, done, name, getattr(rehearsal, name)))
    plan(Experiment.imagined(of(LEAST), CLASSES), small(30))
    assert sorted(done) == [*["rehearse"] * 4, "rehearse_update"]


def noted(done, name, function, *arguments):
    done.append(name)
    return function(*arguments)


@pytest.mark.slow
def test_the_largest_batch_of_a_run():
    cpu, how = small(30), of(NETWORKS["uvit"]["wavelet"])
    found = planned(how, CLASSES, cpu)
    steps = Steps(Experiment.imagined(how, CLASSES), cpu)
    assert found.largest > 8
    assert steps((), found.largest).peak <= cpu.usable < steps((), found.largest + 1).peak
    assert found.fits
    assert found.advice == ()


def followed(how, advice):
    """The settings with those changed that a line of advice names."""
    document = plainly(how)
    for assignment in re.findall(r"\S+=\S+", advice):
        override(document, assignment)
    return parse(document)


@pytest.mark.slow
@pytest.mark.parametrize(("which", "megabytes"), [
    (NETWORKS["uvit"]["conv"], 15.6), (NETWORKS["vit"]["no class tokens"], 3.78)])
def test_advice_that_is_followed_fits(which, megabytes):
    how, cpu = of(which, "training.batch=64"), small(megabytes)
    found = planned(how, CLASSES, cpu)
    assert not found.fits
    assert len(found.advice) >= 1
    for line in found.advice:
        assert "fits: the same result" in line
        assert rehearse(Experiment.imagined(followed(how, line), CLASSES), cpu).peak <= cpu.usable
    assert any("checkpoint=true" in line and "more operations" in line for line in found.advice)


@pytest.mark.slow
def test_activation_checkpointing_is_advised_where_it_saves_most():
    """And at only as many levels as it takes."""
    one, two = ("levels.1.checkpoint",), ("levels.1.checkpoint", "levels.0.checkpoint")
    steps = Steps(Experiment.imagined(of(MIXED, "training.batch=64"), CLASSES), small(500))
    peaks = [steps(chosen, 64).peak for chosen in ((), one, two)]
    for chosen, enough in zip((one, two), itertools.pairwise(peaks), strict=True):
        *_, advice = to_fit(steps, sum(enough) // 2, largest=0)
        settings = " ".join(f"network.{setting}=true" for setting in chosen)
        assert advice.startswith(f"{settings} fits: the same result for ")


def test_one_image_that_does_not_fit_is_told():
    found = planned(of(LEAST), CLASSES, small(0.1))
    assert (found.largest, found.fits) == (0, False)
    assert found.advice == (
        "not even one image fits: fewer channels or blocks, or a larger network.stem, would make it fit",)


@pytest.mark.parametrize(("which", "image", "told"), [
    (UViTConfig(levels=(Level(channels=32, blocks=2), Level(channels=32, blocks=1))), 256,
     "network.stem=4, so that the first level has 64x64 cells, levels down to 16x16 with most blocks there"),
    (UViTConfig(levels=(Level(channels=32, blocks=4), Level(channels=32, blocks=1), Level(channels=32, blocks=1)),
                stem=2), 128, "here: most blocks in levels.2"),
    (ViTConfig(width=32, depth=2, patch=4, head=8), 256, "here: network.patch=8"),
])
def test_operations_at_high_resolutions_are_warned_of(which, image, told):
    how = of(which, f"data.resolution=[{image}, {image}]", "training.batch=1")
    (warning,) = warned(how)
    assert re.match(r"\d\d+% of the operations are at more than 32x32 cells, and 60% is the most that is wise: simple "
                    r"diffusion \(Hoogeboom et al. 2023, sec. 3\)", warning)
    assert warning.endswith(told)


def test_a_stem_as_advised_is_not_warned_of():
    conv, low = Level(channels=32, blocks=1), Level(channels=64, blocks=6, kind=Kind.TRANSFORMER)
    which = UViTConfig(levels=(conv, conv, low), stem=4, stem_kind=Stem.CONV)
    assert warned(of(which, "data.resolution=[256, 256]", "training.batch=1")) == []


def test_the_schedule_is_checked_in_the_same_breath():
    shifted, plain = (planned(of(LEAST, "data.resolution=[256, 256]", setting), None, small(10**4)).schedule
                      for setting in ("schedule.reference=[64, 64]", "schedule.reference=null"))
    assert shifted.ok
    assert "too easy" in "; ".join(plain.problems)


def test_a_plan_warns_of_its_network():
    how = of(LEAST, "data.resolution=[256, 256]", "training.batch=1")
    assert planned(how, None, small(10**4)).warnings == tuple(warned(how)) != ()


def test_time_is_operations_by_the_peak():
    found = planned(of(LEAST, "training.precision=auto"), CLASSES, DEVICES["h100"])
    assert found.precision is Precision.BF16
    assert found.images_per_second(0.5) == pytest.approx(0.5 * 989.4e12 / found.step.flops)
    assert replace(found, precision=Precision.FP32).images_per_second(0.5) < 0.1 * found.images_per_second(0.5)
    assert replace(found, device=small(100)).images_per_second(0.5) is None
    with pytest.raises(SnriseError, match=r"utilisation: got 2; allowed: a share of the peak in \(0, 1\]"):
        found.images_per_second(2)


def test_devices():
    assert all(gpu.memory > 20 * 2**30 and gpu.bf16 > 2 * gpu.fp32 * 0.9 and gpu.source for gpu in DEVICES.values())
    cpu = device("cpu")
    assert not cpu.gpu
    assert cpu.memory > 2**30
    assert (cpu.bf16, cpu.peak(Precision.FP32)) == (None, None)
    assert cpu.taken(2**20) > 1.1 * 2**20
    with pytest.raises(SnriseError, match="--device: no such device 'h10'; did you mean 'h100'"):
        device("h10")


def test_a_probe_takes_real_steps():
    timed = probe(Experiment.imagined(of(MIXED, "training.images=8"), CLASSES, "cpu"), seconds=0.0, most=4)
    assert timed.images_per_second > 0
    assert timed.batch == 1


@pytest.mark.slow
def test_a_probe_doubles_the_batch_while_there_is_time(monkeypatch):
    """By a clock on which every look takes a hundredth of a second, whatever the machine does."""
    clock = itertools.count(step=0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    how = Experiment.imagined(of(LEAST), None, "cpu")
    largest = {seconds: probe(how, seconds, most=8).batch for seconds in (0.1, 9)}
    assert largest == {0.1: 1, 9: 8}


class Bare(torch.nn.Module):
    """A module with nothing of what snrise asks for, and a tensor that is neither parameter nor buffer."""

    def __init__(self, width):
        super().__init__()
        self.enter, self.leave = torch.nn.Conv2d(3, width, 1), torch.nn.Conv2d(width, 3, 1)
        self.shade = torch.ones(width, 1, 1)

    def forward(self, z, logsnr, labels=None):
        return self.leave(torch.relu(self.enter(z) * self.shade))


def test_a_module_of_ones_own_is_planned_rehearsed_and_probed():
    pictures = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    how = Experiment(data=pictures, network=Bare(64), batch=64, precision=Precision.FP32)
    found = plan(how, small(10))
    assert [row.name for row in found.rows] == ["enter", "leave", "loss"]
    assert found.whole.parameters == sum(p.numel() for p in how.network.parameters())
    assert (found.warnings, found.step) == ((), rehearse(how, small(10)))
    assert not found.fits
    (advice,) = found.advice
    assert re.fullmatch(r"training\.accumulate=(\d+) fits: the same result in \1 parts", advice)
    assert plan(how, small(0.1)).advice == ("not even one image fits: a smaller network would make it fit",)
    assert probe(how, seconds=0.0, most=2).images_per_second > 0


def test_a_module_without_products_is_planned():
    how = Experiment(data=torch.zeros(8, 3, 16, 16, dtype=torch.uint8), network=Scaled(), precision=Precision.FP32)
    found = plan(how, DEVICES["h100"])
    assert (found.step.flops, found.images_per_second(0.5), found.warnings) == (0, None, ())


class Scaled(torch.nn.Module):
    """The image times a number."""

    def __init__(self):
        super().__init__()
        self.number = torch.nn.Parameter(torch.ones(()))

    def forward(self, z, logsnr, labels=None):
        return self.number * z


def test_a_picture_shows_the_plan():
    found = replace(planned(of(MIXED), CLASSES, small(500)), device=small(15))
    levels, memory = plots.plan_chart(found).axes
    assert [text.get_text() for text in levels.get_yticklabels()] == [row.name for row in found.rows]
    sums = {bars.get_label(): sum(bar.get_width() for bar in bars) for bars in levels.containers}
    assert list(sums.values())[:3] == pytest.approx([100, 100, 100])
    assert list(sums.values())[3] == pytest.approx(100 * found.whole.checkpointed / found.whole.kept)
    tops = [sum(bars[i].get_height() for bars in memory.containers) for i in range(2)]
    assert tops == pytest.approx([found.step.peak / 2**30, found.checkpointed.peak / 2**30])
    (limit,) = {y for line in memory.lines for y in line.get_ydata()}
    assert limit == found.device.usable / 2**30


def test_a_system_that_does_not_tell_its_memory(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    with pytest.raises(SnriseError, match="--device: got 'this machine'; allowed: one of h100, a100, 4090: the system"):
        device("cpu")
