"""Sums, copies and small messages between processes, and the trivial world of one."""

import pytest
import torch

import together
from snrise import parallel
from snrise._errors import SnriseError
from snrise.parallel import ALONE, World, beside, share


def test_shares_are_even_and_whole():
    for count in range(1, 40):
        for size in range(1, count + 1):
            shares = [share(count, rank, size) for rank in range(size)]
            assert [i for part in shares for i in part] == [*range(count)]
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_jobs_are_dealt_out_in_turn():
    for size in (2, 3):
        rounds = [[*World(rank=rank, size=size).rounds(range(7))] for rank in range(size)]
        assert [len(of_rank) for of_rank in rounds] == [-(-7 // size)] * size
        for of_round in zip(*rounds, strict=True):
            assert all([*of_all] == [mine for mine, _ in of_round if mine is not None] for _, of_all in of_round)
        assert [job for _, of_all in rounds[0] for job in of_all] == [*range(7)]
        assert [*World(size=size).rounds([])] == []


def test_one_process_is_alone_and_does_nothing(monkeypatch):
    for size in (None, "1"):
        if size is not None:
            monkeypatch.setenv("WORLD_SIZE", size)
        assert World.from_environment() == ALONE
    tensor = torch.ones(2, 3)
    ALONE.sum_([tensor])
    ALONE.copy_([tensor])
    assert ALONE.joined(tensor, 0, 3) is tensor
    assert tensor.eq(1).all()
    assert (ALONE.gathered("a"), ALONE.first(lambda: 3), ALONE.largest(2)) == (["a"], 3, 2)
    assert ALONE.quiet(print) is print
    assert (ALONE.parts({"a": tensor}), ALONE.parts(None)) == ([{"a": tensor}], [])
    assert [*ALONE.rounds([1, 2])] == [(1, [1]), (2, [2])]
    ALONE.agree("here", {"this": "mine"})
    assert beside() == 1


@pytest.mark.parametrize(("variables", "told"), [
    ({"WORLD_SIZE": "2"}, "RANK: got None; allowed: the variables that torchrun sets, as WORLD_SIZE is set; start it"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE: got 'two'; allowed: a whole number, as torchrun sets it"),
])
def test_an_environment_that_is_not_torchruns_is_refused(monkeypatch, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SnriseError, match=told):
        World.from_environment()


def test_a_process_has_its_own_gpu():
    second = World(rank=5, size=8, local=1)
    assert second.device(torch.device("cuda")) == torch.device("cuda:1")
    assert second.device(torch.device("cuda:0")) == torch.device("cuda:0")
    assert second.device(torch.device("cpu")) == torch.device("cpu")
    assert ALONE.device(torch.device("cuda")) == torch.device("cuda")
    assert second.quiet(print) is not print


def exchanged():
    parallel.BUCKET = 100  # several buckets
    world = World.from_environment()
    assert world == World.from_environment()
    mine = [torch.full((2, 3, 4, 4), world.rank + 1.0).to(memory_format=torch.channels_last), torch.arange(5.0),
            torch.full((3,), world.rank, dtype=torch.int64), torch.tensor(float("nan") if world.rank == 1 else 1.0)]
    world.sum_(mine)
    copied = torch.full((4, 2), float(world.rank)).T
    world.copy_([copied])
    given = None if world.rank == 1 else {
        "a": torch.arange(6.0, dtype=torch.bfloat16).view(2, 3)[:, : 2 - world.rank // 2].T, "b": torch.empty(0, 4),
        "c": torch.tensor(world.rank == 2), "d": torch.tensor([float("nan"), -0.0, 2.0**-1060], dtype=torch.float64),
    }
    parts = [{name: [str(t.dtype), str(t.tolist()), list(t.shape)] for name, t in told.items()}
             for told in world.parts(given)]
    part = torch.tensor([[float("inf"), 2.0**40 + world.rank]], dtype=torch.float64)
    joined = world.joined(part, 2 * world.rank, 2 * world.size)
    told = []
    world.quiet(told.append)("a line")
    try:
        world.first(failing)
    except SnriseError as error:
        told.append(str(error))
    world.agree("here", {"this": "alike"})
    for text in ("mine", "x" * 100):
        try:
            world.agree("here", {"this": text + str(world.rank // 2)})
        except SnriseError as error:
            told.append(str(error))
    return {
        "sums": [t.flatten().unique().tolist() for t in mine], "copied": copied.unique().tolist(),
        "parts": parts, "nothing": world.parts(None), "joined": joined[0].tolist(), "told": told,
        "largest": world.largest(world.rank * 3),
        "gathered": world.gathered({"é" * world.rank: [world.rank]}), "first": world.first(lambda: world.rank),
    }


def failing():
    raise SnriseError("the disk is full")


def test_what_processes_exchange(tmp_path):
    processes = together.start(tmp_path, 3, exchanged)
    assert processes.codes() == [0, 0, 0], processes.said(0)
    noted = processes.noted()
    fix = "every process needs the same script, settings and data, and a folder that all of them see"
    told = ["the disk is full", *(
        f"here: this of process 2: got {got!r}; allowed: {allowed}, as in process 0; {fix}"
        for got, allowed in (("mine1", "mine0"), ("others", "the same"))
    )]
    assert [note.pop("told") for note in noted] == [["a line", *told], told, told]
    sent = [{"a": ["torch.bfloat16", a, shape], "b": ["torch.float32", "[]", [0, 4]], "c": ["torch.bool", c, []],
             "d": ["torch.float64", "[nan, -0.0, 8.095e-320]", [3]]}
            for a, shape, c in (("[[0.0, 3.0], [1.0, 4.0]]", [2, 2], "False"), ("[[0.0, 3.0]]", [1, 2], "True"))]
    for note in noted:
        sums = note.pop("sums")
        assert sums[:3] == [[6.0], [0.0, 3.0, 6.0, 9.0, 12.0], [3]]
        assert str(sums[3]) == "[nan]"
        numbers = torch.tensor([[torch.inf, 2.0**40 + rank] for rank in range(3)], dtype=torch.float64)
        assert note == {
            "copied": [0.0], "joined": numbers.flatten().tolist(), "largest": 6,
            "parts": sent, "nothing": [],
            "gathered": [{"": [0]}, {"é": [1]}, {"éé": [2]}], "first": 0,
        }
