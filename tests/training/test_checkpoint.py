import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import snrise
from snrise import checkpoint, experiment
from snrise._errors import SnriseError
from snrise.config import to_yaml
from snrise.files import write_atomically
from snrise.training import (
    BrokenCheckpoint,
    latest,
    load_latest,
    load_network,
    load_state,
    read_header,
    save_state,
)
from tiny import config, edited, moments, run, state_of


@pytest.fixture(scope="module")
def dataset():
    return experiment.dataset(config())


@pytest.fixture(scope="module")
def classes(dataset):
    return len(dataset.source.classes)


@pytest.fixture
def trained(dataset, classes):
    begun = state_of(config(), classes)
    run(begun, config(), 2, dataset)
    return begun


def same(a, b):
    """Whether two states are equal to the last bit: weights, averages, optimizer and counts."""
    pairs = [
        (a.network.state_dict(), b.network.state_dict()), (a.ema.parameters, b.ema.parameters),
    ]
    kept, other = moments(a), moments(b)
    if kept.keys() != other.keys():
        return False
    pairs += [(kept[name], other[name]) for name in kept]
    counts = [[getattr(s, name) for name in checkpoint.COUNTS] for s in (a, b)]
    return counts[0] == counts[1] and all(
        p.keys() == q.keys() and all(torch.equal(p[name], q[name]) for name in p) for p, q in pairs
    )


@pytest.mark.parametrize("settings", [
    (), ("training.accumulate=2", "training.weight_decay=0.1", "data.flip=true", "loss.levels.stratified=false"),
    ("data.classes=null", "network.stem=2", "training.clip=null"), ("training.optimizer=muon",),
], ids=["plain", "other", "no classes", "muon"])
@pytest.mark.parametrize("at", [0, 3])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, settings, at):
    settings = config(*settings)
    data = experiment.dataset(settings)
    classes = None if data.source.classes is None else len(data.source.classes)
    straight = state_of(settings, classes)
    expected = run(straight, settings, dataset=data)
    stopped = state_of(settings, classes)
    run(stopped, settings, at, data)
    path = save_state(stopped, tmp_path, to_yaml(settings))
    torch.manual_seed(99)
    resumed = state_of(dataclasses.replace(settings, seed=5), classes)
    assert not same(resumed, stopped)
    load_state(resumed, path)
    assert same(resumed, stopped)
    reports = run(resumed, settings, dataset=data)
    assert [r.loss for r in reports] == [r.loss for r in expected[at:]]
    assert same(resumed, straight)


def test_moments_keep_the_memory_layout_of_their_parameter(tmp_path, trained, classes):
    """A fused step walks through both in the order of memory."""
    resumed = state_of(config(), classes)
    load_state(resumed, save_state(trained, tmp_path, ""))
    kept = moments(resumed)
    layouts = [(p.stride(), kept[name]["exp_avg"].stride()) for name, p in resumed.network.named_parameters()]
    assert all(a == b for a, b in layouts)
    assert any(len(a) == 4 and a[1] == 1 and a[3] != 1 for a, _ in layouts)


def test_the_header_says_what_was_saved(tmp_path, trained):
    path = save_state(trained, tmp_path, to_yaml(config()), {"classes": ["a", "ü"], "frequencies": [0.25, 0.75]})
    assert path.name == "000000000016.safetensors"
    header = read_header(path)
    assert (header.path, header.step, header.images_seen) == (path, 2, 16)
    assert header.config == to_yaml(config())
    assert header.extra == {"classes": ["a", "ü"], "frequencies": [0.25, 0.75]}


def test_the_average_or_the_last_weights(tmp_path, trained, classes):
    path = save_state(trained, tmp_path, "")
    last, average = (experiment.network(config("seed=9"), classes) for _ in range(2))
    load_network(last, path, ema=False)
    load_network(average, path)
    for name, p in trained.network.named_parameters():
        assert torch.equal(last.get_parameter(name), p)
        assert torch.equal(average.get_parameter(name), trained.ema.parameters[name])
    assert not all(torch.equal(p, average.get_parameter(name)) for name, p in last.named_parameters())


def test_only_the_last_checkpoints_are_kept(tmp_path, trained):
    (tmp_path / "notes.txt").write_text("mine")
    for seen in (8, 16, 24, 32):
        trained.images_seen = seen
        save_state(trained, tmp_path, "", keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "000000000024.safetensors", "000000000032.safetensors", "notes.txt",
    ]
    assert latest(tmp_path).name == "000000000032.safetensors"


