"""The queue of scan jobs. A worker claims a job for a limited time (a lease), then finishes, defers or splits it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scanner.records import leases, security_log, tallies, time_limits
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.leases import HeldLeases, Lease
from scanner.records.models import ScanJob, db_now
from scanner.records.states import OPEN_JOB_STATES, JobKind, JobState

MAX_FAILURES = 5
"""A job fails after it was claimed this many times without progress."""

MAX_CLAIM_TRIES = 10
"""The maximum number of jobs that one call of `claim_next` tries to claim."""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker has claimed. `failures` counts how often it was claimed before without progress."""

    lease: Lease
    id: int
    kind: JobKind
    source: str
    priority: int
    target: Mapping[str, Any]
    progress: Mapping[str, Any]
    counts: Mapping[str, Any]
    failures: int


def enqueue(
    session: Session,
    kind: JobKind,
    target: Mapping[str, Any],
    *,
    source: str,
    priority: int = 100,
    dedupe_key: str | None = None,
    delay: float = 0,
    visible_at: datetime | None = None,
    parent_id: int | None = None,
) -> int | None:
    """Queue a job, or make a waiting job with the same dedupe key at least as urgent.

    Args:
        target: What to read, as JSON, such as `{"pushes": [...]}`.
        priority: Jobs with a lower number are claimed first.
        delay: Seconds until the job is due.
        visible_at: When the oldest item that the job reads became public.

    Returns:
        The id of the new job, or None if a job with the same dedupe key is waiting.
    """
    statement = (
        insert_or_nothing(session, ScanJob)
        .values(
            kind=kind,
            source=source,
            priority=priority,
            items=_item_count(kind, target),
            target=dict(target),
            dedupe_key=dedupe_key,
            state=JobState.QUEUED,
            attempts=0,
            failures=0,
            next_attempt_at=db_now(delay),
            progress={},
            counts={},
            visible_at=visible_at,
            parent_id=parent_id,
            is_shared=False,
            created_at=db_now(),
        )
        .returning(ScanJob.id)
    )
    while (job_id := session.execute(statement).scalar_one_or_none()) is None:
        if _join(session, dedupe_key, priority, parent_id):
            return None
        # A worker has just claimed the waiting job and may not see the new content, so queue a new job.
    return job_id


