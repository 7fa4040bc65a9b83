"""Processes that train together in a test, and what they write down of it."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch

from snrise import cli
from snrise._errors import SnriseError
from snrise.data import to_float
from snrise.experiment import Experiment
from snrise.parallel import World
from snrise.runs import Run
from tiny import config, scramble

#: Seconds after which a process that should have ended hangs.
LONG = 240
PRELOADED = ["together", "own"]


class Processes(list):
    """Processes by rank, and the folder with what they printed."""

    def __init__(self, processes, folder):
        super().__init__(processes)
        self.folder = folder

    def codes(self):
        """Wait for all; their exit codes."""
        for process in self:
            process.join(LONG)
        hanging = [process for process in self if process.is_alive()]
        for process in hanging:
            process.kill()
        assert not hanging
        return [process.exitcode for process in self]

    def said(self, rank, stream="err"):
        return (self.folder / f"{rank}.{stream}").read_text()

    def noted(self):
        """What each wrote down."""
        return [json.loads((self.folder / f"{rank}.json").read_text()) for rank in range(len(self))]


def start(folder, size, function, *arguments):
    """Start so many processes, each of which calls the function with its rank's file to write down things."""
    context = multiprocessing.get_context("forkserver")
    # Its server finds modules to import by this alone; without it, each process would import them anew.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    context.set_forkserver_preload(PRELOADED)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(target=_work, args=(folder, rank, size, port, function, arguments)) for rank in range(size)
    ]
    for process in processes:
        process.start()
    return Processes(processes, folder)


def wait_for(condition, process):
    """Until it holds, the process has ended, or a minute is over."""
    until = time.monotonic() + 60
    while not condition() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.0005)


def _work(folder, rank, size, port, function, arguments):
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "COLUMNS": "500"}
    scramble(1000 + rank)
    with contextlib.ExitStack() as stack:
        for name, number, redirect in (("out", 1, contextlib.redirect_stdout), ("err", 2, contextlib.redirect_stderr)):
            file = stack.enter_context((folder / f"{rank}.{name}").open("w", buffering=1))
            stack.enter_context(redirect(file))
            os.dup2(file.fileno(), number)  # what libraries print too
        try:
            noted = function(*arguments)
        except SnriseError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        (folder / f"{rank}.json").write_text(json.dumps(noted))


def command(*arguments):
    """`snrise` with these arguments."""
    sys.argv = ["snrise", *map(str, arguments)]
    cli.main()


class Spoilt:
    """Data of which some images of the stream are not a number, and reading others raises these errors, by number."""

    def __init__(self, data, numbers, unreadable):
        self.data, self.numbers, self.unreadable = data, numbers, unreadable

    def __getattr__(self, name):
        return getattr(self.data, name)

    def batches(self, *arguments, **named):
        return map(self._spoilt, self.data.batches(*arguments, **named))

    def slices(self, *arguments, **named):
        return map(self._spoilt, self.data.slices(*arguments, **named))

    def _spoilt(self, batch):
        first = batch.position + batch.begin
        for number in range(first, first + len(batch.images)):
            if number in self.unreadable:
                raise self.unreadable[number]
            if number in self.numbers:
                batch = batch._replace(images=to_float(batch.images))
                batch.images[number - first] = torch.nan
        return batch


def train(folder, settings, steps=None, nan=(), unreadable=()):
    """Train a run, or some steps of it; what each step saw, and what its report says."""
    experiment = Experiment.of(config(*settings))
    seen, steps_seen, told = [], [], []

    def looked(module, inputs):
        if not torch.is_grad_enabled():  # grids of samples
            return
        z, logsnr, labels = inputs
        seen.extend([hashlib.sha1(one.numpy().tobytes()).hexdigest(), level.item(), label.item()]
                    for one, level, label in zip(z.detach(), logsnr, labels, strict=True))

    with Run(experiment, folder, told.append) as run:
        run.data = Spoilt(run.data, nan, unreadable)
        hook = experiment.network.register_forward_pre_hook(looked)
        for number, report in enumerate(run, 1):
            steps_seen.append({
                "seen": list(seen), "indices": report.indices, "logsnr": report.logsnr.tolist(), "loss": report.loss,
                "losses": report.eps_losses.tolist(), "norm": report.grad_norm, "fault": report.fault,
                "counts": [report.step, report.images_seen, report.position, report.batch],
            })
            seen.clear()
            if number == steps:
                break
        hook.remove()
        run.save()
        run.draw()
    return {"steps": steps_seen, "told": told, "rank": run.world.rank}


def world():
    """The world of this process."""
    return World.from_environment()
