"""The source that reads hours of the event archive in which events were missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.reading_models import ReadObject
from scanner.records.source_models import Gap
from scanner.records.states import OPEN_JOB_STATES, JobKind, JobState
from scanner.sources.archive.hours import PUBLISHED_AFTER, SOURCE, hours_between
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source
from scanner.sources.pushes.priorities import ARCHIVE_PRIORITY

INTERVAL = 60.0
LOOK_BACK = timedelta(hours=48)
MAX_GAPS = 20_000
PRIORITY = 150


def poll(database: Database, *, wait: Callable[[float], None] = time.sleep) -> PollReport:
    """Queue jobs for hours with missed events whose files are probably published. Return the number of jobs.

    `wait` is the function that sleeps.
    """
    return leased_poll.run_if_due(database, SOURCE, wait, lambda leased: _poll(database, leased))


def _poll(database: Database, leased: LeasedPoll) -> PollReport:
    with database.write() as session:
        now = datetime.now(UTC)
        count = 0
        for hour in _hours_with_gaps(session, now):
            count += queue_hour(session, hour, priority=PRIORITY) is not None
        leased_poll.end(session, leased, cursor={}, interval=INTERVAL, counts={"hours_queued": count}, newest=None)
    return PollReport(True, jobs=count)


def queue_hour(session: Session, hour: datetime, *, priority: int, parent_id: int | None = None) -> int | None:
    """Queue a job for this hour of the event archive. Return its id, or None if such a job is waiting or running."""
    if open_hour(session, hour) is not None:
        return None
    target = {"hour": hour.isoformat()}
    return jobs.enqueue(
        session,
        JobKind.ARCHIVE_HOUR,
        target,
        source=SOURCE,
        priority=priority,
        dedupe_key=_key(hour),
        visible_at=hour,
        parent_id=parent_id,
    )


def open_hour(session: Session, hour: datetime) -> int | None:
    """Return the id of the waiting or running job for this hour of the event archive, or None."""
    statement = select(ScanJob.id).where(ScanJob.dedupe_key == _key(hour), ScanJob.state.in_(OPEN_JOB_STATES)).limit(1)
    return session.execute(statement).scalar_one_or_none()


def _key(hour: datetime) -> str:
    return f"archive:{hour.isoformat()}"


def _hours_with_gaps(session: Session, now: datetime) -> list[datetime]:
    oldest = now - LOOK_BACK
    statement = (
        select(Gap.from_at, Gap.until_at)
        .where(Gap.source == "public_events", Gap.filled_at.is_(None), Gap.until_at > oldest)
        .order_by(Gap.from_at)
        .limit(MAX_GAPS)
    )
    wanted = {
        hour
        for from_at, until_at in session.execute(statement)
        for hour in hours_between(max(from_at, oldest), until_at)
        if hour + timedelta(hours=1) + PUBLISHED_AFTER <= now
    }
    if not wanted:
        return []
    keys = [hour.isoformat() for hour in wanted]
    read = select(ReadObject.key).where(ReadObject.kind == "archive_hour", ReadObject.key.in_(keys))
    failed = select(ScanJob.dedupe_key).where(ScanJob.kind == JobKind.ARCHIVE_HOUR, ScanJob.state == JobState.FAILED)
    done = set(session.execute(read).scalars()) | {
        str(key).removeprefix("archive:") for key in session.execute(failed).scalars()
    }
    return sorted(hour for hour in wanted if hour.isoformat() not in done)


def _poll_source(context: PollContext) -> PollReport:
    return poll(context.database) if context.settings.archive_url else PollReport()


EVENT_ARCHIVE = Source(
    SOURCE,
    _poll_source,
    job_kinds=(JobKind.ARCHIVE_HOUR,),
    droppable={JobKind.PUSHES: (ARCHIVE_PRIORITY,), JobKind.REPOSITORY: (ARCHIVE_PRIORITY,)},
)
