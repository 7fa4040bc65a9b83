"""An app for the browser: sample and compare runs, watch their curves, plan. It needs the extra `app`.

`snrise app` serves it on this machine. As objects: `page` is a `gradio.Blocks`, which can be mounted elsewhere with
its `looks`; `serve` is what the command calls; below them `jobs` and `shelf` know nothing of Gradio.

>>> import gradio  # doctest: +SKIP
>>> snrise.app.page(["emoji-32"]).launch(**snrise.app.looks())  # doctest: +SKIP
"""

from collections.abc import Sequence
from typing import Any

from snrise.app.jobs import Job, Order
from snrise.app.needed import quiet_gradio
from snrise.app.shelf import Shelf

__all__ = ["Job", "Order", "Shelf", "looks", "page", "serve"]


def page(runs: Sequence[str] = (), *, device: str | None = None) -> Any:
    """The page as a `gradio.Blocks`.

    Args:
        runs: folders of runs, files of weights, and names of weights; by default the built-in models.
        device: where to compute; by default a GPU where there is one.

    Raises:
        SnriseError: without gradio, or for a run that is none.
    """
    quiet_gradio()
    from snrise.app.tabs import page as built

    return built(Shelf.of(runs, device))


def looks() -> dict[str, Any]:
    """What `gradio.Blocks.launch` and `gradio.mount_gradio_app` are given with the page: theme, style, no links."""
    quiet_gradio()
    from snrise.app.style import looks as chosen

    return chosen()


def serve(
    runs: Sequence[str] = (), *, device: str | None = None, host: str = "127.0.0.1", port: int | None = None,
    show: bool = False,
) -> Any:
    """Serve the page until it is closed: the running `gradio.Blocks`, whose `local_url` is its address.

    Args:
        runs: as of `page`.
        device: as of `page`.
        host: the address to listen at; by default only this machine reaches it.
        port: by default the first free one from 7860.
        show: whether to open a browser.

    Raises:
        SnriseError: without gradio, for a run that is none, or a port that is taken.
    """
    quiet_gradio()
    from snrise.app.serving import serve as served

    return served(Shelf.of(runs, device), host=host, port=port, show=show)
