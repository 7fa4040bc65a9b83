"""Whatever happens to one of several processes: the others end in a line, and the same command goes on bit for bit.

The moments are drawn from a seed that a failure prints; FAULTS_SEED=… draws them again.
"""

import multiprocessing
import os
import random
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from test_kill import wait_for
from test_parallel import distance, same

import together
from snrise import parallel, runs
from snrise._errors import SnriseError
from snrise.checkpoint import PARTS, read_parts
from snrise.training import checkpoints, latest, read_header
from tiny import DOCUMENT, comparable, objects

pytestmark = pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs fork")

#: How processes share a run, and the settings that say so.
PARALLEL = {"ddp": ()}
IMAGES, BATCH = 240, 8
SETTINGS = ("data.flip=true", "training.class_dropout=0.3", f"training.images={IMAGES}", "log.every=24",
            f"log.checkpoint={BATCH}", "log.samples=40", "log.keep=4")
#: Seconds after which processes give up one that does not answer, where it stops for good.
PATIENCE = 15
GOES_ON = "the same command goes on from what was saved"


class Cut:
    """Data during which this process loses its connections, once it has read the image of a number."""

    def __init__(self, data, number):
        self.data, self.number = data, number

    def __getattr__(self, name):
        return getattr(self.data, name)

    def slices(self, *arguments, **named):
        for batch in self.data.slices(*arguments, **named):
            if self.number in range(batch.position + batch.begin, batch.position + batch.begin + len(batch.images)):
                cut_off()
            yield batch


