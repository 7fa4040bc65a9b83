"""`snrise app`: runs in the browser."""

import threading
from typing import Annotated

import typer

from snrise.app import serve
from snrise.app.needed import LOCAL
from snrise.cli.devices import DeviceOption, device_of

__all__ = ["app"]


def app(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Folders of runs, files of weights, or names of weights.",
                       show_default="the built-in models"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at. Others than 127.0.0.1 let other machines use the app.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Its port.", min=1, max=65535, show_default="the first free one from 7860")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Sample from runs, compare them, watch their curves and plan, in a browser on this machine.

    Pictures come with the command that makes them. It ends with Ctrl-C.
    """
    where = None if device == "auto" else str(device_of(device))
    served = serve(runs or (), device=where, host=host, port=port, show=show)
    typer.echo(f"{served.local_url}  (Ctrl-C ends it)")
    if host not in LOCAL:
        typer.secho(f"whoever reaches {host} can use it, and see what is made", err=True, fg="yellow")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        served.close(verbose=False)
