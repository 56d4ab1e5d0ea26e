"""Leases: how a worker takes a row for itself, keeps it while it works, and cannot harm it once it has lost it.

A claim is one conditional UPDATE by the database's clock; `attempts` is the fence that every later write carries.
Nothing here knows what the rows mean.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, and_, or_, select, tuple_, update
from sqlalchemy.orm import Session

from scanner.records.database import Database, is_unavailable
from scanner.records.models import Incident, Notification, ScanJob, db_now
from scanner.records.source_models import SourceState
from scanner.records.time_limits import DEFAULT_SECONDS

LEASE_SECONDS = 30
RENEW_SECONDS = 10
MAX_DELAY_SECONDS = 36 * 3600
"""No retry is planned further ahead. A time beyond it is a clock that jumped: the row counts as due."""

Leased = type[ScanJob] | type[Notification] | type[SourceState] | type[Incident]
Row = TypeVar("Row", ScanJob, Notification, SourceState, Incident)

_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Somebody else has taken the row meanwhile: what this worker knows of it is old, so nothing was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one row: valid as long as its `attempts` is still ours."""

    model: Leased
    key: Any
    attempts: int

    def holds(self) -> ColumnElement[bool]:
        """The condition that every write under this lease carries."""
        return and_(_key_of(self.model) == self.key, self.model.attempts == self.attempts)

    def write(self, session: Session, **values: Any) -> None:
        """Set columns of the leased row. LeaseLost, which must undo the transaction, when it is no longer ours.

        What the session has read of the row before stays as it was read.
        """
        statement = update(self.model).where(self.holds()).values(**values)
        result = session.execute(statement.execution_options(synchronize_session=False))
        if result.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE's result has it
            raise LeaseLost(f"the lease on {self.model.__tablename__} {self.key} went to another worker")


def _key_of(model: Leased) -> Any:
    return model.source if issubclass(model, SourceState) else model.id


def _time_of(model: Leased) -> Any:
    return model.next_poll_at if issubclass(model, SourceState) else model.next_attempt_at


def is_due(model: Leased) -> ColumnElement[bool]:
    """Nobody holds the row and its time has come, or is further ahead than any we set (a clock has jumped)."""
    at = _time_of(model)
    free = or_(
        model.leased_until.is_(None),
        model.leased_until <= db_now(),
        model.leased_until > db_now(2 * LEASE_SECONDS),
    )
    return and_(free, or_(at <= db_now(), at > db_now(MAX_DELAY_SECONDS)))


def claim(
    session: Session, model: type[Row], key: Any, *conditions: ColumnElement[bool], **values: Any
) -> Lease | None:
    """Take the row if it is due and meets `conditions`, setting `values`. None: not due, or taken meanwhile."""
    statement = (
        update(model)
        .where(_key_of(model) == key, is_due(model), *conditions)
        .values(leased_until=db_now(LEASE_SECONDS), attempts=model.attempts + 1, **values)
        .returning(model.attempts)
        .execution_options(synchronize_session=False)
    )
    attempts = session.execute(statement).scalar_one_or_none()
    return None if attempts is None else Lease(model, key, attempts)


def claim_all(
    session: Session, model: type[Row], keys: Collection[Any], *conditions: ColumnElement[bool], **values: Any
) -> list[Lease]:
    """Take those of the rows that are due and meet `conditions`. One that a transaction is writing now is left out."""
    key = _key_of(model)
    # Skipped, not waited for: two workers that take rows in different orders would wait for each other.
    free = select(key).where(key.in_(keys), is_due(model), *conditions).with_for_update(skip_locked=True)
    statement = (
        update(model)
        .where(key.in_(list(session.execute(free).scalars())))
        .values(leased_until=db_now(LEASE_SECONDS), attempts=model.attempts + 1, **values)
        .returning(key, model.attempts)
        .execution_options(synchronize_session=False)
    )
    return [Lease(model, *row) for row in session.execute(statement)]


def write_all(session: Session, held: Collection[Lease], **values: Any) -> set[Any]:
    """Set columns of leased rows of one table; the keys of those that are still ours. The others are left alone."""
    if not held:
        return set()
    model = next(iter(held)).model
    key = _key_of(model)
    statement = (
        update(model)
        .where(tuple_(key, model.attempts).in_([(lease.key, lease.attempts) for lease in held]))
        .values(**values)
        .returning(key)
        .execution_options(synchronize_session=False)
    )
    return set(session.execute(statement).scalars())


