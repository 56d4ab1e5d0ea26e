"""Builds and runs the `r8scan` command line with all its commands."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from scanner import __version__
from scanner.private_folders import create_files_privately
from workers.cli.groups import Group, is_narrow

_LONG_WORD = re.compile(r"(\S{200})\S{100,}")


class Entry(NamedTuple):
    """A command of `r8scan`, as its help describes it.

    Attributes:
        module: The name of the command's module in `workers.cli`.
        panel: The title under which the help lists the command.
        summary: The line about the command in the help.
    """

    module: str
    function: str
    panel: str
    summary: str


SERVICE, ANSWERS, ACTIONS, TRY = "The service", "What happened", "What you decide and ask for", "Try it"
COMMANDS = {
    "run": Entry("run", "run", SERVICE, "Run everything on this machine: Redis, workers and beat."),
    "serve": Entry("serve", "serve", SERVICE, "Receive alerts and reports over HTTP, and serve the console."),
    "doctor": Entry("doctor", "doctor", SERVICE, "Test everything that the service needs, and say what to do."),
    "settings": Entry("settings", "settings", SERVICE, "Show every setting, its value and where it comes from."),
    "db": Entry("database", "", SERVICE, "Create or upgrade the tables of the database."),
    "status": Entry("status", "status", ANSWERS, "Show if the service works, what it misses, and what waits for you."),
    "incidents": Entry(
        "incidents", "", ANSWERS, "List, count and show leaks: what was done, who was told; resend a mail."
    ),
    "jobs": Entry("jobs", "", ANSWERS, "List and show jobs, what they found and could not read."),
    "audit": Entry(
        "audit", "", ANSWERS, "Show who did what (who released the brake), and check that nobody changed it."
    ),
    "canary": Entry("canary", "", ANSWERS, "List the canary tokens that test the service, or plant one."),
    "report": Entry("report", "report", ACTIONS, "Disable compromised tokens, given in any file."),
    "rescan": Entry("rescan", "", ACTIONS, "Read a repository, owner, gist, commit, push or address again."),
    "backfill": Entry("backfill", "backfill", ACTIONS, "Read past hours of the event archive."),
    "brake": Entry("brake", "", ACTIONS, "Release or reject reports that wait for your decision."),
    "tokens": Entry("tokens", "", ACTIONS, "Import, list, disable, enable and protect tokens."),
    "usage": Entry("usage", "usage", ACTIONS, "Store records of how tokens were used."),
    "accounts": Entry("accounts", "", ACTIONS, "Erase all data about an account."),
    "email": Entry("email", "", ACTIONS, "Send a test mail, preview the mails, record a bounce."),
    "console": Entry("console", "", ACTIONS, "Manage who may sign in to the console."),
    "store": Entry("store", "", ACTIONS, "Check a token store behind HTTP."),
    "demo": Entry("run", "demo", TRY, "Show how a leak is found, disabled and mailed, on this machine alone."),
    "sandbox": Entry("run", "sandbox", TRY, "Run a local GitHub, mailbox and console, so that you can cause leaks."),
    "scan": Entry("scan", "scan", TRY, "Find tokens in any files and git histories, offline."),
}


class _Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported when the command is looked up."""

    def __getitem__(self, name: str) -> Any:
        command = _loaded(COMMANDS[name], name)
        # The function `main` has switched off garbage collection. Switch it on, but exclude the imported objects.
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """The group of all `r8scan` commands. It imports only the module of the executed command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]  # nothing adds commands to the root

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help without importing the commands' modules."""
        stubs: Any = [
            TyperCommand(name, help=entry.summary, short_help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        ]
        with_stubs = TyperGroup(name=self.name, commands=stubs, help=self.help, epilog=self.epilog, params=self.params)
        if is_narrow():
            with_stubs.rich_markup_mode = None
        with_stubs.format_help(ctx, formatter)


@cache
def _loaded(entry: Entry, name: str) -> Any:
    module = import_module(f"workers.cli.{entry.module}")
    if entry.function:
        app = Group("")
        app.command(name)(getattr(module, entry.function))
        command: Any = typer.main.get_command(app)
    else:
        command = typer.main.get_group(module.app)
    command.name = name
    return command


def build() -> typer.Typer:
    """Return the typer application of the `r8scan` command."""
    app = typer.Typer(
        name="r8scan",
        cls=LazyGroup,
        help="Finds leaked API tokens on public GitHub, disables them at once and mails their owners.",
        epilog="Start with: r8scan demo. Each command has an example in its own --help.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    return app


def run() -> None:
    """Run the command line and exit: with status 2 for a wrong command line, 1 for other errors."""
    create_files_privately()
    if not os.environ.get("COLUMNS", "1").strip("0 "):
        del os.environ["COLUMNS"]  # without this, COLUMNS=0 (set by some terminals) would prevent all output
    try:
        status = build()(standalone_mode=False)
    except typer.TyperException as err:
        if type(err).__name__ != "NoArgsIsHelpError":  # typer has printed the help
            from workers.cli import wrong_usage

            print(_last_line(wrong_usage.line(err)), file=sys.stderr)
        raise SystemExit(err.exit_code) from None
    except typer.Abort:
        print("r8scan: stopped before anything was done", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as err:  # noqa: BLE001 - it is printed, and the process ends
        from workers.cli.errors import WrongUsage, explain

        line = explain(err)
        print(_last_line(line) if line is not None else _traceback(), file=sys.stderr)
        raise SystemExit(2 if isinstance(err, WrongUsage) else 1) from None
    raise SystemExit(status)


def _traceback() -> str:
    """Return the traceback of the current exception, with tokens and control characters removed."""
    import traceback

    from scanner.detection import redact
    from workers.cli.output import plain

    return "\n".join(plain(line) for line in redact(traceback.format_exc()).splitlines())


def _last_line(line: str) -> str:
    """Return the error message in the format in which the command prints it."""
    line = _LONG_WORD.sub(r"\1…", line)
    if sys.argv[1:2] not in (["run"], ["serve"]):
        from scanner.detection import redact
        from workers.cli.output import plain

        return plain(redact(f"r8scan: {line}"))
    from workers.logs import last_line

    return last_line(line)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"r8scan {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Declare the global options of the `r8scan` command."""
    del version
