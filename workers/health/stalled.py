"""Finds jobs and polls that make no progress."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, Table, or_, select
from sqlalchemy.orm import Session

from scanner.records import time_limits
from scanner.records.models import ScanJob, TableRow, db_now, table_of
from scanner.records.source_models import SourceState
from scanner.records.states import OPEN_JOB_STATES, JobKind
from workers.health.problems import Kind, Problem
from workers.health.rows import StalledRow

NEAR_SHARE = 0.5
"""A job or poll that makes no progress for this share of its time limit is reported."""
TAKE_OVER_SECONDS = 120.0
"""If the worker of a job or poll dies, another one claims the job or poll within this time after its deadline."""
MAX_NAMED = 20

_jobs, _polls = table_of(ScanJob), table_of(SourceState)


def find(session: Session, sources: Collection[str]) -> list[StalledRow]:
    """Return the jobs and polls that made no progress for half of their time limit, or that were stopped at the
    limit.
    """
    now: datetime = session.execute(select(db_now())).scalar_one()
    found: list[StalledRow] = []
    for kind in _kinds(session):
        limit = time_limits.job_seconds(kind)
        statement = (
            select(_jobs)
            .where(_jobs.c.kind == kind, _jobs.c.state.in_(OPEN_JOB_STATES))
            .where(or_(_is_near(_jobs, limit), _was_stopped(_jobs)))
            .order_by(_jobs.c.id)
            .limit(MAX_NAMED)
        )
        found += [_row("job", job, now, limit, f"{job.id}", kind=kind) for job in session.execute(statement)]
    for source in sorted(sources):
        limit = time_limits.poll_seconds(source)
        statement_of_polls = select(_polls).where(
            _polls.c.source == source, or_(_is_near(_polls, limit), _was_stopped(_polls))
        )
        found += [_row("poll", state, now, limit, source) for state in session.execute(statement_of_polls)]
    return found


def problem(one: StalledRow) -> Problem:
    """Return the problem to report for a stalled job or poll."""
    sentence, todo = _words(one)
    return Problem(Kind.STALLED, sentence, todo, subject=f"{one.what} {one.name}")


def _words(one: StalledRow) -> tuple[str, str]:
    if one.what == "poll":
        name, going_on = f"{one.name}: a poll", "the source is polled again"
    else:
        name, going_on = f"job {one.name} ({one.kind})", "it is split or failed if it hangs again"
    limit = _span(one.limit_seconds)
    if one.is_running and one.seconds_left > 0:
        age, left = _span(one.age_seconds), _span(one.seconds_left)
        return f"{name} makes no progress, {age} after its start", f"it is stopped in {left}; see the worker's log"
    if one.is_running:
        late = _span(-one.seconds_left)
        return f"{name} is {late} over its time limit of {limit} and was not stopped", "restart the workers"
    return f"{name} was stopped at its time limit of {limit}", f"{going_on}; see the worker's log for what it read"


def _kinds(session: Session) -> list[JobKind]:
    statement = select(_jobs.c.kind).where(_jobs.c.state.in_(OPEN_JOB_STATES)).distinct().order_by(_jobs.c.kind)
    return list(session.execute(statement).scalars())


def _is_near(table: Table, limit: float) -> ColumnElement[bool]:
    """Return the SQL condition for jobs or polls near their time limit `limit` (in seconds), or past their deadline."""
    held = (table.c.leased_until > db_now()) & (table.c.deadline_at < db_now(limit * (1 - NEAR_SHARE)))
    left_behind = table.c.leased_until.is_not(None) & (table.c.deadline_at < db_now(-TAKE_OVER_SECONDS))
    return held | left_behind


def _was_stopped(table: Table) -> ColumnElement[bool]:
    return table.c.error.startswith(time_limits.TIME_LIMIT, autoescape=True)


def _row(what: str, row: TableRow, now: datetime, limit: float, name: str, *, kind: str | None = None) -> StalledRow:
    is_running = row.leased_until is not None
    # An earlier run may have been stopped at its limit. Report the current run only if it is also near its limit.
    left = (row.deadline_at - now).total_seconds() if row.deadline_at else 0.0
    return StalledRow(
        what=what,
        name=name,
        kind=kind,
        is_running=is_running and left < limit * (1 - NEAR_SHARE),
        age_seconds=(now - row.claimed_at).total_seconds() if row.claimed_at else None,
        seconds_left=left,
        limit_seconds=limit,
    )


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
