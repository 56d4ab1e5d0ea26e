"""Rows of the outbox taken in hand: claimed by lease and frozen, in one transaction, a few at a time."""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, null, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from notifications.email.facts import MailFacts
from notifications.email.gathering import Gathering
from scanner.records import leases
from scanner.records.database import Database
from scanner.records.leases import LEASE_SECONDS, Lease
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.states import NotificationState

CHANNELS = ("email", "operator")
OPEN = (NotificationState.PENDING, NotificationState.FROZEN)
BATCH = 10
RECORD_SECONDS = 8.0
"""Of every lease, left for writing what came of a mail, should the database be away for a moment."""
BACKOFF_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row in hand. `facts` is None where they could not be read: `trouble` says why.

    `is_new`: they were frozen by this claim. `subjects`: incidents and the occasions on which they are told. Its
    sending has to begin by `begin_by` (`time.monotonic`): it is over `send_seconds` later, with time left in the lease.
    """

    lease: Lease
    channel: str
    recipient: str | None
    message_id: str
    facts: MailFacts | None
    trouble: str
    is_new: bool
    subjects: tuple[tuple[uuid.UUID, str], ...]
    now: datetime
    delay: float
    begin_by: float
    send_seconds: float

    @property
    def id(self) -> uuid.UUID:
        """The row's key."""
        key: uuid.UUID = self.lease.key
        return key


def is_open() -> tuple[ColumnElement[bool], ...]:
    """Conditions of mails that have still to go out."""
    return (Notification.channel.in_(CHANNELS), Notification.state.in_(OPEN))


def due(session: Session, *, limit: int) -> list[list[uuid.UUID]]:
    """Keys of mails that are due, in the groups in which they are to be claimed.

    The first stands alone: should the mail server be away, the others can still take incidents. So does what was tried
    before: should a row kill its worker each time, it takes no others with it.
    """
    if limit <= 0:
        return []
    rows = session.execute(
        select(Notification.id, Notification.attempts)
        .where(leases.is_due(Notification), *is_open())
        .order_by(Notification.next_attempt_at)
        .limit(limit)
    ).all()
    fresh = [key for key, attempts in rows if not attempts]
    groups = [fresh[start : start + BATCH] for start in range(1, len(fresh), BATCH)]
    tried = [[key] for key, attempts in rows if attempts]
    return [fresh[:1], *groups, *tried] if fresh else tried


def backoff(attempts: int, jitter: float = 1.0) -> float:
    """Seconds until the next attempt after `attempts` of them (1 and up)."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1] * jitter


def claim(
    database: Database, keys: Sequence[uuid.UUID], jitter: Callable[[], float], send_seconds: float
) -> list[Claimed]:
    """Take those of the rows that are still due, in their order, and freeze their facts. The next attempt is planned.

    So a worker that dies with rows in hand leaves them with a backoff of their own.
    """
    begin_by = _begin_by(send_seconds)
    with database.write() as session:
        held = {
            lease.key: lease
            for lease in leases.claim_all(session, Notification, keys, *is_open(), state=NotificationState.FROZEN)
        }
        if not held:
            return []
        rows = session.execute(select(Notification).where(Notification.id.in_(held))).scalars().all()
        now = session.execute(select(db_now())).scalar_one()
        facts = _facts_of_all(session, rows, now)
        subjects = _subjects(session, list(held))
        by_key = {
            row.id: Claimed(
                held[row.id],
                *(row.channel, row.recipient, row.message_id, *facts[row.id], row.facts is None),
                *(tuple(subjects[row.id]), now),
                *(backoff(held[row.id].attempts, jitter()), begin_by, send_seconds),
            )
            for row in rows
        }
        _plan(session, [by_key[row.id] for row in rows])
    return [by_key[key] for key in keys if key in by_key]


def give_back(database: Database, untried: Sequence[Claimed]) -> None:
    """Let go of rows that were not tried: they are due at once.

    Facts that were frozen for nothing are read anew the next time: a mail that nobody tried to send does not age.
    """
    if not untried:
        return
    with database.write() as session:
        for is_new, values in ((True, {"facts": null()}), (False, {})):
            held = [one.lease for one in untried if one.is_new is is_new]
            leases.write_all(session, held, leased_until=None, next_attempt_at=db_now(), **values)


def renewed(database: Database, rest: Sequence[Claimed]) -> list[Claimed]:
    """Those that are still ours, with their whole time before them: the server was slow with the ones before."""
    with database.write() as session:
        held = leases.write_all(session, [one.lease for one in rest], leased_until=db_now(LEASE_SECONDS))
    begin_by = _begin_by(rest[0].send_seconds)
    return [replace(one, begin_by=begin_by) for one in rest if one.id in held]


def _begin_by(send_seconds: float) -> float:
    return time.monotonic() + LEASE_SECONDS - send_seconds - RECORD_SECONDS


def _plan(session: Session, claimed: Sequence[Claimed]) -> None:
    """Write when each is tried next, and the facts of those that are frozen only now."""
    own = Notification.__table__.c
    planned = update(Notification.__table__).where(own.id == bindparam("key"))  # type: ignore[arg-type]  # it is a Table
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for one in claimed:
        frozen = {"frozen": one.facts.to_json()} if one.is_new and one.facts is not None else {}
        rows[bool(frozen)].append({"key": one.id, "at": one.now + timedelta(seconds=one.delay), **frozen})
    # Under the locks of the claim.
    connection = session.connection()
    if rows[False]:
        connection.execute(planned.values(next_attempt_at=bindparam("at")), rows[False])
    if rows[True]:
        connection.execute(planned.values(next_attempt_at=bindparam("at"), facts=bindparam("frozen")), rows[True])


def _facts_of_all(
    session: Session, rows: Sequence[Notification], now: datetime
) -> dict[uuid.UUID, tuple[MailFacts | None, str]]:
    """By row, the frozen facts, or fresh ones; None with a reason for a row that cannot be told."""
    fresh = [row for row in rows if row.facts is None]
    try:
        gathering = Gathering(session, fresh, now) if fresh else None
    except SQLAlchemyError:
        raise
    except Exception:  # noqa: BLE001 - as below
        _log.exception("the facts of mails cannot be read together: one by one now")
        gathering = None
    found: dict[uuid.UUID, tuple[MailFacts | None, str]] = {}
    for row in rows:
        try:
            if row.facts is not None:
                facts = MailFacts.from_json(row.facts)
            else:
                facts = (gathering or Gathering(session, [row], now)).facts_of(row)
        except SQLAlchemyError:
            raise
        except Exception as err:  # noqa: BLE001 - one row that cannot be read must not stop the others
            _log.exception("the facts of a mail cannot be read", extra={"notification": str(row.id)})
            found[row.id] = None, f"the facts cannot be read: {type(err).__name__}"
        else:
            found[row.id] = (facts, "") if facts.tokens else (None, "it tells of no incident")
    return found


def _subjects(session: Session, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[tuple[uuid.UUID, str]]]:
    statement = (
        select(NotificationSubject.notification_id, NotificationSubject.incident_id, NotificationSubject.occasion)
        .where(NotificationSubject.notification_id.in_(ids))
        .order_by(NotificationSubject.id)
    )
    found: dict[uuid.UUID, list[tuple[uuid.UUID, str]]] = defaultdict(list)
    for notification_id, incident_id, occasion in session.execute(statement):
        found[notification_id].append((incident_id, occasion))
    return found
