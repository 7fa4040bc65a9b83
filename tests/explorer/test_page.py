"""The page in Debian's Chromium: its numbers are Python's, its controls work, and nothing leaves the machine."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from browser import CHROMIUM, chromium
from snrise import weightings
from snrise._errors import SnriseError
from snrise.diagnostics import diagnose
from snrise.explorer import KINDS, page
from snrise.schedules import (
    Cosine,
    FlowMatching,
    LinearBeta,
    LogNormal,
    UniformLogSnr,
    UniformPower,
    ZeroTerminalSnr,
    density,
    interpolated_for_resolution,
)
from tiny import command, fails

pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

BASES = {
    "cosine": Cosine(), "offset": Cosine(offset=0.008), "open": Cosine(logsnr_min=None, logsnr_max=None),
    "narrow": Cosine(logsnr_min=-9.0, logsnr_max=7.0), "beta": LinearBeta(), "uniform": UniformLogSnr(),
    "normal": LogNormal(), "flow": FlowMatching(),
}
SIZES = [((512, 512), (64, 64), None), ((96, 160), (64, 48), None), ((256, 256), (128, 128), (32, 32))]
T = [0.0, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0]


@pytest.fixture(scope="module")
def browser():
    with chromium() as made:
        yield made


@pytest.fixture
def shown(browser, tmp_path):
    """A function: a page's text, and options of its context -> the page, shown; errors and requests fail the test."""
    wrong, contexts = [], []

    def show(html, **options):
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(**{"locale": "en-GB", **options})
        contexts.append(context)
        context.route("**/*", lambda route: route.continue_() if _here(route.request.url) else _refused(route))
        view = context.new_page()
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        view.goto(file.as_uri())
        view.wait_for_selector("#rows canvas")
        return view

    def _refused(route):
        wrong.append(route.request.url)
        route.abort()

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


def _here(url):
    return url.startswith(("file:", "data:", "blob:"))


def told(base, image, reference, noisy, ends, zero):
    """The settings as the page's own function takes them."""
    given = json.loads(re.search(r"const GIVEN = (.*);</script>", page(base))[1])
    (kind, settings), = given["settings"].items()
    return {"kind": kind, "settings": settings, "image": image, "reference": reference, "noisyReference": noisy,
            "ends": ends, "zero": zero}


def ours(base, image, reference, noisy, ends, zero):
    schedule = interpolated_for_resolution(base, image, reference, noisy or reference, ends=ends)
    return ZeroTerminalSnr(base=schedule) if zero else schedule


def grid():
    """Every schedule at every size, with ends that move or stay, with zero terminal SNR or without."""
    for base, (image, reference, noisy), ends, zero in itertools.product(
        BASES.values(), SIZES, ("move", "stay"), (False, True)
    ):
        if ends == "move" or isinstance(base, Cosine | UniformLogSnr):
            yield base, image, reference, noisy, ends, zero


@pytest.mark.slow
def test_its_schedules_are_those_of_python(shown):
    cases = list(grid())
    view = shown(page())
    found = view.evaluate(
        """([cases, t]) => cases.map((told) => {
            const s = snrise.schedule(told);
            return [t.map((x) => String(s.at(x))), t.map((x) => String(snrise.density(s, x)))];
        })""", [[told(*case) for case in cases], T])
    assert len(cases) == 78
    t = torch.tensor(T, dtype=torch.float64)
    for case, (logsnrs, densities) in zip(cases, found, strict=True):
        schedule = ours(*case)
        wanted = schedule(t)
        assert_close(_numbers(logsnrs), wanted, rtol=1e-7, atol=1e-6, msg=lambda text, case=case: f"{case}: {text}")
        inner = slice(1, -1)
        assert_close(_numbers(densities)[inner], -1 / schedule.derivative(t)[inner], rtol=1e-5, atol=1e-9)
        assert_close(_numbers(densities)[inner], density(schedule, wanted[inner]), rtol=1e-3, atol=1e-6)


