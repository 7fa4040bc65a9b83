"""What long commands say on their way: on a terminal, and in a file."""

import io
import itertools
import re
import threading
import time

import pytest
from rich.console import Console

from snrise.cli.progress import Watch, watched


def console(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, soft_wrap=not terminal, highlight=False)


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)


def test_without_a_terminal_lines_come_by_the_clock(monkeypatch):
    """The first after one time, the others after another, also while nothing is done."""
    waits = []
    wait = threading.Event.wait
    monkeypatch.setattr(threading.Event, "wait",
                        lambda self, timeout=None: (waits.append(timeout), wait(self, timeout))[1])
    out = console(terminal=False)
    with watched(out, 400, first=0.01, every=0.02) as watch:
        watch(100, note="loss 0.5")
        wait_for(lambda: out.file.getvalue().count("\n") >= 3)
    asked = [w for w in waits if w in (0.01, 0.02)]
    assert asked[:3] == [0.01, 0.02, 0.02]
    line = r"100 of 400 images, loss 0\.5, [\d.]+ images/s, [\d.]+ (s|min|h) left"
    assert re.fullmatch(line, out.file.getvalue().splitlines()[-1])


def test_a_short_job_says_nothing():
    out = console(terminal=False)
    with watched(out, 4) as watch:
        watch(4)
    assert out.file.getvalue() == ""


def test_on_a_terminal_there_is_a_bar():
    out = console(terminal=True)
    with watched(out, 400, name="judging", transient=False) as watch:
        watch(300, note="loss 0.5")
    shown = out.file.getvalue()
    for text in ("judging", "75%", "300 of 400 images", "loss 0.5", "images/s"):
        assert text in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_comes_through_and_ends_the_thread(terminal):
    before = threading.active_count()
    with pytest.raises(KeyError), watched(console(terminal), 4):
        raise KeyError
    assert threading.active_count() == before


def test_lines(monkeypatch):
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = Watch("samples", None, "images", 10)
    assert str(Watch("", 64.0, "steps", 0)) == "0 of 64 steps"
    watch(30.5, total=100, note="x")
    assert re.fullmatch(r"samples: 30 of 100 images, x, \d\.\d images/s, \d+ s left", str(watch))
