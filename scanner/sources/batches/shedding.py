"""If too many jobs wait, drops those that are least likely to contain a token."""

from __future__ import annotations

import logging
from collections import Counter

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scanner.records import jobs, tallies
from scanner.records.models import ScanJob, db_now
from scanner.records.states import JobKind, JobState
from scanner.sources.archive import hours as archive_hours
from scanner.sources.pushes.priorities import ARCHIVE_PRIORITY, EARLIER_PRIORITY, PRIORITIES
from scanner.sources.registry import droppable_priorities
from scanner.sources.timeline import event_jobs

MAX_DROPPED_AT_ONCE = 500
"""One call of `shed` drops at most this many jobs."""
PUSH_NAMES: dict[int, str] = {
    **{priority: name for name, priority in PRIORITIES.items()},
    EARLIER_PRIORITY: "earlier",
    ARCHIVE_PRIORITY: "archive",
}

_log = logging.getLogger(__name__)


def shed(session: Session, kind: JobKind, *, most_items: int) -> int:
    """Drop waiting jobs of a kind until at most `most_items` pushes, files or repositories remain.

    Jobs that operators have queued, retries, and jobs that a worker has started are not dropped or counted.

    Returns:
        The number of items in the dropped jobs.
    """
    waiting = (ScanJob.state == JobState.QUEUED, ScanJob.begun_at.is_(None))
    droppable = (ScanJob.kind == kind, *waiting, ScanJob.priority.in_(droppable_priorities(kind)))
    excess = jobs.item_count(session, *droppable) - most_items
    if excess <= 0:
        return 0
    statement = (
        select(ScanJob)
        .where(*droppable)
        .order_by(ScanJob.priority.desc(), ScanJob.created_at)
        .limit(MAX_DROPPED_AT_ONCE)
    )
    counts: dict[str, Counter[str]] = {}
    events, hours = set[str](), set[str]()
    for job in session.execute(statement).scalars().all():
        if excess <= 0:
            break
        name = PUSH_NAMES[job.priority] if kind == JobKind.PUSHES else kind
        dropped = {f"dropped_backlog_{name}": job.items}
        excess -= job.items
        taken = session.execute(
            update(ScanJob)
            .where(ScanJob.id == job.id, *waiting)
            .values(state=JobState.DROPPED, counts=dropped, finished_at=db_now())
            .execution_options(synchronize_session=False)
        )
        if taken.rowcount == 1:  # type: ignore[attr-defined]  # an UPDATE's result has it
            counts.setdefault(job.source, Counter()).update(dropped)
            events.update(job.target.get("events", ()))
            hours.update([job.target["hour"]] if "hour" in job.target else ())
    event_jobs.forget_events(session, events)
    archive_hours.reopen(session, hours)
    for source in sorted(counts):
        tallies.add(session, source, counts[source])
    total = sum(sum(counter.values()) for counter in counts.values())
    if total:
        _log.error("too many %s jobs wait: the least likely ones were dropped", kind, extra={"items": total})
    return total