def _numbers(texts):
    return torch.tensor([float(text.replace("Infinity", "inf")) for text in texts], dtype=torch.float64)


PROBLEMS = {
    "not_decreasing": "does not decrease", "not_smooth": "jumps", "noisy_start": "t = 0 is still noisy",
    "clean_end": "t = 1 is not yet noise", "too_easy_shift": "with the resolution",
    "too_easy": "shift the schedule down", "too_noisy": "too noisy",
}


def test_its_verdicts_are_those_of_python(shown):
    cases = [(Cosine(), size, (64, 64), None, ends, zero)
             for size in ((64, 64), (512, 512), (16, 16)) for ends in ("move", "stay") for zero in (False, True)]
    cases += [(base, (256, 256), (64, 64), None, "move", False) for base in BASES.values()]
    cases += [(Cosine(), (256, 256), (32, 32), (256, 256), "move", False),
              (Cosine(logsnr_max=6.0), (64, 64), (64, 64), None, "move", False)]
    cases += [(UniformLogSnr(logsnr_min=low, logsnr_max=high), (64, 64), (64, 64), None, "move", False)
              for low, high in ((-12.0, 60.0), (-60.0, 12.0))]
    view = shown(page())
    asked = "(cases) => cases.map((told) => snrise.diagnose(snrise.schedule(told), told.image, told.reference))"
    found = view.evaluate(asked, [told(*case) for case in cases])
    seen = set()
    for case, report in zip(cases, found, strict=True):
        wanted = diagnose(ours(*case), case[1], case[2])
        assert report["factor"] == pytest.approx(wanted.factor)
        assert report["below"] == pytest.approx(wanted.time_below, abs=1e-4)
        assert [round(exponent) for exponent, _ in report["octaves"]] == [octave.exponent for octave in wanted.octaves]
        shares = [octave.share for octave in wanted.octaves]
        assert [share for _, share in report["octaves"]] == pytest.approx(shares, abs=2e-4)
        assert len(report["problems"]) == len(wanted.problems), (case, report["problems"], wanted.problems)
        for (name, *_), text in zip(report["problems"], wanted.problems, strict=True):
            assert PROBLEMS[name] in text
            seen.add(name)
    assert {"noisy_start", "clean_end", "too_easy", "too_easy_shift", "too_noisy"} <= seen


def test_its_weights_are_those_of_python(shown):
    names, logsnrs = list(weightings.WEIGHTINGS), [-20.0, -3.0, 0.0, 1.7, 20.0]
    found = shown(page()).evaluate("([names, l]) => names.map((name) => l.map((x) => snrise.WEIGHTINGS[name](x)))",
                                   [names, logsnrs])
    for name, values in zip(names, found, strict=True):
        assert_close(torch.tensor(values, dtype=torch.float64),
                     weightings.WEIGHTINGS[name]()(torch.tensor(logsnrs, dtype=torch.float64)), rtol=1e-9, atol=1e-12)


def test_settings_change_the_verdict_and_the_snippets(shown):
    view = shown(page())
    assert "Fit for 512×512" in view.inner_text("#verdict")
    view.get_by_label("Reference height").fill("512")
    view.get_by_label("Reference width").fill("512")
    assert "Not fit for 512×512" in view.inner_text("#verdict") or "Fit" in view.inner_text("#verdict")
    view.get_by_label("Height, pixels").fill("256")
    assert "256×512" in view.inner_text("#verdict")
    view.get_by_label("λ at the clean end").fill("5")
    assert "t = 0 is still noisy" in view.inner_text("#verdict")
    assert "logsnr_max: 5" in view.inner_text("#snippet")
    view.get_by_label("Kind").select_option("flow_matching")
    view.get_by_label("Weight of the squared error").select_option("min_snr")
    snippet = view.inner_text("#snippet")
    assert "kind: flow_matching" in snippet
    assert "weighting: {kind: min_snr, gamma: 5}" in snippet
    view.get_by_label("Another reference at the noisy end").check()
    assert view.get_by_label("Reference side at the noisy end").is_visible()
    assert "noisy_reference: [32, 32]" in view.inner_text("#snippet")
    view.get_by_label("λ at").first.wait_for(state="detached")


