"""The page served, by default to this machine alone."""

import os
import socket
from typing import Any

from snrise._errors import SnriseError, require
from snrise.app.needed import LOCAL
from snrise.app.shelf import Shelf
from snrise.app.style import looks
from snrise.app.tabs import page
from snrise.cpu import keep_freed_memory

__all__ = ["serve"]

#: The first port that is tried, and how many.
FIRST, TRIED = 7860, 100


def serve(shelf: Shelf, *, host: str, port: int | None, show: bool) -> Any:
    """Serve the page in a thread of its own; returns it. Its `close` ends it."""
    require(port is None or 1 <= port < 65536, "--port", port, "1 to 65535")
    host = host.strip("[]")
    chosen = _free(host, port)
    _past_proxies(host)
    keep_freed_memory()
    built = page(shelf).queue(api_open=False)
    built.launch(
        server_name=f"[{host}]" if ":" in host else host, server_port=chosen, inbrowser=show, share=False,
        quiet=True, prevent_thread_lock=True, show_error=True, ssr_mode=False, pwa=False, mcp_server=False,
        enable_monitoring=False, **looks(),
    )
    return built


def _free(host: str, port: int | None) -> int:
    """The port, or the first that is free."""
    tried = range(FIRST, FIRST + TRIED) if port is None else [port]
    for number in tried:
        reason = _refused(host, number)
        if reason is None:
            return number
    if port is None:
        raise SnriseError(f"--port: none of {FIRST} to {FIRST + TRIED - 1} is free at {host}: {reason}; name one")
    raise SnriseError(f"--port: got {port}; not free at {host}: {reason}; leave it out to take the first that is")


def _refused(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return None


def _past_proxies(host: str) -> None:
    """Gradio asks its own server whether it is there; a proxy is not to be asked for this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        before = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*before, *LOCAL, host]))
