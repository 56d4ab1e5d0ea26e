"""Leases: a worker claims a database row for a limited time, and may write the row until another worker claims it."""

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
"""No row is due later than this many seconds from now. A later time was written by a wrong clock."""

Leased = type[ScanJob] | type[Notification] | type[SourceState] | type[Incident]
Row = TypeVar("Row", ScanJob, Notification, SourceState, Incident)

_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Raised if another worker has claimed the row after this lease expired. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A time-limited right to write one database row."""

    model: Leased
    key: Any
    attempts: int

    def holds(self) -> ColumnElement[bool]:
        """Return the SQL condition that the lease is still valid. Every write under the lease must include it."""
        return and_(_key_of(self.model) == self.key, self.model.attempts == self.attempts)

    def write(self, session: Session, **values: Any) -> None:
        """Set columns of the leased row. The session's loaded objects of this row keep their old values.

        Raises:
            LeaseLost: Another worker has claimed the row. The caller must roll the transaction back.
        """
        statement = update(self.model).where(self.holds()).values(**values)
        result = session.execute(statement.execution_options(synchronize_session=False))
        if result.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE's result has it
            raise LeaseLost(f"another worker has claimed {self.model.__tablename__} {self.key}; nothing was written")


def _key_of(model: Leased) -> Any:
    return model.source if issubclass(model, SourceState) else model.id


def _time_of(model: Leased) -> Any:
    return model.next_poll_at if issubclass(model, SourceState) else model.next_attempt_at


def is_due(model: Leased, within_seconds: float = 0.0) -> ColumnElement[bool]:
    """Return the SQL condition that no worker holds the row and that the row is due now, or within `within_seconds`."""
    at = _time_of(model)
    free = or_(
        model.leased_until.is_(None),
        model.leased_until <= db_now(),
        model.leased_until > db_now(2 * LEASE_SECONDS),
    )
    return and_(free, or_(at <= db_now(within_seconds), at > db_now(MAX_DELAY_SECONDS)))


def claim(
    session: Session, model: type[Row], key: Any, *conditions: ColumnElement[bool], **values: Any
) -> Lease | None:
    """Claim the row and set `values`, if the row is due and meets `conditions`. Otherwise return None."""
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
    """Claim the rows with these keys that are due and meet `conditions`, and set `values` in them.

    Rows that another transaction has locked are left out. Return the leases.
    """
    key = _key_of(model)
    # Do not wait for locked rows, because two workers could deadlock.
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
    """Set columns of the rows whose lease is still valid. Return the keys of the changed rows.

    All leases must be on the same table.
    """
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
    """Extend leases on rows of one table, and return whether at least one of them is still held.

    Args:
        seconds_left: Seconds until the work counts as hung, for the table's deadline column.
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
    """Return the primary keys of at most `limit` due rows that meet the conditions, earliest first."""
    at = _time_of(model)
    statement = select(_key_of(model)).where(is_due(model), *conditions).order_by(at).limit(limit)
    return list(session.execute(statement).scalars())


class HeldLeases:
    """The leases that a worker holds on rows of one table, and the deadline of its work.

    `lost` is set when the work must stop. Threads can share the object.

    Args:
        limit_seconds: How long the work may continue without progress.
        on_limit: Called when the work has exceeded its deadline.
        release: Called when the process shuts down, to release the rows.
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
        """Extend the deadline because the work made progress."""
        self._progressed = self._clock()

    @property
    def age(self) -> float:
        """Return the seconds since the work began."""
        return self._clock() - self._started

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the deadline, negative after the deadline."""
        left = self._progressed + self.limit_seconds - self._clock()
        return left if self._max_seconds is None else min(left, self._max_seconds - self.age)


_all_held: set[HeldLeases] = set()
_all_held_lock = threading.Lock()


def all_held() -> list[HeldLeases]:
    """Return all leases that this process holds and renews."""
    with _all_held_lock:
        return list(_all_held)


@contextmanager
def keep_renewed(
    database: Database,
    *held: Lease,
    every: float | None = None,
    limit_seconds: float = DEFAULT_SECONDS,
    max_seconds: float | None = None,
    on_limit: Callable[[], object] | None = None,
    release: Callable[[], object] | None = None,
) -> Iterator[HeldLeases]:
    """Renew leases in a thread while the `with` block runs, but not beyond the deadline of the work.

    The last four arguments are those of `HeldLeases`. `every` is the number of seconds between renewals.
    """
    every = RENEW_SECONDS if every is None else every
    held_leases = HeldLeases(held, limit_seconds, max_seconds, on_limit, release)
    done = threading.Event()

    def renew_until_done() -> None:
        while not done.wait(max(min(every, held_leases.seconds_left), 0)):
            try:
                if held_leases.seconds_left <= 0:
                    _stop_at_limit(held_leases)
                    return
                if not renew(database, *held, seconds_left=held_leases.seconds_left):
                    held_leases.lost.set()
                    return
            except Exception as err:
                if not is_unavailable(err):
                    raise
                _log.warning("lease not renewed: the database is unavailable", extra={"row": str(held[0].key)})

    renewer = threading.Thread(target=renew_until_done, name="lease-renewer", daemon=True)
    with _all_held_lock:
        _all_held.add(held_leases)
    renewer.start()
    try:
        yield held_leases
    finally:
        with _all_held_lock:
            _all_held.discard(held_leases)
        done.set()
        renewer.join(timeout=LEASE_SECONDS / 3)  # it may be waiting for the database


def _stop_at_limit(held_leases: HeldLeases) -> None:
    """Set `lost`, so that the work stops, and call `on_limit`."""
    first = held_leases.held[0]
    extra = {"table": first.model.__tablename__, "row": str(first.key), "seconds": round(held_leases.age)}
    _log.error("work exceeded its time limit and loses its lease", extra=extra)
    held_leases.lost.set()
    if held_leases.on_limit is not None:
        held_leases.on_limit()