def test_the_latest_is_the_one_of_most_images(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None
    for name in ("000000000900", "000000001000", "000000000020"):
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / ".000000002000.safetensors.tmp").touch()
    assert latest(tmp_path).name == "000000001000.safetensors"


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("content", ["pickle", "empty", "truncated", "text", "header only"])
def test_what_is_no_whole_checkpoint_is_refused_in_a_line(tmp_path, monkeypatch, trained, classes, content):
    monkeypatch.chdir(tmp_path)
    whole = save_state(trained, tmp_path / "run", to_yaml(config())).read_bytes()
    path = tmp_path / "bad.safetensors"
    path.write_bytes({
        "pickle": pickle.dumps(Malice()), "empty": b"", "truncated": whole[:-1], "text": b"hello " * 100,
        "header only": whole[: 8 + int.from_bytes(whole[:8], "little")],
    }[content])
    for use in (read_header, lambda p: load_state(trained, p), lambda p: load_network(trained.network, p),
                snrise.load):
        with pytest.raises(SnriseError, match=r"bad\.safetensors: not a whole checkpoint of snrise") as error:
            use(path)
        assert "\n" not in str(error.value)
    assert not Path("touched").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "not JSON", "3", '{"format": "x"}'])
def test_a_safetensors_file_of_another_program_is_refused(tmp_path, text):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"snrise": text, "config": ""})
    with pytest.raises(SnriseError, match="not a whole checkpoint of snrise"):
        read_header(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(SnriseError, match="not a whole checkpoint of snrise"):
        read_header(path)


def test_no_file_is_told(tmp_path):
    with pytest.raises(SnriseError, match="got 'no such file'; allowed: a checkpoint"):
        read_header(tmp_path / "none.safetensors")


def test_a_newer_format_is_refused(tmp_path, trained):
    path = save_state(trained, tmp_path, "")
    newer = edited(path, tmp_path / "newer.safetensors", header=lambda h: h.update(format=99))
    with pytest.raises(SnriseError, match="got 'format 99'; allowed: format 3; upgrade snrise"):
        load_state(trained, newer)


@pytest.mark.parametrize("name", ["network.norm.weight", "ema.norm.weight"])
@pytest.mark.parametrize(("change", "got"), [("missing", "no such tensor"), ("misshapen", "(1,)")])
def test_a_missing_or_misshapen_tensor_is_named_and_nothing_is_loaded(tmp_path, trained, classes, name, change, got):
    def damage(tensors):
        if change == "missing":
            del tensors[name]
        else:
            tensors[name] = torch.zeros(1)

    bad = edited(save_state(trained, tmp_path, ""), tmp_path / "bad.safetensors", damage)
    fresh, untouched = (state_of(config(), classes) for _ in range(2))
    message = f"bad.safetensors: {name}: got '{got}'; allowed: (16,); is it a checkpoint of this config?"
    with pytest.raises(SnriseError, match=re.escape(message)):
        load_state(fresh, bad)
    with pytest.raises(SnriseError, match=re.escape(message)):
        load_network(fresh.network, bad, ema=name.startswith("ema"))
    assert same(fresh, untouched)


def test_a_misshapen_moment_is_named(tmp_path, trained, classes):
    path = save_state(trained, tmp_path, "")
    name = "optimizer.stem.enter.weight.exp_avg"
    bad = edited(path, tmp_path / "bad.safetensors", lambda t: t.update({name: torch.zeros(2)}))
    with pytest.raises(SnriseError, match=rf"{re.escape(name)}: got '\(2,\)'"):
        load_state(state_of(config(), classes), bad)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, trained, classes):
    path = save_state(trained, tmp_path, "")
    other = state_of(config("network.embedding=64"), classes)
    with pytest.raises(SnriseError, match="is it a checkpoint of this config"):
        load_state(other, path)


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(*((os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    for target in (path, tmp_path / "new"):
        kept = "; the file is as it was before" if target == path else ""
        with pytest.raises(SnriseError, match=f"{target}: cannot be written: disk full{kept}$"):
            write_atomically(target, b"new" * 1000)
        assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    write_atomically(path, b"newest")
    assert path.read_bytes() == b"newest"


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path, monkeypatch, trained):
    path = save_state(trained, tmp_path, "")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    trained.images_seen += 8
    with pytest.raises(SnriseError, match="24.safetensors: cannot be written: disk full"):
        save_state(trained, tmp_path, "", keep=1)
    assert latest(tmp_path) == path
    assert read_header(path).images_seen == 16


def flip_bit(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def offset(path, name):
    """Where the bytes of a tensor begin in a checkpoint."""
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    return size + json.loads(content[8:size])[name]["data_offsets"][0]


@pytest.mark.parametrize("part", checkpoint.PARTS)
def test_one_bit_is_noticed(tmp_path, trained, classes, part):
    path = save_state(trained, tmp_path, "")
    name = next(name for name in load_file(path) if name.startswith(part))
    flip_bit(path, offset(path, name))
    untouched = state_of(config(), classes)
    fresh = state_of(config(), classes)
    with pytest.raises(BrokenCheckpoint, match=f"the checksum of its {part} is wrong"):
        load_state(fresh, path)
    assert same(fresh, untouched)


@pytest.mark.parametrize("text", ["images_seen", "name: tiny"])
def test_one_letter_of_the_header_is_noticed(tmp_path, trained, text):
    path = save_state(trained, tmp_path, "name: tiny")
    flip_bit(path, path.read_bytes().index(text.encode()) + 5)
    with pytest.raises(BrokenCheckpoint, match=r"(checksum of its header is wrong|not a whole checkpoint)"):
        read_header(path)


def test_weights_can_be_read_for_sampling_though_the_optimizer_is_damaged(tmp_path, trained):
    path = save_state(trained, tmp_path, "")
    flip_bit(path, offset(path, "optimizer.stem.enter.weight.exp_avg"))
    load_network(trained.network, path)


def test_what_the_optimizer_knows_is_stored_by_the_parameters_name(tmp_path, trained, dataset, classes):
    """So that it does not depend on an order of groups, and an inspector sees whose moment it is."""
    names = {name.rsplit(".", 1)[0] for name in load_file(save_state(trained, tmp_path, "")) if name.startswith("opt")}
    assert names == {f"optimizer.{name}" for name, _ in trained.network.named_parameters()}


def test_moments_that_were_stored_by_number_are_read(tmp_path, trained, classes):
    path = save_state(trained, tmp_path, "")
    order = [name for group in trained.optimizer.param_groups for p in group["params"]
             for name, own in trained.network.named_parameters() if own is p]

    def numbered(tensors):
        for i, name in enumerate(order):
            for key in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"optimizer.{i}.{key}"] = tensors.pop(f"optimizer.{name}.{key}")

    old = edited(path, tmp_path / "old.safetensors", numbered)
    fresh = state_of(config("seed=5"), classes)
    load_state(fresh, old)
    assert same(fresh, trained)


def saved_at(state, folder, *counts, **options):
    for seen in counts:
        state.images_seen = seen
        path = save_state(state, folder, "", **options)
    return path


def test_the_checkpoint_before_a_broken_one_is_used(tmp_path, trained, classes):
    newest = saved_at(trained, tmp_path, 8, 16, 24, keep=3)
    newest.write_bytes(newest.read_bytes()[:1000])
    flip_bit(tmp_path / "000000000016.safetensors", -1)
    fresh = state_of(config(), classes)
    found, broken = load_latest(fresh, tmp_path)
    assert (found.images_seen, fresh.images_seen) == (8, 8)
    assert [line.partition(":")[0] for line in broken] == [str(newest), str(tmp_path / "000000000016.safetensors")]


def test_only_broken_checkpoints_are_an_error_and_none_is_a_beginning(tmp_path, trained):
    assert load_latest(trained, tmp_path) == (None, [])
    path = saved_at(trained, tmp_path, 8)
    path.write_bytes(b"")
    with pytest.raises(SnriseError, match=r"no whole checkpoint: .*000008.safetensors.*; remove them to start anew"):
        load_latest(trained, tmp_path)


def test_every_so_many_images_a_checkpoint_stays(tmp_path, trained):
    saved_at(trained, tmp_path, *range(8, 81, 8), keep=1, keep_every=20)
    assert [int(p.stem) for p in sorted(tmp_path.iterdir())] == [24, 40, 64, 80]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", ["network", "ema"])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, trained, value, part):
    path = saved_at(trained, tmp_path, 16)
    weights = dict(trained.network.named_parameters()) if part == "network" else trained.ema.parameters
    with torch.no_grad():
        weights["norm.weight"][0] = value
    with pytest.raises(SnriseError, match=rf"{part}\.norm\.weight at 24 images: got 'numbers that are not finite'"):
        saved_at(trained, tmp_path, 24, keep=1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, trained, classes):
    resource = pytest.importorskip("resource")
    path = saved_at(trained, tmp_path, 16)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size // 2, before[1]))
    try:
        with pytest.raises(SnriseError, match=r"24\.safetensors: cannot be written: File too large"):
            saved_at(trained, tmp_path, 24, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [path]
    assert load_latest(state_of(config(), classes), tmp_path)[0].images_seen == 16
