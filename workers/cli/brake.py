"""`r8scan brake`: shows the disable quota, and decides on reports that wait because it was exceeded."""

from __future__ import annotations

from typing import Annotated

import typer

from scanner.compromise import brake, settling
from workers.cli import output
from workers.cli.groups import Group
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.health.problems import counted

app = Group("Disables by report or rule that wait for your decision.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
BATCH = 200


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show whether the brake is closed, since when, and how many reports it holds.

    Example: r8scan brake status
    """
    with opened_context() as context, context.database.read() as session:
        found, limit = brake.status(session), context.settings.brake_per_minute
    if as_json:
        output.json_lines(
            [
                {
                    "closed_at": found.closed_at,
                    "reason": found.reason or None,
                    "held": found.held,
                    "disabled_last_minute": found.disabled_last_minute,
                    "per_minute": limit,
                }
            ]
        )
        return
    if found.closed_at is None:
        typer.echo(f"open: {found.disabled_last_minute} of {limit} a minute")
    else:
        typer.echo(f"closed since {output.plain(found.closed_at)}: {output.plain(found.reason)}")
    typer.echo(f"{counted(found.held, 'report is', 'reports are')} held")


@app.command()
def release(as_json: JsonOption = False) -> None:
    """Disable the tokens of all held reports, however many there are, and open the brake.

    Example: r8scan brake release
    """
    with opened_context() as context:
        with context.database.write() as session:
            ids = brake.release(session, who=operator_name())
        settling.settle(context.database, ids, policy=context.policy, per_minute=context.settings.brake_per_minute)
        counts = settling.decisions(context.database, ids)
    if as_json:
        output.json_lines([{"released": len(ids), **counts}])
    else:
        detail = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in sorted(counts.items()))
        typer.echo(f"{counted(len(ids), 'report is', 'reports are')} released" + (f": {detail}" if detail else ""))


@app.command()
def reject(as_json: JsonOption = False) -> None:
    """Reject all held reports and open the brake. Nothing is disabled, and the reports are kept as rejected.

    Example: r8scan brake reject
    """
    with opened_context() as context, context.database.write() as session:
        number = brake.reject(session, who=operator_name())
    if as_json:
        output.json_lines([{"rejected": number}])
    else:
        typer.echo(f"{counted(number, 'report is', 'reports are')} rejected; nothing was disabled")