def renew(database: Database, *held: Lease, seconds_left: float | None = None) -> bool:
    """Move the end of leases on rows of one table; False when all are lost, or were given back.

    Args:
        database: Where the rows are.
        held: The leases, all of one table.
        seconds_left: Until the work counts as hung; written to the row for tables that have a deadline.
    """
    model = held[0].model
    ours = tuple_(_key_of(model), model.attempts).in_([(lease.key, lease.attempts) for lease in held])
    has_deadline = seconds_left is not None and issubclass(model, ScanJob | SourceState)
    deadline: dict[str, Any] = {"deadline_at": db_now(seconds_left or 0)} if has_deadline else {}
    statement = (
        update(model)
        .where(ours, model.leased_until.is_not(None))
        .values(leased_until=db_now(LEASE_SECONDS), **deadline)
        .execution_options(synchronize_session=False)
    )
    with database.write() as session:
        result = session.execute(statement)
        return bool(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def due_keys(session: Session, model: type[Row], *conditions: ColumnElement[bool], limit: int) -> list[Any]:
    """Keys of rows that are due, by the order of their time."""
    at = _time_of(model)
    statement = select(_key_of(model)).where(is_due(model), *conditions).order_by(at).limit(limit)
    return list(session.execute(statement).scalars())


class Keeping:
    """Leases of one table in this process's hand, and the deadline of the work under them.

    `lost` is set when all are lost or the deadline has passed: the work should stop. Safe to share between threads.

    Args:
        held: The leases.
        limit_seconds: How long the work may go on without progress.
        max_seconds: How long it may go on in all; without it, progress moves the deadline for ever.
        on_limit: Records in the row that the limit was passed.
        release: Gives the rows back as if they had not been claimed, for work that ends through no fault of its own.
    """

    def __init__(
        self,
        held: Collection[Lease],
        limit_seconds: float,
        max_seconds: float | None = None,
        on_limit: Callable[[], object] | None = None,
        release: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.held = tuple(held)
        self.lost = threading.Event()
        self.on_limit, self.release = on_limit, release
        self.limit_seconds = limit_seconds
        self._started = self._progressed = clock()
        self._max_seconds = max_seconds

    def progressed(self) -> None:
        """Move the deadline: the work got somewhere."""
        self._progressed = self._clock()

    @property
    def age(self) -> float:
        """Seconds since the work began."""
        return self._clock() - self._started

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        left = self._progressed + self.limit_seconds - self._clock()
        return left if self._max_seconds is None else min(left, self._max_seconds - self.age)


_in_hand: set[Keeping] = set()
_in_hand_lock = threading.Lock()


def in_hand() -> list[Keeping]:
    """Return what this process works on under leases that are kept, for the watchdog."""
    with _in_hand_lock:
        return list(_in_hand)


@contextmanager
def kept(
    database: Database,
    *held: Lease,
    every: float | None = None,
    limit_seconds: float = DEFAULT_SECONDS,
    max_seconds: float | None = None,
    on_limit: Callable[[], object] | None = None,
    release: Callable[[], object] | None = None,
) -> Iterator[Keeping]:
    """Renew leases on rows of one table from a thread while the block runs, but not beyond the work's deadline.

    The thread ends at the deadline whatever the block does, so that hung work cannot keep its rows. See `Keeping` for
    the arguments.
    """
    every = RENEW_SECONDS if every is None else every
    keeping = Keeping(held, limit_seconds, max_seconds, on_limit, release)
    done = threading.Event()

    def keep() -> None:
        while not done.wait(max(min(every, keeping.seconds_left), 0)):
            try:
                if keeping.seconds_left <= 0:
                    _stop_at_limit(keeping)
                    return
                if not renew(database, *held, seconds_left=keeping.seconds_left):
                    keeping.lost.set()
                    return
            except Exception as err:
                if not is_unavailable(err):
                    raise
                _log.warning("lease not renewed: the database is away", extra={"row": str(held[0].key)})

    keeper = threading.Thread(target=keep, name="lease-keeper", daemon=True)
    with _in_hand_lock:
        _in_hand.add(keeping)
    keeper.start()
    try:
        yield keeping
    finally:
        with _in_hand_lock:
            _in_hand.discard(keeping)
        done.set()
        keeper.join(timeout=LEASE_SECONDS / 3)  # it may be at the database just now


def _stop_at_limit(keeping: Keeping) -> None:
    """Tell the work to stop and record that it passed its limit."""
    first = keeping.held[0]
    extra = {"table": first.model.__tablename__, "row": str(first.key), "seconds": round(keeping.age)}
    _log.error("work passed its time limit: its lease is dropped", extra=extra)
    keeping.lost.set()
    if keeping.on_limit is not None:
        keeping.on_limit()
