"""Names at the Hub, and what is said where they cannot be had. Here the Hub is switched off."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import snrise
from snrise._errors import SnriseError
from snrise.hub import HubName, fetch, publish
from snrise.models import located
from tiny import fails

WORDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,5}[A-Za-z0-9])?", fullmatch=True)
FOLDERS = st.from_regex(r"[A-Za-z0-9_]{1,5}(/[A-Za-z0-9_]{1,5}){0,2}", fullmatch=True)


@given(WORDS, WORDS, st.none() | WORDS, st.none() | FOLDERS)
def test_a_name_is_read_as_it_is_written(user, name, revision, folder):
    whole = HubName(repository=f"{user}/{name}", revision=revision, folder=folder)
    assert HubName.parse(str(whole)) == whole


@pytest.mark.parametrize("text", [
    "hub:flags", "hub:", "hub:me/", "hub:/flags", "hub:me/flags@", "hub:me/flags/../other", "hub:me/-flags", "me/flags",
    "hub:me/fl ags", "hub:https://me/flags",
])
def test_what_is_no_name_is_told(text):
    with pytest.raises(SnriseError, match=r"^hub: got '.*'; allowed: hub:USER/NAME, hub:USER/NAME@REVISION; such as"):
        HubName.parse(text)


def test_switched_off_it_is_one_line(monkeypatch, capsys):
    pytest.importorskip("huggingface_hub")
    said = (
        "hub:me/flags: the Hub is switched off (HF_HUB_OFFLINE), and it is not in the cache; switch it on, or give a "
        "folder"
    )
    for arguments in (["sample"], ["evaluate"], ["show"], ["export"], ["train", "--from"]):
        assert fails(monkeypatch, capsys, *arguments, "hub:me/flags") == said
    with pytest.raises(SnriseError, match="codec.path: me/codec is no folder here; hub:me/codec: the Hub is"):
        snrise.codecs.Autoencoder(path="me/codec").fingerprint()


def test_unreachable_it_is_one_line(tmp_path):
    """Nobody listens there; a process of its own, for the library reads its settings once."""
    pytest.importorskip("huggingface_hub")
    program = (
        "import sys; from pathlib import Path; from snrise.hub import fetch, publish; from snrise import SnriseError\n"
        "for ask in (lambda: fetch('hub:me/flags', ['a']), "
        "lambda: publish(Path('.'), 'me/flags', private=False, message='')):\n"
        "    try: ask()\n"
        "    except SnriseError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, timeout=300,
        env={"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "", "HF_TOKEN": "secret"},
    )
    fetched, pushed = done.stdout.splitlines()
    assert pushed == "hub:me/flags: the Hub cannot be reached; try again with a connection"
    assert fetched == (
        "hub:me/flags: the Hub cannot be reached, and it is not in the cache; try again with a connection, or give a "
        "folder"
    )


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for ask in (lambda: fetch("hub:you/flags", ["a"]), lambda: publish(tmp_path, "you/a", private=True, message="")):
        with pytest.raises(SnriseError, match=r"^hub: needs the library huggingface_hub: pip install 'snrise\[hub\]'$"):
            ask()


def test_what_exists_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub:me").mkdir()
    (tmp_path / "hub:me" / "flags").mkdir()
    assert located(tmp_path / "hub:me" / "flags") == tmp_path / "hub:me" / "flags"
