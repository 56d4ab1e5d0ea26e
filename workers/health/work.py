"""Counts waiting jobs, rescans, and found tokens that are not confirmed yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.models import ScanJob, Sighting, table_of
from scanner.records.states import OPEN_JOB_STATES, JobState
from scanner.settings import Settings
from workers.health import stalled
from workers.health.problems import Kind, Problem, span
from workers.health.rows import QueueRow, RescanRow, StalledRow

MAX_RESCANS = 10
WAITING_AFTER = {
    "pushes": timedelta(minutes=10),
    "files": timedelta(hours=1),
    **dict.fromkeys(("slow_pushes", "slow_files"), timedelta(hours=1)),
    **dict.fromkeys(("repository", "gist", "owner"), timedelta(hours=6)),
    "archive_hour": timedelta(hours=24),
}
"""For each kind of job, the waiting time above which a job is reported as a problem."""

_jobs, _sightings = table_of(ScanJob), table_of(Sighting)


@dataclass(frozen=True, slots=True)
class WorkState:
    """The waiting jobs, the latest rescans, the tokens not confirmed yet, and the problems with them."""

    queues: list[QueueRow]
    rescans: list[RescanRow]
    sightings: dict[str, int]
    stalled: list[StalledRow]
    problems: list[Problem]


def read(session: Session, settings: Settings, now: datetime) -> WorkState:
    """Return the unfinished jobs, the latest rescans, the tokens not confirmed yet, and the problems with them."""
    queues, hung = _queues(session, now), stalled.find(session, settings.sources)
    return WorkState(
        queues=queues,
        rescans=_rescans(session),
        sightings=dict(list(session.execute(select(_sightings.c.state, func.count()).group_by(_sightings.c.state)))),
        stalled=hung,
        problems=[*_waiting(queues, now), *(stalled.problem(one) for one in hung)],
    )


def _queues(session: Session, now: datetime) -> list[QueueRow]:
    statement = (
        select(_jobs.c.kind, _jobs.c.state, func.count(), func.min(_jobs.c.created_at), func.min(_jobs.c.visible_at))
        .where(_jobs.c.state.in_(OPEN_JOB_STATES))
        .group_by(_jobs.c.kind, _jobs.c.state)
        .order_by(_jobs.c.kind, _jobs.c.state)
    )
    return [
        QueueRow(kind, state, number, (now - oldest).total_seconds(), visible)
        for kind, state, number, oldest, visible in session.execute(statement)
    ]


def _waiting(queues: Sequence[QueueRow], now: datetime) -> Iterator[Problem]:
    for row in queues:
        age = timedelta(seconds=row.oldest_seconds or 0.0)
        if row.state == JobState.QUEUED and row.kind in WAITING_AFTER and age > WAITING_AFTER[row.kind]:
            sentence = f"the oldest job of kind {row.kind} has waited for {span(age)}"
            yield Problem(Kind.JOBS_WAIT, sentence, "add workers", now - age, row.kind)


def _rescans(session: Session) -> list[RescanRow]:
    statement = (
        select(_jobs)
        .where(_jobs.c.source == "rescan", _jobs.c.parent_id.is_(None))
        .order_by(_jobs.c.id.desc())
        .limit(MAX_RESCANS)
    )
    return [
        RescanRow(
            job=job.id,
            kind=job.kind,
            target=job.target.get("repository") or job.target.get("owner") or job.target.get("gist"),
            state=job.state,
            phase=job.progress.get("phase"),
            error=job.error,
        )
        for job in session.execute(statement)
    ]