def enqueue_urgent(
    session: Session,
    kind: JobKind,
    target: Mapping[str, Any],
    *,
    source: str,
    priority: int,
    dedupe_key: str,
    parent_id: int | None = None,
) -> int:
    """Queue a job that is due now, or make a waiting job with the same dedupe key due now. Return the job's id."""
    job_id = enqueue(
        session, kind, target, source=source, priority=priority, dedupe_key=dedupe_key, parent_id=parent_id
    )
    if job_id is not None:
        return job_id
    # `enqueue` has locked the waiting job, so no worker can claim it now.
    statement = (
        update(ScanJob)
        .where(_waits(dedupe_key))
        .values(source=source if parent_id is None else ScanJob.source, next_attempt_at=db_now())
        .returning(ScanJob.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one()


def claim_next(database: Database, *kinds: JobKind) -> ClaimedJob | None:
    """Claim the most urgent due job of these kinds. Return None if there is none.

    Jobs that were claimed `MAX_FAILURES` times without progress are marked as failed.
    """
    for _ in range(MAX_CLAIM_TRIES):
        with database.read() as session:
            statement = (
                select(ScanJob.id, ScanJob.failures)
                .where(ScanJob.kind.in_(kinds), ScanJob.state.in_(OPEN_JOB_STATES), leases.is_due(ScanJob))
                .order_by(ScanJob.priority, ScanJob.next_attempt_at)
                .limit(1)
            )
            if database.is_postgresql:
                statement = statement.with_for_update(skip_locked=True)
            found = session.execute(statement).one_or_none()
        if found is None:
            return None
        job_id, failures = found
        if failures >= MAX_FAILURES:
            _give_up(database, job_id)
        elif (claimed := claim(database, job_id)) is not None:
            return claimed
    return None


def claim(database: Database, job_id: int) -> ClaimedJob | None:
    """Claim this job for this worker. Return None if it is closed or not due."""
    with database.write() as session:
        lease = leases.claim(
            session,
            ScanJob,
            job_id,
            ScanJob.state.in_(OPEN_JOB_STATES),
            state=JobState.RUNNING,
            failures=ScanJob.failures + 1,
            claimed_at=db_now(),
            deadline_at=_deadline(),
            begun_at=func.coalesce(ScanJob.begun_at, db_now()),
        )
        if lease is None:
            return None
        job = session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()
        return ClaimedJob(
            lease=lease,
            id=job.id,
            kind=job.kind,
            source=job.source,
            priority=job.priority,
            target=job.target,
            progress=job.progress,
            counts=job.counts,
            failures=job.failures - 1,
        )


def _deadline() -> ColumnElement[Any]:
    """Return an SQL expression for the end of a claim that begins now."""
    by_kind = [(ScanJob.kind == kind, db_now(seconds)) for kind, seconds in time_limits.JOB_SECONDS.items()]
    return case(*by_kind, else_=db_now(time_limits.DEFAULT_SECONDS))


def record_time_limit(database: Database, lease: Lease, seconds: float) -> bool:
    """Take a job back from a worker that exceeded the time limit of `seconds`, and count a failure.

    Return False if the worker no longer held the job.
    """
    error = f"{time_limits.TIME_LIMIT}: the job made no progress for {seconds:.0f} s and was stopped"
    # Never count up to `MAX_FAILURES` here. After some failures, a rescan leaves out optional steps and may succeed.
    counted = case((ScanJob.failures + 1 < MAX_FAILURES, ScanJob.failures + 1), else_=ScanJob.failures)
    with database.write() as session:
        statement = (
            update(ScanJob)
            .where(lease.holds(), ScanJob.leased_until.is_not(None))
            # Increase the fencing token, so that the hung worker can no longer write its results.
            .values(leased_until=None, deadline_at=None, attempts=ScanJob.attempts + 1, failures=counted, error=error)
            .returning(ScanJob.source)
            .execution_options(synchronize_session=False)
        )
        source = session.execute(statement).scalar_one_or_none()
        if source is not None:
            tallies.add(session, source, {f"error_{time_limits.TIME_LIMIT}": 1})
    return source is not None


def release(database: Database, lease: Lease) -> None:
    """Release a job because its worker is shutting down. The attempt does not count as a failure."""
    with database.write() as session:
        session.execute(
            update(ScanJob)
            .where(lease.holds(), ScanJob.leased_until.is_not(None))
            .values(
                leased_until=None,
                attempts=ScanJob.attempts + 1,
                failures=case((ScanJob.failures > 0, ScanJob.failures - 1), else_=0),
            )
            .execution_options(synchronize_session=False)
        )


@contextmanager
def keep_renewed(database: Database, job: ClaimedJob, *, max_seconds: float | None = None) -> Iterator[HeldLeases]:
    """Extend the worker's claim of the job while the `with` block runs, up to the time limit of the job's kind."""
    limit = time_limits.job_seconds(job.kind)
    with (
        security_log.of_job(job.id),
        leases.keep_renewed(
            database,
            job.lease,
            limit_seconds=limit,
            max_seconds=max_seconds,
            on_limit=lambda: record_time_limit(database, job.lease, limit),
            release=lambda: release(database, job.lease),
        ) as held,
    ):
        yield held


def finish(
    session: Session, job: ClaimedJob, state: JobState, *, counts: Mapping[str, Any], error: str | None = None
) -> None:
    """Close the job as done, partial, failed or cancelled.

    Raises:
        LeaseLost: Another worker has claimed the job.
    """
    job.lease.write(session, state=state, counts=dict(counts), error=error, leased_until=None, finished_at=db_now())


def checkpoint(database: Database, job: ClaimedJob, progress: Mapping[str, Any]) -> None:
    """Save how far the job has been read, and reset its count of failures.

    Raises:
        LeaseLost: Another worker has claimed the job.
    """
    with database.write() as session:
        job.lease.write(session, progress=dict(progress), failures=1)


def defer(session: Session, job: ClaimedJob, *, delay: float, error: str | None) -> None:
    """Put the claimed job back into the queue, due in `delay` seconds."""
    job.lease.write(session, state=JobState.QUEUED, leased_until=None, next_attempt_at=db_now(delay), error=error)


def requeue_unread(session: Session, job: ClaimedJob, *, delay: float, error: str | None) -> None:
    """Put the claimed job back into the queue, due in `delay` seconds. No item of the job has been read yet."""
    try:
        with session.begin_nested():
            job.lease.write(session, begun_at=None, failures=0)
            defer(session, job, delay=delay, error=error)
    except IntegrityError:
        # Another job with the same dedupe key was queued meanwhile. It may be due earlier, so keep both jobs.
        job.lease.write(session, failures=0)
        defer(session, job, delay=delay, error=error)


def cancel(session: Session, job_id: int) -> bool:
    """Cancel an open job, even if a worker is reading it. Return False if no such job is open."""
    result = session.execute(
        update(ScanJob)
        .where(ScanJob.id == job_id, ScanJob.state.in_(OPEN_JOB_STATES))
        .values(state=JobState.CANCELLED, attempts=ScanJob.attempts + 1, leased_until=None, finished_at=db_now())
    )
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result has it


def cancel_with_children(session: Session, job_id: int) -> list[int]:
    """Cancel a job and its child jobs, except child jobs with `is_shared`. Return the cancelled jobs' ids."""
    cancelled = [job_id] if cancel(session, job_id) else []
    children = (
        select(ScanJob.id)
        .where(ScanJob.parent_id == job_id, ScanJob.state.in_(OPEN_JOB_STATES), ScanJob.is_shared.is_(False))
        .order_by(ScanJob.id)
    )
    return cancelled + [child_id for child_id in session.execute(children).scalars().all() if cancel(session, child_id)]


def item_count(session: Session, *conditions: ColumnElement[bool]) -> int:
    """Return the total number of items to read in the jobs that meet the conditions."""
    return int(session.execute(select(func.coalesce(func.sum(ScanJob.items), 0)).where(*conditions)).scalar_one())


def due_count(session: Session, kinds: Collection[JobKind]) -> dict[JobKind, int]:
    """Return the number of due jobs by kind. Kinds without due jobs are missing."""
    statement = (
        select(ScanJob.kind, func.count())
        .where(ScanJob.kind.in_(kinds), ScanJob.state.in_(OPEN_JOB_STATES), leases.is_due(ScanJob))
        .group_by(ScanJob.kind)
    )
    return dict(list(session.execute(statement)))


def purge_expired(session: Session, *, days: int, failed_days: int) -> int:
    """Delete finished jobs older than `days`, or `failed_days` for partial and failed jobs. Return their number."""
    old = or_(
        and_(
            ScanJob.state.in_((JobState.DONE, JobState.CANCELLED, JobState.DROPPED)),
            ScanJob.finished_at < db_now(-days * 86400),
        ),
        and_(
            ScanJob.state.in_((JobState.PARTIAL, JobState.FAILED)), ScanJob.finished_at < db_now(-failed_days * 86400)
        ),
    )
    result = session.execute(delete(ScanJob).where(old))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _join(session: Session, dedupe_key: str | None, priority: int, parent_id: int | None) -> bool:
    """Let a waiting job with this dedupe key serve the new request. Return False if there is no such job."""
    statement = (
        update(ScanJob)
        .where(_waits(dedupe_key))
        .values(
            priority=case((ScanJob.priority > priority, priority), else_=ScanJob.priority),
            parent_id=func.coalesce(ScanJob.parent_id, parent_id),
            # A child job is shared if different jobs have asked for it. The same parent may ask again after a crash.
            is_shared=or_(ScanJob.is_shared, ScanJob.parent_id.is_distinct_from(parent_id)),
        )
        .execution_options(synchronize_session=False)
    )
    return bool(session.execute(statement).rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _item_count(kind: str, target: Mapping[str, Any]) -> int:
    """Return how many items the job reads."""
    items = target.get(kind)
    return len(items) if isinstance(items, list) else 1


def _waits(dedupe_key: str | None) -> ColumnElement[bool]:
    return and_(ScanJob.dedupe_key == dedupe_key, ScanJob.state == JobState.QUEUED, ScanJob.begun_at.is_(None))


def _give_up(database: Database, job_id: int) -> None:
    with database.write() as session:
        lease = leases.claim(session, ScanJob, job_id, ScanJob.state.in_(OPEN_JOB_STATES))
        if lease is None:
            return
        job = session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()
        counts = {**job.counts, "given_up": job.items}
        tallies.add(session, job.source, {"given_up": counts["given_up"], "jobs": 1})
        error = f"gave up after {MAX_FAILURES} failures without progress"
        if job.error:
            error = f"{error}; {job.error}"[:2000]
        lease.write(session, state=JobState.FAILED, counts=counts, error=error, leased_until=None, finished_at=db_now())
