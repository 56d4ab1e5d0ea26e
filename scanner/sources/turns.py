"""A source's turn: taken by lease when it is due, kept, ended with what it brought. What a source asks is not here."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.github.errors import GitHubError
from scanner.records import leases
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import db_now
from scanner.records.source_models import Gap, SourceState
from scanner.sources.delays import spread
from scanner.sources.polls import PollReport

SHORTEST_INTERVAL, LONGEST_INTERVAL = 1.0, 3600.0
LONGEST_BACKOFF = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to poll a source once. `newest_seen_at`: of all it has brought so far."""

    lease: Lease
    source: str
    cursor: Mapping[str, Any]
    newest_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class MissedSpan:
    """A span of time of which not everything was seen; how many events, by the rate seen before and after."""

    from_at: datetime
    until_at: datetime
    estimated: int
    reason: str


def ensure(session: Session, source: str) -> None:
    """The source's row, if it has none yet."""
    session.execute(
        insert_or_nothing(session, SourceState).values(
            source=source, cursor={}, next_poll_at=db_now(), attempts=0, failures=0, gaps=0, counts={}
        )
    )


def take(database: Database, source: str, wait: Callable[[float], None] = time.sleep) -> Turn | None:
    """The source's turn, if it is due. Beat's ticks jitter: what is due within the next second is waited for."""
    with database.read() as session:
        statement = select(SourceState.next_poll_at, db_now()).where(SourceState.source == source)
        found = session.execute(statement).one_or_none()
    if found is None:
        with database.write() as session:
            ensure(session, source)
    else:
        remaining = (found[0] - found[1]).total_seconds()
        if SHORTEST_INTERVAL < remaining < leases.LONGEST_DELAY_SECONDS:
            return None
        if 0 < remaining <= SHORTEST_INTERVAL:
            wait(remaining)
    with database.write() as session:
        lease = leases.claim(session, SourceState, source)
        if lease is None:
            return None
        state = _state(session, source)
        # The interval counts from the turn's beginning, so that the time it takes is not added to it.
        lease.write(session, next_poll_at=db_now(SHORTEST_INTERVAL))
        return Turn(lease, source, state.cursor, state.newest_seen_at)


def in_turn(
    database: Database, source: str, wait: Callable[[float], None], work: Callable[[Turn], PollReport]
) -> PollReport:
    """What `work` makes of the source's turn, if it is due; its lease is kept meanwhile, however long that takes."""
    turn = take(database, source, wait)
    if turn is None:
        return PollReport()
    with leases.kept(database, turn.lease):
        try:
            return work(turn)
        except LeaseLost:
            _log.warning("%s: another worker polled meanwhile; its poll counts", source)
            return PollReport(polled=True)


def end(
    session: Session,
    turn: Turn,
    *,
    cursor: Mapping[str, Any],
    interval: float,
    counts: Mapping[str, int],
    newest: datetime | None = None,
    missed: MissedSpan | None = None,
    error: GitHubError | None = None,
) -> None:
    """Write what the turn came to, in the transaction that holds what it brought. LeaseLost when it was overtaken.

    `interval`: seconds from the turn's beginning to the next one. `error`: of a part of it; the rest counts.
    """
    state = _state(session, turn.source)
    total = Counter(state.counts)
    total.update(counts)
    total["polls"] += 1
    # Taking the turn set it to its beginning plus the shortest interval.
    following: Any = state.next_poll_at + timedelta(seconds=min(interval, LONGEST_INTERVAL) - SHORTEST_INTERVAL)
    if error is not None and error.retry_after:
        following = db_now(min(error.retry_after, LONGEST_INTERVAL))
    turn.lease.write(
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
        record_gap(session, turn.source, missed)


def postpone(session: Session, turn: Turn, err: GitHubError) -> None:
    """The turn failed: the next one comes after what GitHub asks for, else a little later each time."""
    _log.warning("%s: %s", turn.source, err)
    state = _state(session, turn.source)
    delay = err.retry_after or min(2.0**state.failures, LONGEST_BACKOFF)
    counts = Counter(state.counts)
    counts[f"error_{err.reason}"] += 1
    turn.lease.write(
        session,
        leased_until=None,
        next_poll_at=db_now(spread(min(delay, LONGEST_INTERVAL))),
        failures=min(state.failures + 1, 16),
        counts=dict(counts),
        error=str(err),
    )


def record_gap(session: Session, source: str, missed: MissedSpan) -> None:
    """A row for what a source has not seen, so that somebody may fill it."""
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


def _state(session: Session, source: str) -> SourceState:
    return session.execute(select(SourceState).where(SourceState.source == source)).scalar_one()
