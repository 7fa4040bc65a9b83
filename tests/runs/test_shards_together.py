"""Processes that hold shards train the run of one: bit for bit that of replicas."""

import multiprocessing
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from test_kill import wait_for
from test_parallel import DROPOUT, PLAIN, distance, files, same, trained

import together
from snrise.experiment import Experiment
from snrise.parallel import World
from snrise.runs import Run
from snrise.sharding import in_shards, is_sharded, local, rows
from snrise.training import latest, read_header
from tiny import DOCUMENT, comparable, config, objects

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")

SHARDED = (*PLAIN, "training.parallel=fsdp")


@pytest.mark.parametrize(("size", "near", "more"), [
    pytest.param(2, 0.0, (), id="adamw"),
    pytest.param(2, 0.0, ("training.optimizer=muon", "training.averages=[0.1]"), id="muon", marks=pytest.mark.slow),
    # Sums are of three, or taken in another order.
    pytest.param(3, 1e-5, ("training.accumulate=2", "log.background=true"), id="in parts", marks=pytest.mark.slow),
    # Norms and gates are rounded to bfloat16, too.
    pytest.param(2, 1e-2, ("training.precision=bf16", "training.images=32"), id="bf16", marks=pytest.mark.slow),
])
def test_shards_are_trained_as_replicas_are(tmp_path, size, near, more):
    replicas = trained(tmp_path, "ddp", size, (*PLAIN, *more, "training.parallel=ddp"))
    shards = trained(tmp_path, "fsdp", size, (*SHARDED, *more))
    for of_shard, of_replica in zip(shards, replicas, strict=True):
        for a, b in zip(of_shard["steps"], of_replica["steps"], strict=True):
            assert a["norm"] == pytest.approx(b["norm"], rel=1e-4 + near)
            for name in ("seen", "indices", "logsnr", "fault", "counts"):
                assert a[name] == b[name]
    assert files(tmp_path / "ddp") == files(tmp_path / "fsdp")
    assert distance(tmp_path / "ddp", tmp_path / "fsdp") <= near
    if near:
        return
    assert same(tmp_path / "ddp", tmp_path / "fsdp")
    for path in files(tmp_path / "ddp"):
        if path.endswith(".png"):
            assert (tmp_path / "ddp" / path).read_bytes() == (tmp_path / "fsdp" / path).read_bytes()
    logs = [comparable(tmp_path / name / "log.jsonl") for name in ("ddp", "fsdp")]
    for a, b in zip(*logs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "near"), [("adamw", 1e-5), ("muon", 1e-4)])
def test_shards_may_be_dealt_out_anew_within_a_run(tmp_path, optimizer, near):
    """1 → 2 → 3 → 1 processes, in replicas and in shards, are one process of 50 steps."""
    settings = (*PLAIN, f"training.optimizer={optimizer}", "training.images=400")
    trained(tmp_path, "straight", 1, settings)
    for size, parallel, steps in (
        (1, "ddp", 8), (2, "ddp", 10), (3, "fsdp", 24), (1, "fsdp", None),
    ):
        first, *_ = trained(tmp_path, "run", size, (*settings, f"training.parallel={parallel}"), steps)
    assert any("going on from 336 images" in line for line in first["told"])
    assert distance(tmp_path / "straight", tmp_path / "run") < near
    assert [line["images_seen"] for line in objects(tmp_path / "run" / "log.jsonl")] == [*range(16, 401, 16)]


def held(folder):
    """The bytes that this process holds of a sharded run's state, and of the whole."""
    experiment = Experiment.of(config(*SHARDED))
    with Run(experiment, folder, lambda line: None) as run:
        next(iter(run))
        state = run.state
        assert is_sharded(state.network)
        moments = [t for own in state.optimizer.state.values() for t in own.values() if t.ndim]
        tensors = [*state.network.parameters(), *state.ema.parameters.values(), *moments]
        assert all(map(in_shards, tensors))
        for t in tensors:
            assert len(local(t)) == len(range(t.shape[0])[rows(t.shape[0], run.world.rank, run.world.size)])
        return [sum(local(t).nbytes for t in tensors), sum(t.numel() * t.element_size() for t in tensors)]


@pytest.mark.slow
def test_each_process_holds_its_rows_alone(tmp_path):
    processes = together.start(tmp_path / "said", 2, held, tmp_path / "run")
    assert processes.codes() == [0, 0], processes.said(0)
    (first, whole), (second, _) = processes.noted()
    assert first + second == whole
    assert abs(first - second) < 0.1 * whole


