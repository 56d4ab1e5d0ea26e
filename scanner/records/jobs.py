"""Scan jobs as rows: queued, claimed by lease, finished or split. What a job means is not known here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scanner.records import leases, tallies, time_limits
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.leases import Keeping, Lease
from scanner.records.models import ScanJob, db_now
from scanner.records.states import JobState

MAX_FAILURES = 5
"""Claims of one job without progress, after which it is failed: a job that kills its worker must not do so for ever."""

OPEN = (JobState.QUEUED, JobState.RUNNING)
CLAIM_TRIES = 10


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job in hand. `failures` counts the claims before this one that led to nothing."""

    lease: Lease
    id: int
    kind: str
    source: str
    priority: int
    target: Mapping[str, Any]
    progress: Mapping[str, Any]
    counts: Mapping[str, Any]
    failures: int


def enqueue(
    session: Session,
    kind: str,
    target: Mapping[str, Any],
    *,
    source: str,
    priority: int = 100,
    dedupe_key: str | None = None,
    delay: float = 0,
    visible_at: datetime | None = None,
    parent_id: int | None = None,
) -> int | None:
    """Queue a job, due in `delay` seconds; lower priorities go first. None: one with this key waits to be begun.

    That one becomes as urgent. `visible_at`: when the first of what it reads became public. `parent_id`: the job that
    led to this one.
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
        # A worker has taken it just now, and may be past what has changed since.
    return job_id


def enqueue_or_hasten(
    session: Session,
    kind: str,
    target: Mapping[str, Any],
    *,
    source: str,
    priority: int,
    dedupe_key: str,
    parent_id: int | None = None,
) -> int:
    """Queue a job that somebody waits for; one with its key that waits already becomes as urgent, and is due now.

    It becomes his as well, or a child of `parent_id` that keeps the source which wanted it first.
    """
    job_id = enqueue(
        session, kind, target, source=source, priority=priority, dedupe_key=dedupe_key, parent_id=parent_id
    )
    if job_id is not None:
        return job_id
    # Joined, it is locked until our transaction ends: no worker has taken it.
    statement = (
        update(ScanJob)
        .where(_waits(dedupe_key))
        .values(source=source if parent_id is None else ScanJob.source, next_attempt_at=db_now())
        .returning(ScanJob.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one()


def claim_next(database: Database, *kinds: str) -> ClaimedJob | None:
    """The most urgent job of these kinds that is due, under a new lease; None when there is none.

    A job that led nowhere too often is failed here, in sight, and the next one is taken.
    """
    for _ in range(CLAIM_TRIES):
        with database.read() as session:
            statement = (
                select(ScanJob.id, ScanJob.failures)
                .where(ScanJob.kind.in_(kinds), ScanJob.state.in_(OPEN), leases.is_due(ScanJob))
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
    """This job, if it is due and open, under a new lease."""
    with database.write() as session:
        lease = leases.claim(
            session,
            ScanJob,
            job_id,
            ScanJob.state.in_(OPEN),
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
    """Return the deadline of a claim that begins now, by the job's kind."""
    by_kind = [(ScanJob.kind == kind, db_now(seconds)) for kind, seconds in time_limits.JOB_SECONDS.items()]
    return case(*by_kind, else_=db_now(time_limits.DEFAULT_SECONDS))


def record_time_limit(database: Database, lease: Lease, seconds: float) -> bool:
    """Take a job back from a worker that passed its time limit; False if the worker had lost it before.

    It counts as a second failure: a page is split at its next claim, and a single item is given up after three claims.
    The count stays below the one at which `claim_next` gives up, unless the claim itself has reached it, so that an
    optional step of a rescan is passed over first.
    """
    error = f"{time_limits.TIME_LIMIT}: took more than {seconds:.0f} s without progress and was stopped"
    counted = case((ScanJob.failures + 1 < MAX_FAILURES, ScanJob.failures + 1), else_=ScanJob.failures)
    with database.write() as session:
        statement = (
            update(ScanJob)
            .where(lease.holds(), ScanJob.leased_until.is_not(None))
            # The next number is nobody's lease: the hung worker can write no more.
            .values(leased_until=None, deadline_at=None, attempts=ScanJob.attempts + 1, failures=counted, error=error)
            .returning(ScanJob.source)
            .execution_options(synchronize_session=False)
        )
        source = session.execute(statement).scalar_one_or_none()
        if source is not None:
            tallies.add(session, source, {f"error_{time_limits.TIME_LIMIT}": 1})
    return source is not None


def release(database: Database, lease: Lease) -> None:
    """Give back a job whose worker ends through no fault of the job: this claim does not count as a failure."""
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
def kept(database: Database, job: ClaimedJob, *, max_seconds: float | None = None) -> Iterator[Keeping]:
    """Keep the job's lease while the block runs, up to the time limit of its kind.

    Args:
        database: Where the job is.
        job: The job in hand.
        max_seconds: How long the block may take in all; without it, progress moves the deadline for ever.
    """
    limit = time_limits.job_seconds(job.kind)
    with leases.kept(
        database,
        job.lease,
        limit_seconds=limit,
        max_seconds=max_seconds,
        on_limit=lambda: record_time_limit(database, job.lease, limit),
        release=lambda: release(database, job.lease),
    ) as keeping:
        yield keeping


