"""The app in Debian's Chromium: it does what it says, asks no other machine for anything, and names every control."""

import base64
import re
import shlex
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser import CHROMIUM, chromium
from snrise import app
from snrise._errors import SnriseError
from snrise.app import jobs
from snrise.app.jobs import Job, Order
from snrise.app.shelf import Shelf
from snrise.config import to_yaml
from tiny import command, config, fails, saved_run

pytest.importorskip("gradio")
pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

from snrise.app import tabs  # noqa: E402  which imports gradio

NAMES = ["activities", "flags", "symbols"]
#: Milliseconds that the slowest thing may take on a busy machine; nothing waits so long if all is well.
LONG = 60_000


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs: one with classes, one without, one that has logged something, one that has no weights."""
    made = tmp_path_factory.mktemp("runs")
    (made / "tiny.yaml").write_text(to_yaml(config()), encoding="utf-8")
    command("train", made / "tiny.yaml", "--out", made / "logged")
    saved_run(made / "classes", config("name=classes", "sampling.steps=3"), NAMES)
    saved_run(made / "plain", config("name=plain", "sampling.steps=3"))
    (made / "empty").mkdir()
    (made / "empty" / "config.yaml").write_text(to_yaml(config("name=empty")), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def names(folder):
    return [str(folder / name) for name in ("classes", "plain", "logged", "empty")]


@pytest.fixture(scope="module")
def served(names):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabs, "CURVES_EVERY", 0.5)
        patch.setattr(tabs, "EVERY", 0.0)
        running = app.serve(names, device="cpu", port=free_port())
        yield running
        running.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def shown(browser, served):
    """A function: options of a context -> the page, shown; errors and requests to other machines fail the test."""
    wrong, contexts = [], []

    def here(url):
        return urlsplit(url).hostname == "127.0.0.1" or url.startswith(("data:", "blob:", "about:"))

    def judge(route):
        if here(route.request.url):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    def show(**options):
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1280, "height": 1000}, **options})
        context.set_default_timeout(LONG)
        contexts.append(context)
        context.route("**/*", judge)
        view = context.new_page()
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda request: None if here(request.url) else wrong.append(request.url))
        view.goto(served.local_url)
        view.get_by_role("button", name="Sample", exact=True).wait_for()
        return view

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def gate(monkeypatch):
    """Lets a step of any job pass only when it is told to; counts steps, and the jobs that are at one."""

    class Gate:
        def __init__(self):
            self.steps, self.at_once, self.most = 0, 0, 0
            self.open, self.closed, self.reached = (threading.Semaphore(0) for _ in range(3))

        def free(self):
            self.open.release(10_000)

    made, moments = Gate(), Job.moments

    def watched(job):
        try:
            for moment in moments(job):
                made.at_once += 1
                made.most = max(made.most, made.at_once)
                made.steps += 1
                made.reached.release()
                made.open.acquire()
                made.at_once -= 1
                yield moment
        finally:
            made.closed.release()

    monkeypatch.setattr(Job, "moments", watched)
    yield made
    made.free()


def tab(view, name):
    view.get_by_role("tab", name=name, exact=True).click()


def choose(view, label, option):
    box = view.get_by_label(label, exact=True)
    box.click()
    view.get_by_role("option", name=option, exact=True).click()


def number(view, label, value):
    box = view.get_by_label(f"number input for {label}", exact=True)
    box.fill(str(value))
    box.press("Tab")


def press(view, name):
    view.get_by_role("button", name=name, exact=True).click()


def picture(view, text):
    """The bytes of a picture whose description begins so."""
    beginning = re.escape(text).replace("/", r"\/")  # which a pattern of JavaScript would end at
    image = view.get_by_role("img", name=re.compile(f"^{beginning}")).first
    image.wait_for()
    return base64.b64decode(image.get_attribute("src").partition("base64,")[2])


def said(view, text, role="status"):
    """Wait for a line that holds a text; the line."""
    line = view.get_by_role(role).filter(has_text=re.compile(text)).filter(visible=True).first
    line.wait_for()
    return line.inner_text()


def value(view, label):
    return view.get_by_label(label, exact=True).input_value()


def typed(view, label):
    """The box of a label, which goes on with what it is for."""
    return view.get_by_role("textbox", name=re.compile(f"^{label}"))


def commanded(view, name="Command"):
    return view.get_by_role("textbox", name=name, exact=True).input_value()


# Sampling


def test_pictures_come_about_and_are_those_of_the_command(shown, names, tmp_path):
    view = shown()
    choose(view, "Classes", "flags")
    number(view, "Steps", 2)
    number(view, "Guidance", 1.5)
    number(view, "Pictures", 3)
    view.get_by_label("Seed", exact=True).fill("7")
    press(view, "Sample")
    png = picture(view, "3 pictures of flags, seed 7")
    said(view, "2 steps done")
    order = Order(run=names[0], number=3, seed=7, classes=("flags",), steps=2, guidance=1.5)
    job = Job.of(order, Shelf.of(names, "cpu"))
    assert png == job.png([*job.moments()][-1])
    assert commanded(view) == job.command
    command(*shlex.split(commanded(view))[1:], "--out", tmp_path / "again.png")
    assert png == (tmp_path / "again.png").read_bytes()
    with view.expect_download() as waiting:
        press(view, "Save PNG")
    assert waiting.value.suggested_filename == "samples-7.png"
    assert Path(waiting.value.path()).read_bytes() == png


def test_states_are_shown_on_the_way(shown, gate):
    view = shown()
    press(view, "Sample")
    for done in range(3):
        gate.open.release()
        assert picture(view, f"Noisy z and its estimate x̂ of 4 pictures, step {done} of 3").startswith(b"\xff\xd8")
        assert f"step {done} of 3" in said(view, "step")
    gate.free()
    picture(view, "4 pictures, seed 0")


def test_a_job_is_cancelled_between_steps_and_the_next_begins(shown, gate):
    view = shown()
    number(view, "Steps", 200)
    press(view, "Sample")
    for _ in range(2):
        gate.open.release()
    said(view, "step 1 of 200")
    press(view, "Cancel")
    said(view, "stopped")
    gate.open.release()
    assert gate.closed.acquire(timeout=60)
    assert gate.steps == 3
    gate.free()
    number(view, "Steps", 2)
    press(view, "Sample")
    picture(view, "4 pictures, seed 0")
    assert "2 steps done" in said(view, "done")
    assert gate.most == 1


def test_two_browsers_wait_for_each_other(shown, gate):
    first, second = shown(), shown()
    press(first, "Sample")
    said(first, "loading")
    press(second, "Sample")
    second.get_by_text(re.compile("queue: 1/1")).first.wait_for()
    for _ in range(8):
        assert gate.reached.acquire(timeout=60)
        assert gate.at_once == 1
        gate.open.release()
    for view in (first, second):
        picture(view, "4 pictures, seed 0")
    assert gate.most == 1


def test_a_job_whose_browser_has_gone_lets_the_next_begin(shown, gate):
    view, other = shown(), shown()
    number(view, "Steps", 200)
    press(view, "Sample")
    assert gate.reached.acquire(timeout=60)
    view.close()
    for _ in range(150):
        gate.open.release()
        if gate.closed.acquire(timeout=0.2):
            break
    assert gate.steps < 200
    gate.free()
    press(other, "Sample")
    picture(other, "4 pictures, seed 0")


def test_errors_are_one_line_and_the_app_goes_on(shown, names, monkeypatch):
    view = shown()
    choose(view, "Run", names[3])
    press(view, "Sample")
    line = said(view, "error: .*no checkpoint", "alert")
    assert "\n" not in line
    choose(view, "Run", names[1])
    with monkeypatch.context() as patch:
        patch.setattr(Job, "of", lambda order, shelf: (_ for _ in ()).throw(RuntimeError("first <b>\nsecond")))
        press(view, "Sample")
        assert said(view, "RuntimeError", "alert") == "error: RuntimeError: first <b>"
    press(view, "Sample")
    picture(view, f"4 pictures, seed 0, of {names[1]}")
    assert "Traceback" not in view.content()


def test_controls_follow_the_run(shown, names):
    view = shown()
    assert view.get_by_label("Classes", exact=True).is_visible()
    assert "16×16 px, 3 classes; UViT, predicts v" in view.content()
    assert value(view, "number input for Steps") == "3"
    choose(view, "Run", names[1])
    view.get_by_label("Classes", exact=True).wait_for(state="hidden")
    view.get_by_text("this run has no classes to guide by").first.wait_for()
    assert view.get_by_label("number input for Guidance", exact=True).is_disabled()


# Comparing, curves, plans


def test_two_settings_on_the_same_noise(shown, names):
    view = shown()
    tab(view, "Compare")
    choose(view, "Run B", names[0])
    for label, steps, guidance in (("A", 2, 1), ("B", 3, 2)):
        number(view, f"Steps {label}", steps)
        number(view, f"Guidance {label}", guidance)
    press(view, "Compare")
    line = said(view, "difference")
    found = [base64.b64decode(image.get_attribute("src").partition("base64,")[2])
             for image in view.get_by_role("img", name=re.compile("^4 pictures, seed 0")).all()]
    shelf = Shelf.of(names, "cpu")
    wanted = [Job.of(Order(run=names[0], steps=steps, guidance=guidance), shelf)
              for steps, guidance in ((2, 1.0), (3, 2.0))]
    ends = [[*job.moments()][-1] for job in wanted]
    assert found == [job.png(end) for job, end in zip(wanted, ends, strict=True)]
    assert [commanded(view, f"Command {label}") for label in "AB"] == [job.command for job in wanted]
    assert line.strip() == jobs.difference(*(end.state for end in ends))


def test_curves_are_drawn_and_follow_the_log(shown, names):
    view = shown()
    tab(view, "Curves")
    press(view, "Show")
    view.get_by_text("weights alone: no logs").wait_for()
    choose(view, "Run of the curves", names[3])
    view.get_by_text("nothing is logged yet").wait_for()
    choose(view, "Run of the curves", names[2])
    before = picture(view, "Curves of tiny")
    assert before.startswith(b"\x89PNG")
    view.get_by_role("rowheader", name="images seen").wait_for()
    assert "64 of 64" in view.content()
    assert commanded(view) == f"snrise show {names[2]}"
    view.get_by_role("checkbox", name=re.compile("^Live")).check()
    log = Path(names[2]) / "log.jsonl"
    log.write_text(log.read_text().replace('"images_seen": 64', '"images_seen": 60'))
    view.get_by_text("60 of 64").wait_for()
    assert picture(view, "Curves of tiny") != before


@pytest.mark.slow
def test_a_plan(shown):
    view = shown()
    tab(view, "Plan")
    choose(view, "Recipe or run", "emoji-64-stem")
    typed(view, "Resolution").fill("128x64")
    typed(view, "Images in a step").fill("8")
    choose(view, "Device", "a100")
    press(view, "Plan")
    assert picture(view, "Levels and memory of emoji-64-stem: UViT at 128x64, batch 8").startswith(b"\x89PNG")
    view.get_by_role("rowheader", name="a million images").wait_for()
    assert commanded(view) == "snrise plan emoji-64-stem --resolution 128x64 --batch 8 --device a100"
    typed(view, "Resolution").fill("wide")
    press(view, "Plan")
    assert said(view, "error", "alert").startswith("error: --resolution: ")


# The page itself

#: Roles of what is operated.
CONTROLS = {"button", "checkbox", "combobox", "link", "listbox", "menuitem", "radio", "searchbox", "slider",
            "spinbutton", "switch", "tab", "textbox"}
NAMED = {
    "Sample": {"Run", "Steps", "Guidance", "Sampler", "Grid of λ", "Pictures", "Seed", "Classes", "Sample",
               "Cancel"},
    "Compare": {"Run A", "Run B", "Steps A", "Steps B", "Guidance A", "Sampler B", "Grid of λ A", "Compare",
                "Cancel", "Seed"},
    "Curves": {"Run of the curves", "Live", "Show", },
    "Plan": {"Recipe or run", "Resolution", "Images in a step", "Device", "Plan"},
}
#: What a job adds.
MADE = {"Sample": {"Command", "Copy Command", "Save PNG"}, "Compare": {"Command A", "Copy Command B", "Save PNG"},
        "Curves": {"Command"}, "Plan": {"Command"}}


def controls(view):
    """Role and name of everything that is operated, as assistive software is told."""
    session = view.context.new_cdp_session(view)
    session.send("Accessibility.enable")
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    return [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in nodes
            if not node["ignored"] and node.get("role", {}).get("value") in CONTROLS]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_the_accessibility_tree_names_every_control(shown, name):
    """Before a job, and after it, with what it shows."""
    view = shown()
    tab(view, name)
    button = "Show" if name == "Curves" else name
    view.get_by_role("button", name=button, exact=True).wait_for()
    for wanted in (NAMED[name], NAMED[name] | MADE[name]):
        found = controls(view)
        assert [role for role, told in found if not told] == []
        told = [told for _, told in found]
        assert [one for one in wanted if not any(one in each for each in told)] == []
        assert view.locator("img:visible:not([alt])").count() == 0
        press(view, button)
        view.get_by_role("textbox", name=re.compile("^Command")).first.wait_for()
        if name in ("Sample", "Compare"):
            view.get_by_role("button", name="Save PNG").nth(int(name == "Compare")).wait_for()


def test_the_command_is_copied(shown):
    view = shown(permissions=["clipboard-read", "clipboard-write"])
    tab(view, "Curves")
    press(view, "Show")
    press(view, "Copy Command")
    view.get_by_text("Copied").wait_for()
    assert view.evaluate("() => navigator.clipboard.readText()") == commanded(view)


def test_on_a_phone_nothing_is_wider_than_the_screen(shown):
    view = shown(viewport={"width": 390, "height": 844})
    number(view, "Steps", 2)
    press(view, "Sample")
    picture(view, "4 pictures, seed 0")
    assert view.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_it_is_bound_to_this_machine_and_asks_no_other(names, monkeypatch):
    asked, real = set(), socket.getaddrinfo

    def watched(host, *rest, **named):
        asked.add(host)
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    running = app.serve(names, device="cpu", port=free_port())
    try:
        assert running.local_url.startswith("http://127.0.0.1:")
        assert running.share is False
        assert running.share_url is None
        assert running.analytics_enabled is False
    finally:
        running.close(verbose=False)
    assert {host.decode() if isinstance(host, bytes) else host for host in asked} <= {"127.0.0.1", "localhost", None}


def test_a_port_that_is_taken(names, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = fails(monkeypatch, capsys, "app", names[1], "--port", port)
    assert said.startswith(f"--port: got {port}; not free at 127.0.0.1: ")


def test_it_is_mounted_in_an_app_of_ones_own(names):
    fastapi, client = pytest.importorskip("fastapi"), pytest.importorskip("fastapi.testclient")
    import gradio

    whole = gradio.mount_gradio_app(fastapi.FastAPI(), app.page(names), path="/pictures", **app.looks())
    with client.TestClient(whole) as asked:
        assert "snrise" in asked.get("/pictures/").text


def test_runs_that_are_none_are_refused():
    with pytest.raises(SnriseError, match="nothing: got 'no checkpoint'"):
        app.page(["nothing"])
