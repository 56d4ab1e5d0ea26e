"""Polls under a lease: a worker claims a source when its poll is due, and stores the results at the end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.orm import Session

from scanner.detection.budgets import ScanBudget
from scanner.github.errors import GitHubError
from scanner.records import leases, time_limits
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import db_now
from scanner.records.source_models import Gap, SourceState
from scanner.sources.polling.backoff import spread
from scanner.sources.polling.report import PollReport

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 1.0, 3600.0
MAX_BACKOFF_SECONDS = 60.0
MAX_FAILURES = 16
"""Consecutive failed polls of a source are counted up to this number."""
MAX_GAP_DISTANCE = timedelta(minutes=5)
"""Gaps of the same reason that are at most this far apart are stored as one."""
MAX_POLLS_OVER_TIME = 2
"""After this many consecutive polls over their time limit, the next poll does not decode any text."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeasedPoll:
    """The right of one worker to poll a source once.

    Attributes:
        cursor: The position at which the previous poll stopped, as JSON.
        newest_seen_at: The time of the newest item that the source has ever shown.
        polls_over_time: The number of consecutive polls before this one that exceeded their time limit.
    """

    lease: Lease
    source: str
    cursor: Mapping[str, Any]
    newest_seen_at: datetime | None
    polls_over_time: int = 0

    def budget(self) -> ScanBudget:
        """Return the limit of processor time and bytes for scanning all texts of this poll.

        The limit is zero if the last MAX_POLLS_OVER_TIME polls have exceeded their time limit.
        """
        budget = ScanBudget.for_poll()
        if self.polls_over_time >= MAX_POLLS_OVER_TIME:
            budget.spend(seconds=budget.seconds)
        return budget


@dataclass(frozen=True, slots=True)
class MissedSpan:
    """A span of time in which the source missed events. `estimated` is their estimated number."""

    from_at: datetime
    until_at: datetime
    estimated: int
    reason: str


def ensure(session: Session, source: str) -> None:
    """Create the database row of the source unless it exists."""
    session.execute(
        insert_or_nothing(session, SourceState).values(
            source=source, cursor={}, next_poll_at=db_now(), attempts=0, failures=0, gaps=0, counts={}
        )
    )


def due_sources(database: Database, sources: Iterable[str]) -> list[str]:
    """Return the sources whose poll is not running and is due within MIN_INTERVAL_SECONDS, in the given order."""
    with database.read() as session:
        due = dict(session.execute(_which_are_due()).tuples().all())
    return [source for source in sources if due.get(source, True)]


@cache
def _which_are_due() -> Select[str, bool]:
    """Return the SQL query for `due_sources`."""
    return select(SourceState.source, leases.is_due(SourceState, MIN_INTERVAL_SECONDS))


def take(database: Database, source: str, wait: Callable[[float], None] = time.sleep) -> LeasedPoll | None:
    """Claim the source for this worker if its poll is due. Return None if it is not due or is already claimed.

    If the poll is due within MIN_INTERVAL_SECONDS, wait until it is due. `wait` is the function that sleeps.
    """
    with database.read() as session:
        statement = select(SourceState.next_poll_at, db_now()).where(SourceState.source == source)
        found = session.execute(statement).one_or_none()
    if found is None:
        with database.write() as session:
            ensure(session, source)
    else:
        remaining = (found[0] - found[1]).total_seconds()
        if MIN_INTERVAL_SECONDS < remaining < leases.MAX_DELAY_SECONDS:
            return None
        if 0 < remaining <= MIN_INTERVAL_SECONDS:
            wait(remaining)
    with database.write() as session:
        seconds = time_limits.poll_seconds(source)
        lease = leases.claim(session, SourceState, source, claimed_at=db_now(), deadline_at=db_now(seconds))
        if lease is None:
            return None
        state = _state(session, source)
        # Schedule the next poll already here, so that the interval counts from the start of this poll.
        lease.write(session, next_poll_at=db_now(MIN_INTERVAL_SECONDS))
        is_over_time = (state.error or "").startswith(time_limits.TIME_LIMIT)
        return LeasedPoll(lease, source, state.cursor, state.newest_seen_at, state.failures if is_over_time else 0)


def run_if_due(
    database: Database, source: str, wait: Callable[[float], None], work: Callable[[LeasedPoll], PollReport]
) -> PollReport:
    """If the source's poll is due, claim the source and call `work` to poll it, within the poll's time limit.

    Return an empty report if the poll was not due.
    """
    leased = take(database, source, wait)
    if leased is None:
        return PollReport()
    limit = time_limits.poll_seconds(source)
    with leases.keep_renewed(
        database,
        leased.lease,
        limit_seconds=limit,
        on_limit=lambda: record_time_limit(database, leased, limit),
        release=lambda: release(database, leased),
    ):
        try:
            return work(leased)
        except LeaseLost:
            _log.warning("%s: another worker has polled in the meantime; this poll is discarded", source)
            return PollReport(polled=True)