@pytest.mark.slow
def test_processes_with_shards_that_are_killed_go_on_bit_for_bit(tmp_path):
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)
    arguments = ("train", tmp_path / "tiny.yaml", *DROPOUT, "training.parallel=fsdp", "training.images=400", "--out")

    def begin(name):
        return together.start(tmp_path / "said", 2, together.command, *arguments, tmp_path / name)

    assert begin("straight").codes() == [0, 0]
    folder, draw = tmp_path / "killed" / "checkpoints", random.Random()
    for whom in ([1], [0]):
        processes, before = begin("killed"), latest(folder)
        wait_for(lambda before=before: latest(folder) != before, processes[0])
        time.sleep(draw.uniform(0, 0.1))
        for rank in whom:
            processes[rank].kill()
        assert processes.codes() == [-signal.SIGKILL if rank in whom else 2 for rank in range(2)]
        for rank in {0, 1} - set(whom):
            (line,) = processes.said(rank).splitlines()
            assert line.startswith(f"error: process {rank} of 2: no answer from process {1 - rank}: killed")
    assert read_header(latest(folder)).images_seen < 400
    assert begin("killed").codes() == [0, 0]
    assert same(tmp_path / "straight", tmp_path / "killed")
    assert comparable(tmp_path / "straight" / "log.jsonl") == comparable(tmp_path / "killed" / "log.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_number_that_is_not_finite_drops_the_step_in_all_shards(tmp_path, policy):
    settings = (*SHARDED, f"training.on_fault={policy}")
    (alone,) = trained(tmp_path, "1", 1, settings, None, [22])
    noted = trained(tmp_path, "2", 2, settings, None, [22])
    for note in noted:
        assert [bool(step["fault"]) for step in note["steps"]] == [bool(step["fault"]) for step in alone["steps"]]
        assert note["steps"][2]["fault"].startswith("output of ")
    assert distance(tmp_path / "1", tmp_path / "2") < 1e-5


def weight_spoilt():
    """Where the fault is said to be if one row of a weight is not finite, in one process."""
    experiment = Experiment.of(config(*SHARDED))
    world = World.from_environment()
    with Run(experiment, "run", lambda line: None) as run:
        if world.rank == 1:
            with torch.no_grad():
                local(dict(run.state.network.named_parameters())["stem.leave.bias"])[-1:] = torch.nan
        return next(iter(run)).fault


@pytest.mark.slow
def test_a_weight_that_is_not_finite_in_one_process_is_named_by_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    processes = together.start(tmp_path / "said", 2, weight_spoilt)
    assert processes.codes() == [0, 0], [processes.said(rank) for rank in range(2)]
    assert processes.noted() == ["weight stem.leave.bias"] * 2


def small_files(folder):
    """A sharded run whose first process may write no file larger than its smallest."""
    import resource

    experiment = Experiment.of(config(*SHARDED))
    with Run(experiment, folder, lambda line: None) as run:
        for number, _ in enumerate(run, 1):
            if number == 2:
                break
        run.save()
        if run.world.leads:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        for number, _ in enumerate(run, 1):
            if number == 2:
                break
        run.save()


@pytest.mark.slow
def test_a_full_disk_of_the_one_that_writes_is_told_by_all_and_the_last_checkpoint_stays(tmp_path):
    processes = together.start(tmp_path / "said", 2, small_files, tmp_path / "run")
    assert processes.codes() == [2, 2]
    assert processes.said(0) == processes.said(1)
    (line,) = processes.said(0).splitlines()
    assert "cannot be written: File too large" in line
    (file,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert read_header(file).images_seen == 16
    assert load_file(file)


def fitting(memory):
    """Whether shards are chosen for a device of so many bytes for each process."""
    from snrise import planning
    from snrise.runs.joint import sharded

    here = planning.Device(title="here", memory=memory, gpu=True)
    planning.device = lambda name: here
    return sharded(Experiment.of(config(*PLAIN)), World.from_environment())


@pytest.mark.slow
@pytest.mark.parametrize(("gib", "shards"), [(80, False), (1.001, True)])
def test_by_default_a_run_is_sharded_where_no_replica_fits(tmp_path, gib, shards):
    processes = together.start(tmp_path / "said", 2, fitting, int(gib * 2**30))
    assert processes.codes() == [0, 0], processes.said(0)
    assert processes.noted() == [shards, shards]


