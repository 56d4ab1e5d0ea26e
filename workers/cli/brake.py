"""The `r8scan brake` commands: show the reports that exceed the disable quota, and decide on them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.compromise import brake, brake_status, settling
from scanner.records.models import db_now
from workers.cli import output
from workers.cli.errors import UserError
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.health.problems import counted

if TYPE_CHECKING:
    from workers.context import Context

app = Group("Decide on reports that wait because the brake (the disable quota) holds them.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show the reports that wait because of the brake (the disable quota): since when, and who sent them.

    Example: r8scan brake status
    """
    with opened_context() as context, context.database.read() as session:
        found, held = brake_status.read(session), brake_status.held_reports(session)
        limit = context.settings.brake_per_minute
        now = session.execute(select(db_now())).scalar_one()
    if as_json:
        output.json_lines(
            [
                {
                    "closed_at": found.closed_at,
                    "reason": found.reason or None,
                    "held": found.held,
                    "held_by": [asdict(one) for one in held],
                    "disabled_last_minute": found.disabled_last_minute,
                    "per_minute": limit,
                }
            ]
        )
        return
    if found.closed_at is None:
        used = f"{found.disabled_last_minute} of {limit} disables of this minute are used"
        typer.echo(f"not holding: reports disable tokens at once; {used}")
    else:
        since = f"since {output.plain(found.closed_at)} ({output.ago(found.closed_at, now)})"
        typer.echo(f"holding {since}, reported tokens stay live: {output.plain(found.reason)}")
    typer.echo(f"{counted(found.held, 'report is', 'reports are')} held")
    for one in held:
        typer.echo(output.plain(f"  {one}"))


@app.command()
def release(yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Disable the tokens of all reports that the disable quota (the "brake") holds. Later reports pass again.

    Example: r8scan brake release
    """
    with opened_context() as context:
        with _agreed(context, "Disable", yes=yes) as session:
            ids = brake.release(session, who=operator_name())
        settling.settle(context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute)
        counts = settling.decisions(context.database, ids)
    if as_json:
        output.json_lines([{"released": len(ids), **counts}])
    else:
        detail = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in sorted(counts.items()))
        typer.echo(f"{counted(len(ids), 'report is', 'reports are')} released" + (f": {detail}" if detail else ""))


@app.command()
def reject(yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Reject all held reports, so that their tokens stay live. The brake then lets later reports pass again.

    Example: r8scan brake reject
    """
    with opened_context() as context, _agreed(context, "Leave live", yes=yes) as session:
        number = brake.reject(session, who=operator_name())
    if as_json:
        output.json_lines([{"rejected": number}])
    else:
        typer.echo(f"{counted(number, 'report is', 'reports are')} rejected; nothing was disabled")


@contextmanager
def _agreed(context: Context, what: str, *, yes: bool) -> Iterator[Session]:
    """Ask the operator for a confirmation, then yield a writing transaction. If the operator refuses, raise
    UserError.
    """
    with context.database.read() as session:
        shown, held = brake_status.read(session).held, brake_status.held_reports(session)
    if not yes and shown:
        for one in held:
            typer.echo(output.plain(f"  {one}"), err=True)
        # Standard output may be JSON, so the question goes to standard error.
        typer.echo(f"{what} {counted(shown, 'reported token')}? [y/N]: ", nl=False, err=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UserError("nothing was decided: the reports are still held")
    with context.database.write() as session:
        now = brake_status.read(session).held
        if now > shown:
            raise UserError(f"{counted(now, 'report is', 'reports are')} held by now: look again, then decide")
        yield session