def end(
    session: Session,
    leased: LeasedPoll,
    *,
    cursor: Mapping[str, Any],
    interval: float,
    counts: Mapping[str, int],
    newest: datetime | None = None,
    missed: MissedSpan | None = None,
    error: GitHubError | None = None,
) -> None:
    """End a successful poll, in the transaction that stores its results.

    Args:
        cursor: The position in the source at which the next poll begins, as JSON.
        interval: Seconds from the start of this poll to the start of the next one.
        newest: The time of the newest item that the source has shown. None: unchanged.
        missed: A span of time in which the source missed events, or None.
        error: Why a part of the poll failed, or None. Its `retry_after` delays the next poll.

    Raises:
        LeaseLost: Another worker has claimed the source.
    """
    state = _state(session, leased.source)
    total = Counter(state.counts)
    total.update(counts)
    total["polls"] += 1
    # `next_poll_at` already includes MIN_INTERVAL_SECONDS, so add only the rest of the interval.
    following: Any = state.next_poll_at + timedelta(seconds=min(interval, MAX_INTERVAL_SECONDS) - MIN_INTERVAL_SECONDS)
    if error is not None and error.retry_after:
        following = db_now(min(error.retry_after, MAX_INTERVAL_SECONDS))
    leased.lease.write(
        session,
        cursor=dict(cursor),
        next_poll_at=following,
        leased_until=None,
        failures=0,
        last_success_at=db_now(),
        newest_seen_at=newest or state.newest_seen_at,
        gaps=state.gaps + (missed is not None),
        counts=dict(total),
        error=str(error) if error else None,
    )
    if missed is not None:
        record_gap(session, leased.source, missed)


def defer(session: Session, leased: LeasedPoll, err: GitHubError) -> None:
    """End a failed poll. The next poll follows when GitHub allows it, or after an exponential backoff.

    Raises:
        LeaseLost: Another worker has claimed the source.
    """
    _log.warning("%s: %s", leased.source, err)
    state = _state(session, leased.source)
    delay = err.retry_after or min(2.0**state.failures, MAX_BACKOFF_SECONDS)
    counts = Counter(state.counts)
    counts[f"error_{err.reason}"] += 1
    leased.lease.write(
        session,
        leased_until=None,
        next_poll_at=db_now(spread(min(delay, MAX_INTERVAL_SECONDS))),
        failures=min(state.failures + 1, MAX_FAILURES),
        counts=dict(counts),
        error=str(err),
    )


def record_time_limit(database: Database, leased: LeasedPoll, seconds: float) -> bool:
    """End a poll that exceeded its time limit of `seconds`.

    Return False if another worker has claimed the source.
    """
    with database.write() as session:
        state = _state(session, leased.source)
        counts = Counter(state.counts)
        counts[f"error_{time_limits.TIME_LIMIT}"] += 1
        found = session.execute(
            update(SourceState)
            .where(leased.lease.holds(), SourceState.leased_until.is_not(None))
            .values(
                leased_until=None,
                # Increase the fencing token, so that the hung poll can no longer write its results.
                attempts=SourceState.attempts + 1,
                failures=min(state.failures + 1, MAX_FAILURES),
                next_poll_at=db_now(spread(min(2.0**state.failures, MAX_BACKOFF_SECONDS))),
                counts=dict(counts),
                error=f"{time_limits.TIME_LIMIT}: a poll took more than {seconds:.0f} s and was stopped",
            )
            .execution_options(synchronize_session=False)
        )
    return bool(found.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def release(database: Database, leased: LeasedPoll) -> None:
    """Give up the claim of the source, because the process is shutting down."""
    with database.write() as session:
        session.execute(
            update(SourceState)
            .where(leased.lease.holds(), SourceState.leased_until.is_not(None))
            .values(leased_until=None, attempts=SourceState.attempts + 1)
            .execution_options(synchronize_session=False)
        )


def record_gap(session: Session, source: str, missed: MissedSpan) -> None:
    """Record a span of time in which a source has missed events."""
    session.add(
        Gap(
            source=source,
            from_at=missed.from_at,
            until_at=missed.until_at,
            estimated=missed.estimated,
            reason=missed.reason,
            found_at=db_now(),
        )
    )


def extend_gap(session: Session, source: str, missed: MissedSpan) -> None:
    """Record a span of missed events, or extend the source's latest span if the two are adjacent."""
    statement = (
        select(Gap)
        .where(Gap.source == source, Gap.reason == missed.reason, Gap.filled_at.is_(None))
        .order_by(Gap.id.desc())
        .limit(1)
    )
    latest = session.execute(statement).scalar_one_or_none()
    if latest is None or not -MAX_GAP_DISTANCE <= missed.from_at - latest.until_at <= MAX_GAP_DISTANCE:
        record_gap(session, source, missed)
        return
    latest.from_at, latest.until_at = min(latest.from_at, missed.from_at), max(latest.until_at, missed.until_at)
    latest.estimated += missed.estimated
    latest.found_at = db_now()


def _state(session: Session, source: str) -> SourceState:
    return session.execute(select(SourceState).where(SourceState.source == source)).scalar_one()