def test_snippets_of_diffusers_make_the_schedule(shown):
    """The Python of the page, run, and the YAML, read."""
    pytest.importorskip("diffusers")
    for base, image, reference, noisy, ends, zero in (
        (Cosine(), (256, 256), (64, 64), None, "move", False),
        (Cosine(offset=0.008, logsnr_min=-12.0), (96, 128), (64, 64), (32, 32), "stay", False),
        (LinearBeta(), (256, 256), (64, 64), None, "move", True),
        (LogNormal(), (128, 128), (64, 64), None, "move", False),
        (UniformLogSnr(), (128, 128), (64, 64), None, "stay", False),
        (FlowMatching(), (128, 128), (64, 64), None, "move", False),
    ):
        view = shown(page(base, image, reference, noisy_reference=noisy, ends=ends, zero_terminal_snr=zero))
        view.get_by_role("tab", name="diffusers").click()
        names = {}
        exec(view.inner_text("#snippet"), names)
        wanted = ours(base, image, reference, noisy, ends, zero)(torch.linspace(0, 1, 1000, dtype=torch.float64))
        a = names["scheduler"].alphas_cumprod.double()
        found = torch.log(a) - torch.log1p(-a)
        near = wanted.abs() < 8
        assert_close(found[near], wanted[near], rtol=0, atol=2e-3)
        view.get_by_role("tab", name="k-diffusion").click()
        if "sigmas" in view.inner_text("#snippet") and "torch" in view.inner_text("#snippet"):
            exec(view.inner_text("#snippet"), names)
            plain = ours(base, image, reference, noisy, ends, False)(torch.linspace(0, 1, 1000, dtype=torch.float64))
            assert_close(-2 * names["sigmas"].flip(0).log(), plain, rtol=1e-6, atol=1e-6)


def test_lucidrains_and_k_diffusion_get_the_cosine(shown):
    view = shown(page(Cosine(), (256, 256), (64, 64), noisy_reference=(32, 32)))
    view.get_by_role("tab", name="lucidrains").click()
    assert "noise_d_low=64, noise_d_high=32" in view.inner_text("#snippet")
    view.get_by_role("tab", name="k-diffusion").click()
    density = json.loads(view.inner_text("#snippet"))["sigma_sample_density"]
    assert (density["image_d"], density["noise_d_low"], density["noise_d_high"]) == (256, 64, 32)
    ends = ours(Cosine(), (256, 256), (64, 64), (32, 32), "move", False)(torch.tensor([0.0, 1.0]))
    assert_close(torch.tensor([density["min_value"], density["max_value"]]), torch.exp(-ends / 2), rtol=1e-2, atol=0)


def test_a_picture_of_ones_own_is_noised(shown, tmp_path):
    Image.new("RGB", (300, 200), (250, 20, 20)).save(tmp_path / "red.png")
    view = shown(page())
    before = view.evaluate("() => document.querySelector('#rows canvas').toDataURL()")
    view.locator("#file").set_input_files(tmp_path / "red.png")
    view.wait_for_function("() => document.querySelector('#rows canvas').width === 48")
    view.get_by_label("Time t").fill("0")
    pixel = view.evaluate("""() => {
        const c = [...document.querySelectorAll("#rows canvas")].at(-1);
        return [...c.getContext("2d").getImageData(5, 5, 1, 1).data];
    }""")
    assert view.evaluate("() => document.querySelector('#rows canvas').toDataURL()") != before
    assert max(abs(a - b) for a, b in zip(pixel, (250, 20, 20, 255), strict=True)) <= 8


