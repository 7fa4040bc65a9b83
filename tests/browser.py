"""Debian's Chromium, for the tests of pages."""

import shutil

CHROMIUM = shutil.which("chromium")
#: What it is started with where there is no network, no screen and no user.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
