"""Debian's Chromium, for the tests of pages."""

import shutil
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium")
#: What it is started with where there is no network, no screen and no user.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]


@contextmanager
def chromium():
    """Started without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()