def test_noise_looks_alike_after_the_shift_alone(shown):
    """The deviation of the pooled pictures' noise, of a grey picture in the middle of time."""
    grey = torch.full((3, 256, 256), 128, dtype=torch.uint8)
    view = shown(page(Cosine(logsnr_min=None, logsnr_max=None), (512, 512), picture=grey))
    view.wait_for_timeout(200)
    spread = view.evaluate("""() => [...document.querySelectorAll("#rows canvas")].map((c) => {
        const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
        const v = [...data].filter((_, i) => i % 4 < 3), m = v.reduce((a, b) => a + b) / v.length;
        return Math.sqrt(v.reduce((a, b) => a + (b - m) ** 2, 0) / v.length);
    })""")
    plain, shifted = spread[:4], spread[4:]
    assert plain[3] < 0.3 * plain[0]
    assert_close(torch.tensor(shifted), torch.full((4,), shifted[0]), rtol=0.02, atol=0)


@pytest.mark.parametrize(("language", "words"), [("en", "Fit for 512×512"), ("zh", "适合 512×512")])
def test_both_languages_on_a_phone_in_the_dark(shown, language, words):
    view = shown(page(language=language), viewport={"width": 390, "height": 844}, color_scheme="dark")
    assert words in view.inner_text("#verdict")
    assert view.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert view.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(23, 22, 20)"
    view.locator("#language").click()
    assert words not in view.inner_text("#verdict")
    view.locator("#theme").click()
    assert view.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"


def test_every_control_has_a_name_and_the_keyboard_reaches_it(shown):
    view = shown(page())
    nameless = view.evaluate("""() => [...document.querySelectorAll("button, input, select, [role=img]")].filter((e) =>
        !(e.labels && [...e.labels].some((l) => l.innerText.trim())) && !e.getAttribute("aria-label")
        && !e.innerText.trim()).map((e) => e.id || e.tagName)""")
    assert nameless == []
    reached = set()
    for _ in range(60):
        view.keyboard.press("Tab")
        reached.add(view.evaluate("() => document.activeElement.id"))
    assert {"language", "height", "side", "kind", "settings_offset", "zero", "weighting", "file", "time"} <= reached
    assert "copy" in reached
    view.locator("#side").focus()
    view.keyboard.press("ArrowLeft")
    assert "431×431" in view.inner_text("#verdict")


def test_both_languages_say_the_same_things(shown):
    english, chinese = shown(page()).evaluate("() => [TEXTS.en, TEXTS.zh]")
    assert english.keys() == chinese.keys()
    for name, text in english.items():
        assert set(re.findall(r"\{\d\}", text)) == set(re.findall(r"\{\d\}", chinese[name]))
    for name in PROBLEMS:
        assert name in english


# From Python


def test_the_command_writes_it(shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 96), (10, 200, 30)).save("green.png")
    said = command("schedule", "--resolution", "96x96", "--reference", "48", "--kind", "linear_beta",
                   "--image", "green.png", "--zero-terminal-snr", "--html", "deep/out.html")
    assert said == "written: deep/out.html, a page that needs no network\n"
    view = shown(Path("deep/out.html").read_text(encoding="utf-8"))
    assert "96×96" in view.inner_text("#verdict")
    assert "kind: linear_beta" in view.inner_text("#snippet")
    assert view.locator("#zero").is_checked()
    view.get_by_label("Time t").fill("0")
    pixel = view.evaluate("""() => {
        const c = [...document.querySelectorAll("#rows canvas")].at(-1);
        return c.getContext("2d").getImageData(3, 3, 1, 1).data[1];
    }""")
    assert abs(pixel - 200) < 8


def test_mistakes(monkeypatch, capsys):
    with pytest.raises(SnriseError, match=r"^page\.base: got 'UniformPower'; allowed: one of cosine, linear_beta"):
        page(UniformPower())
    told = fails(monkeypatch, capsys, "schedule", "--html", "a.txt")
    assert told == "--html: got 'a.txt'; allowed: a file ….html"


def test_it_holds_all_that_it_needs():
    html = page(picture=torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert not re.findall(r"\{\{\w+\}\}", html)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    assert len(KINDS) == 5
    assert math.isclose(len(html), 95_000, rel_tol=0.3)
