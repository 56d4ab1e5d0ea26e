"""The root of the command: global options, sub-commands, and errors, each printed as one line without a traceback."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from scanner import __version__
from scanner.detection import redact
from scanner.private_folders import create_files_privately

COMMANDS = {
    "run": ("workers.cli.run", "run"),
    "demo": ("workers.cli.run", "demo"),
    "scan": ("workers.cli.scan", "scan"),
    "report": ("workers.cli.report", "report"),
    "usage": ("workers.cli.usage", "usage"),
    "backfill": ("workers.cli.backfill", "backfill"),
    "serve": ("workers.cli.serve", "serve"),
    "status": ("workers.cli.status", "status"),
    "doctor": ("workers.cli.doctor", "doctor"),
    "settings": ("workers.cli.settings", "settings"),
}
GROUPS = {
    "tokens": "workers.cli.tokens",
    "incidents": "workers.cli.incidents",
    "accounts": "workers.cli.accounts",
    "rescan": "workers.cli.rescan",
    "email": "workers.cli.email",
    "brake": "workers.cli.brake",
    "audit": "workers.cli.audit",
    "store": "workers.cli.store",
    "console": "workers.cli.console",
    "db": "workers.cli.database",
}


def build(wanted: str | None = None) -> typer.Typer:
    """Return the application. If `wanted` names a command, import only that one, because importing all takes time."""
    app = typer.Typer(
        name="r8scan",
        help="Finds leaked API tokens on public GitHub, disables them at once and mails their owners.",
        epilog="Start with: r8scan demo",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    everything = wanted not in COMMANDS.keys() | GROUPS.keys() | {"--version"}
    for name, (module, function) in COMMANDS.items():
        if everything or name == wanted:
            app.command(name)(getattr(import_module(module), function))
    for name, module in GROUPS.items():
        if everything or name == wanted:
            app.add_typer(import_module(module).app, name=name)
    return app


def run() -> None:
    """Run the command line. Print a known error as one line on standard error, and exit with status 1."""
    create_files_privately()
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except Exception as err:
        from workers.cli.errors import explain

        line = explain(err)
        if line is None:
            raise
        print(redact(f"r8scan: {line}"), file=sys.stderr)
        raise SystemExit(1) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r8scan {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """See the commands below; each has examples in its own --help."""
    del version