def cut_off():
    """Shut the sockets of this process."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if not str(descriptor.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(descriptor.name))) as connection:
                listens = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if connection.family in (socket.AF_INET, socket.AF_INET6) and not listens:
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has gone
            pass


def disturbed(arguments, nan=(), unreadable=(), cut=None, patience=None):
    """`snrise` in one of several processes, whose data or network fail at the image of a number."""
    join, batches_of = parallel._join, runs.run.batches_of
    parallel._join = lambda timeout: join(timeout if patience is None else timedelta(seconds=patience))

    def spoilt(data, *more):
        data = together.Spoilt(data, nan, unreadable)
        return batches_of(data if cut is None else Cut(data, cut), *more)

    runs.run.batches_of = spoilt
    together.command(*arguments)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run on some processes, the folder of one that nothing happens to, and what moments are drawn from."""

    home: Path
    size: int
    settings: tuple
    straight: Path
    draw: random.Random

    @property
    def folder(self):
        return self.home / "run"

    @property
    def saved(self):
        return self.folder / "checkpoints"

    def begin(self, folder=None, size=None, nan=(), unreadable=(), cut=None, patience=None):
        """The one command, in processes to which this happens."""
        arguments = ("train", self.home / "tiny.yaml", *self.settings, "--out", folder or self.folder)
        fault = nan, unreadable, cut, patience
        return together.start(self.home / "said", size or self.size, disturbed, arguments, *fault)

    def rank(self):
        return self.draw.randrange(self.size)

    def number(self):
        """Of an image somewhere in the run, not before the first checkpoint nor in the last batch."""
        return self.draw.randrange(2 * BATCH, IMAGES - 2 * BATCH)

    def at_some_moment(self, processes):
        """Wait until a drawn number of images is saved, and some ms."""
        images, more = self.draw.randrange(BATCH, IMAGES // 2), self.draw.uniform(0, 0.1)
        wait_for(lambda: self.saved.is_dir() and any(int(p.stem) >= images for p in checkpoints(self.saved)),
                 processes[0])
        time.sleep(more)
        assert all(process.is_alive() for process in processes)

    def ended(self, processes, line, but=()):
        """All but some have ended, with one line each that has this within."""
        codes = processes.codes()
        for rank in range(self.size):
            if rank not in but:
                said = processes.said(rank)
                assert codes[rank] == 2, said
                assert len(said.splitlines()) == 1, said
                assert said.startswith("error: "), said
                assert line in said, said
        return codes

    def kept(self):
        """The images of the last checkpoint, which is whole and not the end."""
        header = read_header(latest(self.saved))
        assert read_parts(header, PARTS)
        assert 0 < header.images_seen < IMAGES
        return header.images_seen

    def goes_on(self, said=""):
        """The same command ends as the run that nothing happened to, bit for bit."""
        seen = self.kept() if not said else None
        processes = self.begin()
        assert processes.codes() == [0] * self.size, [processes.said(rank) for rank in range(self.size)]
        assert (said or f"going on from {seen:,} images on {self.size} processes (") in processes.said(0, "out")
        assert [processes.said(rank) for rank in range(self.size)] == [""] * self.size
        assert same(self.straight, self.folder)
        for journal in ("log.jsonl", "events.jsonl"):
            assert comparable(self.straight / journal) == comparable(self.folder / journal)
        grids = [self.grids(folder) for folder in (self.straight, self.folder)]
        assert grids[0] == grids[1]

    def grids(self, folder):
        return {grid.name: grid.read_bytes() for grid in (folder / "samples").iterdir()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run on so many processes that nothing happens to."""
    folders = {}

    def train(case):
        key = (case.size, case.settings)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("straight") / "run"
            assert case.begin(folder=folders[key]).codes() == [0] * case.size
        shutil.copytree(folders[key], case.straight)

    return train


@pytest.fixture(params=PARALLEL)
def begun(request, tmp_path, straight):
    """Makes a case of so many processes."""
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"moments of FAULTS_SEED={seed}")
    (tmp_path / "tiny.yaml").write_text(DOCUMENT)

    def begin(size, *more):
        case = Case(home=tmp_path, size=size, settings=(*SETTINGS, *PARALLEL[request.param], *more),
                    straight=tmp_path / "straight", draw=random.Random(seed))
        straight(case)
        return case

    return begin


slow = pytest.mark.slow


@slow
@pytest.mark.parametrize("size", [2, 3])
def test_one_is_killed(begun, size):
    case = begun(size)
    processes, rank = case.begin(), case.rank()
    case.at_some_moment(processes)
    processes[rank].kill()
    codes = case.ended(processes, f"no answer from process {rank}", but=[rank])
    assert codes[rank] == -signal.SIGKILL
    assert all(processes.said(other).endswith(f"{GOES_ON}\n") for other in {*range(size)} - {rank})
    case.goes_on()


@slow
@pytest.mark.parametrize("size", [2, 3])
def test_all_are_killed(begun, size):
    case = begun(size)
    processes = case.begin()
    case.at_some_moment(processes)
    for process in processes:
        process.kill()
    assert processes.codes() == [-signal.SIGKILL] * size
    case.goes_on()


@slow
@pytest.mark.parametrize(("size", "error"), [(2, SnriseError), (4, OSError), (2, OSError)])
def test_one_cannot_read_its_data(begun, size, error):
    case = begun(size)
    number = case.number()
    processes = case.begin(unreadable={number: error(f"image {number} is broken")})
    case.ended(processes, f"image {number} is broken")
    assert sum("stopped because of process" in processes.said(rank) for rank in range(size)) == size - 1
    case.goes_on()


FULL = "No space left on device"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("size", "what"), [
    pytest.param(2, "checkpoint", marks=slow), pytest.param(3, "log", marks=slow), (2, "grid"),
])
def test_the_disk_of_the_one_that_writes_is_full(begun, size, what):
    case = begun(size)
    if what == "log":
        processes, journal, kept = case.begin(), case.folder / "log.jsonl", case.home / "kept"
        case.at_some_moment(processes)
        kept.hardlink_to(journal)
        (case.home / "full").symlink_to("/dev/full")
        (case.home / "full").replace(journal)
        case.ended(processes, f"log.jsonl: cannot be written: {FULL}")
        kept.replace(journal)
    else:
        file = (case.saved / f"{case.number() // BATCH * BATCH:012d}.safetensors" if what == "checkpoint"
                else case.folder / "samples" / f"{40 * case.draw.randrange(1, 6):012d}.png")
        file.parent.mkdir(parents=True)
        file.with_name(f".{file.name}.tmp").symlink_to("/dev/full")
        case.ended(case.begin(), f"{file}: cannot be written: {FULL}")
    case.goes_on()


@slow
@pytest.mark.parametrize(("size", "policy"), [(2, "skip"), (3, "rollback"), (2, "stop")])
def test_one_computes_what_is_not_finite(begun, size, policy):
    """Skipped or rolled back, several end as one process does; stopped, they go on once the fault is gone."""
    case = begun(size, "network.levels.0.dropout=0.0", f"training.on_fault={policy}")
    nan = [case.number()]
    if policy == "stop":
        case.ended(case.begin(nan=nan), "loss or gradient not finite after")
        (case.folder / "events.jsonl").unlink()  # it tells of the fault, which is not in the other
        case.goes_on()
        return
    alone = case.home / "alone"
    for folder, count in ((alone, 1), (case.folder, size)):
        processes = case.begin(nan=nan, folder=folder, size=count)
        assert processes.codes() == [0] * count, processes.said(0)
        assert processes.said(0, "out").count("step dropped: ") == 1
        assert ("rolled back to" in processes.said(0, "out")) == (policy == "rollback")
    assert distance(alone, case.folder) < 1e-5
    ours, theirs = (read_header(latest(folder / "checkpoints")) for folder in (case.folder, alone))
    for name in ("step", "images_seen", "position", "faults"):
        assert getattr(ours, name) == getattr(theirs, name)
    (event,), (of_one,) = (objects(folder / "events.jsonl") for folder in (case.folder, alone))
    for name in ("event", "step", "images_seen", "position", "where", "action"):
        assert event[name] == of_one[name]


@slow
@pytest.mark.parametrize(("size", "first"), [(2, True), (2, False)])
def test_one_stops_answering_for_good(begun, size, first):
    case = begun(size)
    processes, rank = case.begin(patience=PATIENCE), 0 if first else case.draw.randrange(1, size)
    case.at_some_moment(processes)
    os.kill(processes[rank].pid, signal.SIGSTOP)
    try:
        for other in {*range(size)} - {rank}:
            processes[other].join(together.LONG)
            assert processes[other].exitcode == 2
    finally:
        processes[rank].kill()
    case.ended(processes, f"no answer from process {rank}", but=[rank])
    case.goes_on()


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, pytest.param(3, marks=slow)])
def test_the_network_of_one_is_cut(begun, size):
    case = begun(size)
    number = case.number()
    processes = case.begin(cut=number)
    case.ended(processes, "no answer from process")
    case.goes_on()


@pytest.mark.parametrize(("size", "harm"), [
    pytest.param(2, "torn", marks=slow), pytest.param(3, "altered", marks=slow), pytest.param(2, "empty", marks=slow),
])
def test_the_newest_checkpoint_is_harmed_between_restarts(begun, size, harm):
    case = begun(size)
    processes = case.begin()
    case.at_some_moment(processes)
    for process in processes:
        process.kill()
    processes.codes()
    file = latest(case.saved)
    content = bytearray(file.read_bytes())
    place = case.draw.randrange(len(content))
    if harm == "altered":
        content[place] ^= 1 << case.draw.randrange(8)
    file.write_bytes(content[:{"torn": place, "altered": None, "empty": 0}[harm]])
    case.goes_on(f"passed over a broken checkpoint: {file}: ")
