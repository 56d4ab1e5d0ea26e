"""Checks that canaries (planted test tokens) are found and disabled."""

from __future__ import annotations

from sqlalchemy import select

from scanner.records.models import db_now
from workers.context import Context
from workers.health import canaries
from workers.health.checks.check import Off, Wrong
from workers.health.problems import span


def check_canaries(context: Context) -> str:
    """Check that canaries (planted test tokens) were disabled in time. Return one line about each way of planting.

    Raises:
        Wrong: A canary was not disabled in time.
        Off: No way of planting is switched on.
    """
    with context.database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
        found = canaries.read(session, context.settings, now, began=now)
    if found.problems:
        raise Wrong("; ".join(one.sentence for one in found.problems), found.problems[0].todo)
    on = [one for one in found.canaries if not one.off]
    if not on:
        raise Off(found.canaries[0].off)
    done = canaries.outcome(context.settings.enforce)
    parts = [
        f"{one.way}: {done} after {span(one.seconds)}, {span(now - one.ended_at)} ago"
        if one.ended_at
        else f"{one.way}: no canary has ended yet"
        for one in on
    ]
    return "; ".join(parts)
