"""Pushed to a stand-in for the Hub and had back from it, by processes that know nothing of each other."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from coded import latent, saved
from snrise.encoding import with_measured_codes
from snrise.runs.gallery import origin_of
from standin import hub
from tiny import config, pixels, saved_run

pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.slow
FLAGS = ["activities", "flags", "symbols"]


@pytest.fixture
def place(tmp_path):
    """A folder to work in, and functions that run programs there, connected to the stand-in or not."""
    with hub() as server:
        base = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        base |= {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                 "XDG_CACHE_HOME": str(tmp_path / "cache")}

        def run(*arguments, home="home", token="", **environment):
            done = subprocess.run(
                [sys.executable, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                env=base | {"HF_HOME": str(tmp_path / home), "HF_TOKEN": token} | environment,
            )
            lines = done.stderr.strip().splitlines()
            return SimpleNamespace(status=done.returncode, said=done.stdout.strip(), error=lines)

        def snrise(*arguments, **options):
            return run("-m", "snrise", *arguments, **options)

        yield SimpleNamespace(server=server, folder=tmp_path, run=run, snrise=snrise)


def good(done):
    assert done.status == 0, done
    return done.said


def test_there_and_back(place):
    """Pushed, sampled by somebody else, from a commit, from the cache without a connection, and trained on from."""
    saved_run(place.folder / "run", config(), FLAGS)
    told = good(place.snrise("push", "run", "me/flags", "-n", 4, "--private", token="secret"))
    repository = place.server.repositories["me/flags"]
    (commit,) = repository.commits
    assert told.splitlines()[-1] == f"tiny, 8 images seen: hub:me/flags@{commit}"
    assert repository.private
    assert repository.messages == ["tiny, 8 images seen"]
    assert sorted(repository.commits[commit]) == sorted([
        "README.md", "config.yaml", "samples.png", "schedule.png", "snrise.safetensors"])
    assert b"# tiny" in repository.commits[commit]["README.md"]

    good(place.snrise("sample", "hub:me/flags", "-n", 4, home="other"))
    (place.folder / "shown.png").write_bytes(repository.commits[commit]["samples.png"])
    assert (pixels(place.folder / "samples-0.png") == pixels(place.folder / "shown.png")).all()
    assert origin_of(place.folder / "samples-0.png")["hub"] == f"hub:me/flags@{commit}"
    assert f"again: snrise sample hub:me/flags@{commit} " in good(place.snrise("show", "samples-0.png"))

    asked = len(place.server.requests)
    good(place.snrise("sample", f"hub:me/flags@{commit}", "-n", 1, "--out", "one.png", home="other"))
    assert len(place.server.requests) == asked, place.server.requests[asked:]
    offline = place.snrise("sample", "hub:me/flags", "-n", 1, "--out", "two.png", home="other", HF_HUB_OFFLINE="1")
    assert offline.status == 0, offline
    assert (pixels(place.folder / "one.png") == pixels(place.folder / "two.png")).all()

    assert "activities, flags, symbols" in good(place.snrise("show", "hub:me/flags", home="other"))
    planned = good(place.snrise("plan", "hub:me/flags", "--device", "4090", home="other"))
    assert planned.startswith("tiny: UViT at 16x16")
    good(place.snrise("train", "--from", "hub:me/flags", "training.images=8", "--out", "on", home="other"))
    assert f"start: hub:me/flags@{commit}" in (place.folder / "on" / "config.yaml").read_text()


def test_a_later_push_is_a_later_commit(place):
    saved_run(place.folder / "run", config(), FLAGS)
    for number in (2, 3):
        good(place.snrise("push", "run", "me/flags", "-n", number, token="secret"))
    first, second = place.server.repositories["me/flags"].commits
    program = (
        "import json, sys, snrise; names = sys.argv[1:]\n"
        "print(json.dumps([snrise.load(name).hub for name in names]))"
    )
    told = good(place.run("-c", program, "hub:me/flags", f"hub:me/flags@{first}"))
    assert json.loads(told) == [f"hub:me/flags@{second}", f"hub:me/flags@{first}"]


def test_a_run_on_codes_brings_its_codec(place):
    pytest.importorskip("diffusers")
    settings = with_measured_codes(latent(saved(place.folder / "codec"), "training.batch=4"))
    saved_run(place.folder / "run", settings)
    good(place.snrise("push", "run", "me/codes", "-n", 2, token="secret"))
    (place.folder / "codec").rename(place.folder / "gone")
    good(place.snrise("sample", "hub:me/codes", "-n", 2, home="other"))
    files = next(iter(place.server.repositories["me/codes"].commits.values()))
    (place.folder / "shown.png").write_bytes(files["samples.png"])
    assert (pixels(place.folder / "samples-0.png") == pixels(place.folder / "shown.png")).all()


def test_a_pipeline_is_had_by_diffusers(place):
    """From the repository itself, with its code, where no snrise can be imported."""
    pytest.importorskip("diffusers")
    saved_run(place.folder / "run", config(), FLAGS)
    good(place.snrise("push", "run", "me/flags", "-n", 1, "--pipeline", token="secret"))
    program = (
        "import sys; sys.modules['snrise'] = None\n"
        "from diffusers import DiffusionPipeline\n"
        "pipeline = DiffusionPipeline.from_pretrained('me/flags', trust_remote_code=True)\n"
        "pipeline(1, classes=['flags'], seed=4).images[0].save('theirs.png')"
    )
    good(place.run("-c", program, home="other"))
    again = ("-n", 1, "--class", "flags", "--seed", 4, "--out", "ours")
    good(place.snrise("sample", "hub:me/flags", *again, home="other"))
    assert (pixels(place.folder / "theirs.png") == pixels(place.folder / "ours" / "000000.png")).all()


def test_what_the_hub_refuses_is_one_line(place):
    saved_run(place.folder / "run", config(), FLAGS)
    refused = "no such repository, or none that you may read or write; log in with: hf auth login"
    for arguments, said in {
        ("push", "run", "me/flags", "-n", 1): f"hub:me/flags: {refused}",
        ("sample", "hub:me/nothing"): f"hub:me/nothing: {refused}",
    }.items():
        done = place.snrise(*arguments, token="wrong")
        assert (done.status, done.error[-1]) == (2, f"error: {said}")
    good(place.snrise("push", "run", "me/flags", "-n", 1, token="secret"))
    done = place.snrise("sample", "hub:me/flags@v1")
    assert re.match("error: hub:me/flags@v1: no such revision; see", done.error[-1])
    done = place.snrise("sample", "hub:me/flags/codec")
    assert re.match("error: hub:me/flags/codec: got 'a repository without codec/snrise.safetensors'", done.error[-1])


def test_the_page_runs(place):
    """The commands of docs/hub.md in their order, and those on the card of what it pushes, made short."""
    saved_run(place.folder / "runs" / "emoji-32", config(), FLAGS)
    (place.folder / "path" / "to" / "images").mkdir(parents=True)
    for i in range(8):
        Image.new("RGB", (20, 16), (200, 20 * i, 30)).save(place.folder / "path" / "to" / "images" / f"{i}.png")
    short = {"push": ["-n", 1], "sample": ["-n", 1], "evaluate": ["-n", 6], "train": ["training.images=8"]}
    lines = commands((Path(__file__).parents[2] / "docs" / "hub.md").read_text())
    assert len(lines) == 6
    for line in lines:
        names = {"USER/NAME": "me/flags"}
        if pushed := place.server.repositories.get("me/flags"):
            names["COMMIT"] = next(iter(pushed.commits))
        words = shlex.split(replaced(line, names))
        good(place.snrise(*words[1:], *short[words[1]], token="secret"))
    card = (place.folder / "parcel" / "README.md").read_text()
    assert "hub:me/flags" in card
    for line in commands(card)[:2]:
        words = shlex.split(line)
        out = {"sample": "card.png", "train": "card"}[words[1]]
        good(place.snrise(*words[1:], *short[words[1]], "--out", out))


def commands(text):
    return re.findall(r"^snrise [^\n]+", text, flags=re.MULTILINE)


def replaced(line, names):
    for name, meant in names.items():
        line = line.replace(name, meant)
    return line
