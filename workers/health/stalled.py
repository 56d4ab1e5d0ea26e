"""Finds jobs and polls that make no progress."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from scanner.records import jobs, time_limits
from scanner.records.models import ScanJob, db_now
from scanner.records.source_models import SourceState
from scanner.records.states import JobKind
from workers.health.problems import Kind, Problem
from workers.health.rows import StalledRow

NEAR_SHARE = 0.5
"""A job or poll that makes no progress for this share of its time limit is reported."""
TAKE_OVER_SECONDS = 120.0
"""If the worker of a job or poll dies, another one claims the job or poll within this time after its deadline."""
MAX_NAMED = 20


def find(session: Session, sources: Collection[str]) -> list[StalledRow]:
    """Return the jobs and polls that made no progress for half of their time limit, or that were stopped at the
    limit.
    """
    now: datetime = session.execute(select(db_now())).scalar_one()
    found: list[StalledRow] = []
    for kind in _kinds(session):
        limit = time_limits.job_seconds(kind)
        statement = (
            select(ScanJob)
            .where(ScanJob.kind == kind, ScanJob.state.in_(jobs.OPEN_STATES))
            .where(or_(_is_near(ScanJob, limit), _was_stopped(ScanJob)))
            .order_by(ScanJob.id)
            .limit(MAX_NAMED)
        )
        found += [_row("job", job, now, limit, f"{job.id}", kind=kind) for job in session.execute(statement).scalars()]
    for source in sorted(sources):
        limit = time_limits.poll_seconds(source)
        statement_of_polls = select(SourceState).where(
            SourceState.source == source, or_(_is_near(SourceState, limit), _was_stopped(SourceState))
        )
        found += [
            _row("poll", state, now, limit, source) for state in session.execute(statement_of_polls).scalars().all()
        ]
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
    statement = select(ScanJob.kind).where(ScanJob.state.in_(jobs.OPEN_STATES)).distinct().order_by(ScanJob.kind)
    return list(session.execute(statement).scalars())


def _is_near(model: type[ScanJob] | type[SourceState], limit: float) -> ColumnElement[bool]:
    """Return the SQL condition for jobs or polls near their time limit `limit` (in seconds), or past their deadline."""
    held = (model.leased_until > db_now()) & (model.deadline_at < db_now(limit * (1 - NEAR_SHARE)))
    left_behind = model.leased_until.is_not(None) & (model.deadline_at < db_now(-TAKE_OVER_SECONDS))
    return held | left_behind


def _was_stopped(model: type[ScanJob] | type[SourceState]) -> ColumnElement[bool]:
    return model.error.startswith(time_limits.TIME_LIMIT, autoescape=True)


def _row(
    what: str, row: ScanJob | SourceState, now: datetime, limit: float, name: str, *, kind: str | None = None
) -> StalledRow:
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
