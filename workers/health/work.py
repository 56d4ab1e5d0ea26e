"""The part of the status about waiting jobs, rescans and candidates."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import jobs
from scanner.records.models import ScanJob, Sighting
from scanner.records.states import JobState
from scanner.settings import Settings
from workers.health import stalled
from workers.health.problems import Kind, Problem, span
from workers.health.rows import Overview, QueueRow, RescanRow

MAX_RESCANS = 10
WAITING_AFTER = {
    "pushes": timedelta(minutes=10),
    "files": timedelta(hours=1),
    **dict.fromkeys(("slow_pushes", "slow_files"), timedelta(hours=1)),
    **dict.fromkeys(("repository", "gist", "owner"), timedelta(hours=6)),
    "archive_hour": timedelta(hours=24),
}
"""Seconds that jobs of a kind may wait before this is a problem."""


def read(session: Session, settings: Settings, found: Overview) -> None:
    """Add open jobs, rescans and unconfirmed candidates, and their problems."""
    _queues(session, found)
    _rescans(session, found)
    found.sightings = dict(list(session.execute(select(Sighting.state, func.count()).group_by(Sighting.state))))
    found.stalled = stalled.find(session, settings.sources)
    found.problems += [stalled.problem(one) for one in found.stalled]


def _queues(session: Session, found: Overview) -> None:
    statement = (
        select(ScanJob.kind, ScanJob.state, func.count(), func.min(ScanJob.created_at), func.min(ScanJob.visible_at))
        .where(ScanJob.state.in_(jobs.OPEN_STATES))
        .group_by(ScanJob.kind, ScanJob.state)
        .order_by(ScanJob.kind, ScanJob.state)
    )
    for kind, state, number, oldest, visible in session.execute(statement):
        age = (found.at - oldest).total_seconds()
        found.queues.append(QueueRow(kind, state, number, age, visible))
        if state == JobState.QUEUED and kind in WAITING_AFTER and age > WAITING_AFTER[kind].total_seconds():
            sentence = f"the oldest job of kind {kind} has waited for {span(age)}"
            found.problems.append(Problem(Kind.JOBS_WAIT, sentence, "add workers", oldest, kind))


def _rescans(session: Session, found: Overview) -> None:
    statement = (
        select(ScanJob)
        .where(ScanJob.source == "rescan", ScanJob.parent_id.is_(None))
        .order_by(ScanJob.id.desc())
        .limit(MAX_RESCANS)
    )
    for job in session.execute(statement).scalars():
        target = job.target.get("repository") or job.target.get("owner") or job.target.get("gist")
        found.rescans.append(RescanRow(job.id, job.kind, target, job.state, job.progress.get("phase"), job.error))
