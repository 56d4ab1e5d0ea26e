"""The command's root: global options, sub-commands, and how errors reach the terminal: one line, never a traceback."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from scanner import __version__
from workers.cli import database, email, incidents, rescan, scan, tokens
from workers.cli import run as run_command
from workers.cli.errors import explain

app = typer.Typer(
    name="r8scan",
    help="Finds leaked API tokens in public GitHub, disables them at once and tells their owners.",
    epilog="Start with: r8scan demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r8scan {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See the commands below; each has examples in its own --help."""
    del version


app.command("run")(run_command.run)
app.command("demo")(run_command.demo)
app.command("scan")(scan.scan)
app.add_typer(tokens.app, name="tokens")
app.add_typer(incidents.app, name="incidents")
app.add_typer(rescan.app, name="rescan")
app.add_typer(email.app, name="email")
app.add_typer(database.app, name="db")


def run() -> None:
    """Run the command line; known errors become one line on standard error and exit status 1."""
    try:
        app()
    except Exception as err:
        line = explain(err)
        if line is None:
            raise
        print(f"r8scan: {line}", file=sys.stderr)
        raise SystemExit(1) from None
