"""The `r8scan doctor` command, which tests everything that the service needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from scanner.settings import SettingsError
from workers.cli import output
from workers.cli.opening import opened_context

if TYPE_CHECKING:
    from scanner.github.client import App
    from workers.context import Context
    from workers.health.checks.check import Check, Result

WORDS = {"ok": "ok    ", "failed": "WRONG ", "off": "off   ", "skipped": "-     "}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each check.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Send a test message to the operator's channels.")] = False,
) -> None:
    """Test everything that the service needs: database, Redis, workers, GitHub, mail, token store, clock and disk.

    It changes nothing, and sends no message without --send. Each check has a time limit. Exit status: 0 all checks
    passed, 1 a check failed.

    Example: r8scan doctor --json | jq -r 'select(.state == "failed") | .todo'
    """
    from workers.health.checks.check import State

    failed = 0
    for result in _results(send=send):
        failed += result.state == State.FAILED
        if as_json:
            output.json_lines([asdict(result)])
        else:
            line = f"{WORDS[result.state]} {result.check}: {result.sentence}"
            typer.echo(output.plain(line + (f"; {result.todo}" if result.todo else "")))
    raise typer.Exit(1 if failed else 0)


def _results(*, send: bool) -> Iterator[Result]:
    from workers.health.checks.check import Result, State, run

    try:
        with opened_context() as context:
            context.check()
            yield Result("settings", State.OK, "all can be read; see r8scan settings")
            yield from run(checks(context, send=send))
    except SettingsError as err:
        yield Result("settings", State.FAILED, " ".join(str(err).split()), "correct it; nothing else can be checked")


def checks(context: Context, *, send: bool) -> list[Check]:
    """Return the checks that apply to the settings, in the order of the output. If `send` is set, some send a
    message.
    """
    from workers.health.checks import machine, outside, round_trip
    from workers.health.checks.canaries import check_canaries
    from workers.health.checks.check import Check
    from workers.health.checks.mail_templates import check_templates
    from workers.queues import QUEUES

    settings = context.settings
    found = [
        Check("state folder", partial(machine.check_state_folder, settings.state_dir)),
        Check("disk", partial(machine.check_disk, settings)),
        Check("database", partial(_check_database, context)),
        Check("redis", partial(machine.check_redis, settings)),
        *(
            Check(f"worker of {queue}", partial(round_trip.check_queue, queue, settings), ("redis",))
            for queue in QUEUES
        ),
        Check("beat", partial(machine.check_beat, context), ("database",)),
        Check("clock", partial(machine.check_clock, context), ("database",)),
        *(
            Check(name, partial(outside.check_credential, context, credential))
            for name, credential in _credentials(context)
        ),
        Check("git", partial(outside.check_git, context)),
        Check("mail server", partial(outside.check_mail, context)),
        Check("token store", partial(outside.check_store, context), () if settings.token_store_url else ("database",)),
        Check("canaries", partial(check_canaries, context), ("database",)),
        *_channels(context, send=send),
    ]
    if settings.email_templates_dir is not None:
        found.append(Check("mail templates", partial(check_templates, context)))
    if settings.announce_webhook_url:
        found.append(Check("gateways' webhook", partial(outside.check_address, settings.announce_webhook_url)))
    if settings.announce_redis_url:
        found.append(
            Check("gateways' stream", partial(outside.check_stream, settings.announce_redis_url.get_secret_value()))
        )
    return found


def _credentials(context: Context) -> Iterator[tuple[str, App | str | None]]:
    """Yield the name of a check and its GitHub credential, which is None if none is set."""
    if len(context.credentials) < 2:
        yield "GitHub credential", next(iter(context.credentials), None)
        return
    for number, credential in enumerate(context.credentials, 1):
        yield f"GitHub credential {number}", credential


def _check_database(context: Context) -> str:
    from scanner.records.versions import WrongVersion
    from workers.cli.errors import UserError
    from workers.health.checks import machine
    from workers.health.checks.check import Wrong

    try:
        database = context.database
    except UserError as err:  # the database is missing, and this command must not create it
        sentence, _, todo = str(err).partition("; ")
        raise Wrong(sentence, todo) from err
    except WrongVersion as err:
        sentence, _, todo = str(err).partition(": ")
        raise Wrong(sentence, todo) from err
    return machine.check_database(database)


def _channels(context: Context, *, send: bool) -> Iterator[Check]:
    from workers.health.checks import outside
    from workers.health.checks.check import Check

    for channel in context.operator_channels:
        # Without `send`, skip the mail channel (it has no `address`): the mail server is checked separately.
        if channel.address or send:
            yield Check(f"operator's {channel.name}", partial(outside.check_channel, channel, send=send))
