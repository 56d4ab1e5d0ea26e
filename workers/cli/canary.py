"""The `r8scan canary` commands, which plant and list canaries (test tokens)."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import select

from scanner.records import canaries
from scanner.records.canary_models import Canary
from scanner.records.models import db_now
from scanner.records.states import CanaryWay
from scanner.sources.canaries import planting, ways
from workers.cli import empty_lists, output, starting
from workers.cli.errors import UserError
from workers.cli.groups import Group
from workers.cli.opening import opened_context

app = Group("List and plant canary tokens, which test whether a leaked token is found and disabled.")

_QUEUES = {way: "scanning" if way in (CanaryWay.PUSHES, CanaryWay.FILES) else "polling" for way in CanaryWay}
"""For each way of planting a canary, the queue of the worker that sees it first."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_canaries(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The maximum number of rows, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest canaries (test tokens): where each was planted, which source saw it, and when it was disabled.

    Example: r8scan canary list --limit 5
    """
    with opened_context() as context, context.database.read() as session:
        rows = canaries.listed(session, limit)
        now = session.execute(select(db_now())).scalar_one()
        off = {ways.WORDS[way]: reason for way in CanaryWay if (reason := ways.reason_off(context.settings, way))}
    if as_json:
        output.json_lines([_as_json(row) for row in rows])
        return
    columns = ("id", "planted in", "planted", "state", "decision", "after", "source", "place or error")
    cells = (
        (
            row.id,
            ways.WORDS[row.way],
            output.ago(row.planted_at, now),
            row.state,
            row.decision,
            _after(row),
            row.source,
            row.error or row.place,
        )
        for row in rows
    )
    output.table("Canaries", columns, cells, empty=empty_lists.sentence("canaries", context.settings))
    for place, reason in off.items():
        typer.echo(output.plain(f"none is planted in {place}, because {reason}"))


@app.command("plant")
def plant(
    way: Annotated[CanaryWay, typer.Argument(metavar="WAY", help="Where to plant it.")] = CanaryWay.PUSHES,
    as_json: JsonOption = False,
) -> None:
    """Plant a canary (a test token) now. The running service finds and disables it; `r8scan canary list` shows when.

    Example: r8scan canary plant repository
    """
    with opened_context(creates_tables=True) as context:
        if reason := ways.reason_off(context.settings, way):
            raise UserError(f"no canary is planted in {ways.WORDS[way]}: {reason}")
        canary_id = planting.plant(context, way)
        if canary_id is None:
            raise UserError("another canary was planted in this second: wait for that one")
        with context.database.read() as session:
            row = session.get_one(Canary, canary_id)
        obstacle = starting.obstacle(context.database, context.settings, _QUEUES[way])
    if as_json:
        output.json_lines([_as_json(row)])
    elif row.error:
        raise UserError(f"the canary was not planted: {row.error}")
    else:
        typer.echo(f"canary {canary_id} was planted in {ways.WORDS[way]}")
    if obstacle:
        typer.echo(f"nothing looks for it, because {obstacle}; r8scan canary list shows when it is found", err=True)


def _after(row: Canary) -> str | None:
    return None if row.ended_at is None else f"{(row.ended_at - row.planted_at).total_seconds():.1f} s"


def _as_json(row: Canary) -> dict[str, object]:
    return {
        "id": row.id,
        "way": row.way.value,
        "state": row.state.value,
        "decision": row.decision.value if row.decision else None,
        "planted_at": row.planted_at,
        "ended_at": row.ended_at,
        "source": row.source,
        "place": row.place or None,
        "error": row.error,
    }
