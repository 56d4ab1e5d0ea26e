"""Claims mails of the outbox: leases a few rows and freezes their facts, in one transaction."""

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
from scanner.records.states import Channel, NotificationState

CHANNELS = (Channel.EMAIL, Channel.OPERATOR)
OPEN = (NotificationState.PENDING, NotificationState.FROZEN)
BATCH = 10
RECORD_SECONDS = 8.0
"""The end of each lease, reserved for recording the outcome of a mail while the database is briefly unavailable."""
BACKOFF_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this worker holds.

    Attributes:
        facts: What the mail says. None if the facts could not be read. Then `facts_error` says why.
        is_new: Whether this claim froze the facts, and not an earlier one.
        subjects: The incidents in the mail, each with the occasion on which it is reported.
        now: The database's time at the claim.
        delay: Seconds until the next attempt if this one fails.
        begin_by: The latest moment to begin sending, by `time.monotonic`. Sending takes at most `send_seconds`, which
            leaves `RECORD_SECONDS` of the lease.
    """

    lease: Lease
    channel: Channel
    recipient: str | None
    message_id: str
    facts: MailFacts | None
    facts_error: str
    is_new: bool
    subjects: tuple[tuple[uuid.UUID, str], ...]
    now: datetime
    delay: float
    begin_by: float
    send_seconds: float

    @property
    def id(self) -> uuid.UUID:
        """Return the key of the row."""
        key: uuid.UUID = self.lease.key
        return key


def is_open() -> tuple[ColumnElement[bool], ...]:
    """Return the SQL conditions that select mails which are neither sent nor failed."""
    return (Notification.channel.in_(CHANNELS), Notification.state.in_(OPEN))


def due(session: Session, *, limit: int) -> list[list[uuid.UUID]]:
    """Return the keys of due mails, in groups that are claimed together.

    The first mail is a group of its own. If sending it shows that the mail server is unavailable, the other mails are
    not frozen yet, and more incidents can be added to them. A mail that was tried before is also a group of its own. If
    it makes its worker crash, it blocks no other mail.
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
    """Return the seconds to wait after attempt number `attempts` (from 1), multiplied by `jitter`."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1] * jitter


def claim(
    database: Database, keys: Sequence[uuid.UUID], jitter: Callable[[], float], send_seconds: float
) -> list[Claimed]:
    """Lease the rows that are still due, freeze their facts, and schedule their next attempt.

    If the worker dies, each row that it held waits for its own backoff.

    Args:
        keys: Rows to claim. The result keeps their order.
        jitter: Returns the factor for the backoff of one row.
        send_seconds: The longest time that sending one mail takes.
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
                lease=held[row.id],
                channel=row.channel,
                recipient=row.recipient,
                message_id=row.message_id,
                facts=facts[row.id].facts,
                facts_error=facts[row.id].error,
                is_new=row.facts is None,
                subjects=tuple(subjects[row.id]),
                now=now,
                delay=backoff(held[row.id].attempts, jitter()),
                begin_by=begin_by,
                send_seconds=send_seconds,
            )
            for row in rows
        }
        _schedule(session, [by_key[row.id] for row in rows])
    return [by_key[key] for key in keys if key in by_key]


def give_back(database: Database, untried: Sequence[Claimed]) -> None:
    """Release rows that were not sent, so that they are due at once.

    Discard the facts that this claim froze, and let the next claim read them again. The three days after which a mail
    fails begin with the first attempt to send it, and there was no attempt.
    """
    if not untried:
        return
    with database.write() as session:
        for is_new, values in ((True, {"facts": null()}), (False, {})):
            held = [one.lease for one in untried if one.is_new is is_new]
            leases.write_all(session, held, leased_until=None, next_attempt_at=db_now(), **values)


def renewed(database: Database, rest: Sequence[Claimed]) -> list[Claimed]:
    """Renew the leases of the remaining rows after a slow server has used up their time.

    Return the rows that this worker still holds.
    """
    with database.write() as session:
        held = leases.write_all(session, [one.lease for one in rest], leased_until=db_now(LEASE_SECONDS))
    begin_by = _begin_by(rest[0].send_seconds)
    return [replace(one, begin_by=begin_by) for one in rest if one.id in held]


def _begin_by(send_seconds: float) -> float:
    return time.monotonic() + LEASE_SECONDS - send_seconds - RECORD_SECONDS


def _schedule(session: Session, claimed: Sequence[Claimed]) -> None:
    """Write the time of each row's next attempt, and the facts that this claim froze."""
    columns = Notification.__table__.c
    planned = update(Notification.__table__).where(columns.id == bindparam("key"))  # type: ignore[arg-type]  # it is a Table
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for one in claimed:
        frozen = {"frozen": one.facts.to_json()} if one.is_new and one.facts is not None else {}
        rows[bool(frozen)].append({"key": one.id, "at": one.now + timedelta(seconds=one.delay), **frozen})
    # Write without checking the leases, because the claim has locked the rows in this transaction.
    connection = session.connection()
    if rows[False]:
        connection.execute(planned.values(next_attempt_at=bindparam("at")), rows[False])
    if rows[True]:
        connection.execute(planned.values(next_attempt_at=bindparam("at"), facts=bindparam("frozen")), rows[True])


@dataclass(frozen=True, slots=True)
class _FactsRead:
    """The facts of one row, or the reason why there are none."""

    facts: MailFacts | None
    error: str = ""


def _facts_of_all(session: Session, rows: Sequence[Notification], now: datetime) -> dict[uuid.UUID, _FactsRead]:
    """Return, by row id, the facts of each row: the frozen facts if the row has them, otherwise newly read facts."""
    fresh = [row for row in rows if row.facts is None]
    try:
        gathering = Gathering(session, fresh, now) if fresh else None
    except SQLAlchemyError:
        raise
    except Exception:  # noqa: BLE001 - one row that cannot be read must not stop the others
        _log.exception("cannot read the facts of these mails together; reading them one by one")
        gathering = None
    found: dict[uuid.UUID, _FactsRead] = {}
    for row in rows:
        try:
            if row.facts is not None:
                facts = MailFacts.from_json(row.facts)
            else:
                facts = (gathering or Gathering(session, [row], now)).facts_of(row)
        except SQLAlchemyError:
            raise
        except Exception as err:  # noqa: BLE001 - one row that cannot be read must not stop the others
            _log.exception("cannot read the facts of a mail; it will be retried", extra={"notification": str(row.id)})
            found[row.id] = _FactsRead(None, f"the facts cannot be read: {type(err).__name__}")
        else:
            found[row.id] = _FactsRead(facts) if facts.tokens else _FactsRead(None, "the mail has no incident")
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