def finish(
    session: Session, job: ClaimedJob, state: JobState, *, counts: Mapping[str, Any], error: str | None = None
) -> None:
    """Close the job as done, partial, failed or cancelled. LeaseLost when it is somebody else's by now."""
    job.lease.write(session, state=state, counts=dict(counts), error=error, leased_until=None, finished_at=db_now())


def checkpoint(database: Database, job: ClaimedJob, progress: Mapping[str, Any]) -> None:
    """Record progress; the job then counts as one that leads somewhere. LeaseLost when it is somebody else's by now."""
    with database.write() as session:
        job.lease.write(session, progress=dict(progress), failures=1)


def defer(session: Session, job: ClaimedJob, *, delay: float, error: str | None) -> None:
    """Give the job back, due in `delay` seconds. What is asked for under its key meanwhile is a job of its own."""
    job.lease.write(session, state=JobState.QUEUED, leased_until=None, next_attempt_at=db_now(delay), error=error)


def give_back(session: Session, job: ClaimedJob, *, delay: float, error: str | None) -> None:
    """Give back a job of which nothing was read: due in `delay` seconds, and otherwise as if nobody had claimed it."""
    try:
        with session.begin_nested():
            job.lease.write(session, begun_at=None, failures=0)
            defer(session, job, delay=delay, error=error)
    except IntegrityError:
        # One with its key was queued meanwhile; its time may come first, so both stay.
        job.lease.write(session, failures=0)
        defer(session, job, delay=delay, error=error)


def cancel(session: Session, job_id: int) -> bool:
    """Cancel a job that is open; whoever works on it loses its lease. False: there is no such open job."""
    result = session.execute(
        update(ScanJob)
        .where(ScanJob.id == job_id, ScanJob.state.in_(OPEN))
        .values(state=JobState.CANCELLED, attempts=ScanJob.attempts + 1, leased_until=None, finished_at=db_now())
    )
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result has it


def cancel_all(session: Session, job_id: int) -> list[int]:
    """Cancel a job and those that only it led to; the numbers of those that were open.

    The job itself first: whoever is just about to add to what it led to has done so by then, or cannot any more.
    """
    found = [job_id] if cancel(session, job_id) else []
    children = (
        select(ScanJob.id)
        .where(ScanJob.parent_id == job_id, ScanJob.state.in_(OPEN), ScanJob.is_shared.is_(False))
        .order_by(ScanJob.id)
    )
    return found + [one for one in session.execute(children).scalars().all() if cancel(session, one)]


def item_count(session: Session, *conditions: ColumnElement[bool]) -> int:
    """How many things the jobs read that meet `conditions`."""
    return int(session.execute(select(func.coalesce(func.sum(ScanJob.items), 0)).where(*conditions)).scalar_one())


def due_count(session: Session, kinds: Collection[str]) -> dict[str, int]:
    """How many jobs of each kind are due."""
    statement = (
        select(ScanJob.kind, func.count())
        .where(ScanJob.kind.in_(kinds), ScanJob.state.in_(OPEN), leases.is_due(ScanJob))
        .group_by(ScanJob.kind)
    )
    return dict(list(session.execute(statement)))


def delete_old(session: Session, *, days: int, failed_days: int) -> int:
    """Forget jobs that ended well `days` ago, and those that did not `failed_days` ago; their number."""
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
    """Ask for the job with this key that waits to be begun, beside whoever has asked for it; False: none does."""
    statement = (
        update(ScanJob)
        .where(_waits(dedupe_key))
        .values(
            priority=case((ScanJob.priority > priority, priority), else_=ScanJob.priority),
            parent_id=func.coalesce(ScanJob.parent_id, parent_id),
            # Its parent that asks once more, after a crash, is nobody else.
            is_shared=or_(ScanJob.is_shared, ScanJob.parent_id.is_distinct_from(parent_id)),
        )
        .execution_options(synchronize_session=False)
    )
    return bool(session.execute(statement).rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _item_count(kind: str, target: Mapping[str, Any]) -> int:
    """A page has its items in a list under its kind, any other job is one."""
    items = target.get(kind)
    return len(items) if isinstance(items, list) else 1


def _waits(dedupe_key: str | None) -> ColumnElement[bool]:
    return and_(ScanJob.dedupe_key == dedupe_key, ScanJob.state == JobState.QUEUED, ScanJob.begun_at.is_(None))


def _give_up(database: Database, job_id: int) -> None:
    with database.write() as session:
        lease = leases.claim(session, ScanJob, job_id, ScanJob.state.in_(OPEN))
        if lease is None:
            return
        job = session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()
        counts = {**job.counts, "given_up": job.items}
        tallies.add(session, job.source, {"given_up": counts["given_up"], "jobs": 1})
        error = f"gave up after {MAX_FAILURES} failures without progress"
        if job.error:
            error = f"{error}; {job.error}"[:2000]
        lease.write(session, state=JobState.FAILED, counts=counts, error=error, leased_until=None, finished_at=db_now())
