"""The `r8scan run` command, which runs the service, and `demo` and `sandbox`, which simulate GitHub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanner.private_folders import NotOurs, check_trusted
from scanner.settings import load_settings
from workers.cli.errors import UserError, WrongUsage


def run(
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, max=64, help="Processes that read pushes.")] = 2,
    only: Annotated[
        str | None,
        typer.Option(
            help="Run only these, separated by commas: poller, responder, scanner, rescanner, beat. Use your own Redis."
        ),
    ] = None,
) -> None:
    """Run everything on this machine: Redis, workers and beat. Ctrl-C lets the workers finish their current work.

    Settings come from R8SCAN_* variables and from .env, if only you can write to that file and its folder. State is
    kept in R8SCAN_STATE_DIR.

    Example: GITHUB_TOKEN=… R8SCAN_SMTP_URL=smtp+starttls://user:password@mail.example.com r8scan run
    """
    from workers.context import Context
    from workers.logs import configure_logging
    from workers.supervisor import ROLES, CannotRun, Supervisor

    try:
        # Python imports modules from the working folder, so another user who can write to it could run code here.
        check_trusted(Path.cwd())
    except (NotOurs, OSError) as err:
        raise UserError(f"{err}: start r8scan run in a folder of your own") from err
    roles = ROLES if only is None else tuple(part.strip() for part in only.split(","))
    if wrong := sorted(set(roles) - set(ROLES)):
        raise WrongUsage(f"--only: {', '.join(map(repr, wrong))} is none of {', '.join(ROLES)}")
    settings = load_settings()
    Context(settings).check()
    configure_logging(settings)
    try:
        Supervisor(settings, processes=processes, only=roles).run()
    except CannotRun as err:
        raise UserError(str(err)) from err


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's folder with its state and mails.")] = False,
) -> None:
    """Show how r8scan finds a leak on a local GitHub: a token is pushed, it is disabled, and its owner gets a mail.

    The demo needs no network, credentials or servers, and changes nothing outside its own folder. Exit status 0 if
    every step worked.
    """
    from workers.sandbox.demo import run_demo

    raise typer.Exit(run_demo(keep=keep))


def sandbox(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the sandbox's folder with its state and mails.")] = False,
) -> None:
    """Run a local GitHub, a vendor's API, a mailbox, the service and its console, so that you can cause leaks.

    To cause a leak, type the name of its kind, press a button on the web page, or use curl. Then watch what r8scan
    does. The sandbox needs no network, credentials or servers, and changes nothing outside of its own folder. Ctrl-C
    ends everything.

    Example: r8scan sandbox
    """
    from workers.sandbox.playground import play

    raise typer.Exit(play(keep=keep))
