"""When more pushes wait than can be read in time: the unlikeliest are dropped, oldest first, and counted by reason.

Without it a backlog would only grow, and every leak in it would be found too late; nothing is dropped in silence.
"""

from __future__ import annotations

import logging
from collections import Counter

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from scanner.records import tallies
from scanner.records.models import ScanJob, db_now
from scanner.sources.likelihood import ARCHIVE_PRIORITY, PRIORITIES

MOST_DROPPED_AT_ONCE = 500
"""Jobs; the next sweep drops more."""

_log = logging.getLogger(__name__)


def shed(session: Session, *, most_jobs: int) -> int:
    """Drop what is beyond `most_jobs` waiting jobs of pushes; the number of pushes dropped.

    Only what has never been tried is dropped: a retry holds a push that somebody has begun to read.
    """
    waiting = session.execute(
        select(func.count()).where(ScanJob.kind == "pushes", ScanJob.state == "queued")
    ).scalar_one()
    excess = min(waiting - most_jobs, MOST_DROPPED_AT_ONCE)
    if excess <= 0:
        return 0
    names = {priority: name for name, priority in PRIORITIES.items()}
    statement = (
        select(ScanJob)
        .where(
            ScanJob.kind == "pushes",
            ScanJob.state == "queued",
            ScanJob.attempts == 0,
            ScanJob.priority.in_([*names, ARCHIVE_PRIORITY]),
        )
        .order_by(ScanJob.priority.desc(), ScanJob.created_at)
        .limit(excess)
    )
    counts: dict[str, Counter[str]] = {}
    for job in session.execute(statement).scalars().all():
        dropped = {f"dropped_backlog_{names.get(job.priority, 'archive')}": len(job.target["pushes"])}
        taken = session.execute(
            update(ScanJob)
            .where(ScanJob.id == job.id, ScanJob.state == "queued", ScanJob.attempts == 0)
            .values(state="dropped", counts=dropped, finished_at=db_now())
            .execution_options(synchronize_session=False)
        )
        if taken.rowcount == 1:  # type: ignore[attr-defined]  # an UPDATE's result has it
            counts.setdefault(job.source, Counter()).update(dropped)
    for source in sorted(counts):
        tallies.add(session, source, counts[source])
    total = sum(sum(counter.values()) for counter in counts.values())
    if total:
        _log.error("more pushes wait than can be read: the unlikeliest were dropped", extra={"pushes": total})
    return total
