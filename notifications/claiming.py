"""Claims mails for a worker, and stores the data that they report."""

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

from notifications.backoff import mail_backoff
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
"""The seconds at the end of each lease that are reserved for recording the result."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mail that this worker has claimed.

    Attributes:
        lease: The worker's claim of the mail, which expires after some time.
        channel: EMAIL for a mail to an owner, OPERATOR for a mail to the operator.
        recipient: The address of the recipient, or None if it is unknown.
        message_id: The Message-ID, which is the same in each attempt.
        facts: The data that the mail reports, or None if they could not be read.
        facts_error: The reason why `facts` is None, otherwise empty.
        is_new: Whether no earlier claim has stored the data.
        subjects: Each incident's id, with the reason why the mail reports the incident.
        now: The database's time at the claim.
        delay: The seconds until the next attempt if this attempt fails.
        begin_by: The latest time to begin sending, by `time.monotonic`.
        send_seconds: The maximum time for sending, in seconds.
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
        """Return the id of the mail."""
        key: uuid.UUID = self.lease.key
        return key


def is_open() -> tuple[ColumnElement[bool], ...]:
    """Return the SQL conditions that select mails that are neither sent nor failed."""
    return (Notification.channel.in_(CHANNELS), Notification.state.in_(OPEN))


def due(session: Session, *, limit: int) -> list[list[uuid.UUID]]:
    """Return the ids of at most `limit` due mails, in groups to claim together."""
    if limit <= 0:
        return []
    rows = session.execute(
        select(Notification.id, Notification.attempts)
        .where(leases.is_due(Notification), *is_open())
        .order_by(Notification.next_attempt_at)
        .limit(limit)
    ).all()
    # The first new mail is sent alone, to see whether the mail server works. A mail that was tried before is sent
    # alone, because it may crash the worker.
    fresh = [key for key, attempts in rows if not attempts]
    groups = [fresh[start : start + BATCH] for start in range(1, len(fresh), BATCH)]
    tried = [[key] for key, attempts in rows if attempts]
    return [fresh[:1], *groups, *tried] if fresh else tried


def claim(
    database: Database, keys: Sequence[uuid.UUID], jitter: Callable[[], float], send_seconds: float
) -> list[Claimed]:
    """Claim the mails that are still due, store the data that they report, and schedule their next attempt.

    Args:
        database: The database that contains the outbox.
        keys: The ids of the mails to claim. The result has the same order.
        jitter: A function that returns a random factor for the delay until a mail's next attempt.
        send_seconds: The maximum time for sending one mail, in seconds.
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
                delay=mail_backoff(held[row.id].attempts, jitter()),
                begin_by=begin_by,
                send_seconds=send_seconds,
            )
            for row in rows
        }
        # Schedule the next attempt before this one begins, so that the mails are tried again even if this worker dies.
        _schedule(session, [by_key[row.id] for row in rows])
    return [by_key[key] for key in keys if key in by_key]


def give_back(database: Database, untried: Sequence[Claimed]) -> None:
    """Release mails that were claimed but not tried. They are due at once."""
    if not untried:
        return
    with database.write() as session:
        # Discard data stored by this claim: the time until a mail is given up begins when its data are stored.
        for is_new, values in ((True, {"facts": null()}), (False, {})):
            held = [one.lease for one in untried if one.is_new is is_new]
            leases.write_all(session, held, leased_until=None, next_attempt_at=db_now(), **values)


def renewed(database: Database, rest: Sequence[Claimed]) -> list[Claimed]:
    """Extend the claims of the remaining mails. Return the mails that no other worker has claimed."""
    with database.write() as session:
        held = leases.write_all(session, [one.lease for one in rest], leased_until=db_now(LEASE_SECONDS))
    begin_by = _begin_by(rest[0].send_seconds)
    return [replace(one, begin_by=begin_by) for one in rest if one.id in held]


def _begin_by(send_seconds: float) -> float:
    return time.monotonic() + LEASE_SECONDS - send_seconds - RECORD_SECONDS


def _schedule(session: Session, claimed: Sequence[Claimed]) -> None:
    """Store when each mail is tried next. Also store the mail's data if the database does not have them yet."""
    columns = Notification.__table__.c
    planned = update(Notification.__table__).where(columns.id == bindparam("key"))  # type: ignore[arg-type]  # it is a Table
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for one in claimed:
        frozen = {"frozen": one.facts.to_json()} if one.is_new and one.facts is not None else {}
        rows[bool(frozen)].append({"key": one.id, "at": one.now + timedelta(seconds=one.delay), **frozen})
    # Do not check the leases. Other workers cannot have claimed these rows, because this transaction still locks them.
    connection = session.connection()
    if rows[False]:
        connection.execute(planned.values(next_attempt_at=bindparam("at")), rows[False])
    if rows[True]:
        connection.execute(planned.values(next_attempt_at=bindparam("at"), facts=bindparam("frozen")), rows[True])


@dataclass(frozen=True, slots=True)
class _FactsRead:
    """The data that one mail reports, or the reason why they could not be read."""

    facts: MailFacts | None
    error: str = ""


def _facts_of_all(session: Session, rows: Sequence[Notification], now: datetime) -> dict[uuid.UUID, _FactsRead]:
    """Return the data that each mail reports, by the mail's id."""
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
