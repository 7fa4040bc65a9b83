"""The command line, `snrise train`, `sample`, `export`, `evaluate` and so on; no arithmetic."""

import sys
import traceback
from importlib.metadata import version
from typing import Annotated

import typer

from snrise._errors import SnriseError
from snrise.cli.application import app as application
from snrise.cli.compare import compare
from snrise.cli.evaluate import evaluate
from snrise.cli.evaluate_codec import evaluate_codec
from snrise.cli.export import export
from snrise.cli.plan import plan
from snrise.cli.push import push
from snrise.cli.sample import sample
from snrise.cli.schedule import schedule
from snrise.cli.show import show
from snrise.cli.sweep import sweep
from snrise.cli.together import by_one
from snrise.cli.train import train
from snrise.cli.train_codec import train_codec

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _tell_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(version("snrise"))
        raise typer.Exit
    return wanted


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Pixel-space image diffusion at high resolution: the noise schedule follows the resolution."""
    # debug is read by main, which catches what a command raises; the version is told before a command is looked for.
    del debug, show_version


app.command("train")(train)
app.command("sample")(sample)
app.command("export")(by_one(export))
app.command("evaluate")(evaluate)
app.command("sweep")(sweep)
app.command("compare")(by_one(compare))
app.command("show")(by_one(show))
app.command("train-codec")(by_one(train_codec))
app.command("evaluate-codec")(by_one(evaluate_codec))
app.command("plan")(by_one(plan))
app.command("push")(by_one(push))
app.command("schedule")(by_one(schedule))
app.command("app")(by_one(application))


def main() -> None:
    """Run the command line; a mistake in the input is one line on standard error, and status 2."""
    try:
        app()
    except (SnriseError, OSError, MemoryError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            typer.secho(f"error: {error or 'out of memory'}", err=True, fg="red")
        sys.exit(2)
