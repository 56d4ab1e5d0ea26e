"""Deliveries: rows of the outbox that are due are claimed, frozen, rendered, sent and settled. Decides nobody's fate.

A row is claimed by lease and its facts are frozen in one transaction; rendering and sending happen outside any; what
came of it is written under the lease. So a mail is sent once, whoever crashes when, but for the instant between the
server's acceptance and our commit; the repeat then carries the same Message-ID.
"""

from __future__ import annotations

import logging
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from notifications.email.facts import MailFacts, gather
from notifications.email.render import MailIdentity, Rendered, UnusableAddress, compose, envelope_sender, render
from notifications.email.transport import (
    Envelope,
    Outlet,
    PermanentFailure,
    TransientFailure,
    Transport,
    TransportDown,
)
from notifications.email.wording import clean
from scanner.records import audit, leases, outbox
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Notification, NotificationSubject, db_now

CHANNELS = ("email", "operator")
OPEN = ("pending", "frozen")

SEND_SECONDS = 20.0
"""From the claim to the end of the exchange with the server; shorter than the lease."""
BACKOFF_SECONDS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600)
GIVE_UP_AFTER = timedelta(days=3)
"""From the moment the facts were frozen: a mail that nobody tried to send does not age."""
MOST_ATTEMPTS = 200
"""Twice what the backoff makes of three days: a row that kills its worker each time ends too."""
RECORD_TRIES = 5
LONGEST_ERROR = 500

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DeliveryReport:
    """What one run did, in rows. `claimed` is the sum of the next four and of what broke off."""

    claimed: int = 0
    sent: int = 0
    postponed: int = 0
    failed: int = 0
    lost: int = 0
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A row in hand. `facts` is None where they could not be read: `trouble` says why."""

    lease: Lease
    id: uuid.UUID
    channel: str
    recipient: str | None
    message_id: str
    facts: MailFacts | None
    trouble: str
    now: datetime
    delay: float
    deadline: float


def _jitter() -> float:
    return 0.8 + 0.4 * secrets.randbelow(1000) / 1000


def deliver_due(
    database: Database,
    transport: Transport,
    identity: MailIdentity,
    *,
    limit: int = 50,
    rate: int = 600,
    jitter: Callable[[], float] = _jitter,
    send_seconds: float = SEND_SECONDS,
) -> DeliveryReport:
    """Send at most `limit` of the mails that are due, and no more than `rate` a minute over all workers.

    What one row does wrong stops no other; a mail server that is away stops the run and puts the others off. Raises
    what the database raises when it is away.
    """
    report = DeliveryReport()
    with database.read() as session:
        room = min(limit, rate - _sent_last_minute(session))
        keys = leases.due_keys(session, Notification, *_open(), limit=room) if room > 0 else []
    with transport.open() as outlet:
        for key in keys:
            try:
                _deliver(database, outlet, identity, key, jitter, send_seconds, report)
            except TransportDown as down:
                report.held_back = _hold_back(database, down)
                break
            except LeaseLost as lost:
                report.lost += 1
                _log.warning("lease lost", extra={"notification": str(key), "error": str(lost)})
    return report


def backoff(attempts: int, jitter: float = 1.0) -> float:
    """Seconds until the next attempt after `attempts` of them (1 and up)."""
    return BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1] * jitter


def _deliver(
    database: Database,
    outlet: Outlet,
    identity: MailIdentity,
    key: uuid.UUID,
    jitter: Callable[[], float],
    send_seconds: float,
    report: DeliveryReport,
) -> None:
    """One row, from claim to outcome. TransportDown after it was put off; LeaseLost when it went to another worker."""
    claimed = _claim(database, key, jitter(), send_seconds)
    if claimed is None:
        return
    report.claimed += 1
    if claimed.lease.attempts > MOST_ATTEMPTS:
        _fail(database, claimed, identity, f"gave up after {MOST_ATTEMPTS} attempts")
        report.failed += 1
        return
    try:
        rendered = _send(outlet, claimed, identity)
    except (PermanentFailure, UnusableAddress) as err:
        _fail(database, claimed, identity, str(err))
        report.failed += 1
    except TransientFailure as err:
        _put_off(database, claimed, identity, err.reason, report)
        if isinstance(err, TransportDown):
            raise
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("a mail could not be made", extra={"notification": str(claimed.id)})
        _put_off(database, claimed, identity, f"the mail could not be made: {type(err).__name__}", report)
    else:
        _record_sent(database, claimed, rendered.complaint)
        report.sent += 1


def _claim(database: Database, key: uuid.UUID, jitter: float, send_seconds: float) -> _Claimed | None:
    """Take the row and freeze its facts, in one transaction. The next attempt is planned here already.

    So a worker that dies with the row in hand leaves it with a backoff of its own.
    """
    deadline = time.monotonic() + send_seconds
    with database.write() as session:
        lease = leases.claim(session, Notification, key, *_open(), state="frozen")
        if lease is None:
            return None
        row = session.execute(select(Notification).where(Notification.id == key)).scalar_one()
        facts, trouble = _facts_of(session, row)
        delay = backoff(lease.attempts, jitter)
        planned: dict[str, Any] = {"next_attempt_at": db_now(delay)}
        if row.facts is None and facts is not None:
            planned["facts"] = facts.to_json()
        lease.write(session, **planned)
        now = session.execute(select(db_now())).scalar_one()
        return _Claimed(lease, key, row.channel, row.recipient, row.message_id, facts, trouble, now, delay, deadline)


def _facts_of(session: Session, row: Notification) -> tuple[MailFacts | None, str]:
    """The frozen facts, or fresh ones; None with a reason for a row that cannot be told."""
    try:
        if row.facts is not None:
            return MailFacts.from_json(row.facts), ""
        facts = gather(session, row)
    except SQLAlchemyError:
        raise
    except Exception as err:  # noqa: BLE001 - one row that cannot be read must not stop the others
        _log.exception("the facts of a mail cannot be read", extra={"notification": str(row.id)})
        return None, f"the facts cannot be read: {type(err).__name__}"
    return (facts, "") if facts.tokens else (None, "it tells of no incident")


def _send(outlet: Outlet, claimed: _Claimed, identity: MailIdentity) -> Rendered:
    if claimed.recipient is None:
        raise PermanentFailure("no recipient")
    if claimed.facts is None:
        raise TransientFailure(claimed.trouble)
    rendered = render(claimed.facts, identity)
    try:
        sender = envelope_sender(identity)
    except UnusableAddress as err:
        raise TransportDown(f"R8SCAN_EMAIL_FROM or _BOUNCES_TO: {err}", is_configuration=True) from err
    message = compose(
        rendered,
        identity,
        recipient=claimed.recipient,
        message_id=claimed.message_id,
        date=claimed.now,
        incident_ids=claimed.facts.incident_ids,
    )
    recipient = message["To"].addresses[0].addr_spec
    envelope = Envelope(sender, recipient, claimed.message_id, message.as_bytes())
    outlet.send(envelope, deadline=claimed.deadline)
    return rendered


def _record_sent(database: Database, claimed: _Claimed, complaint: str | None) -> None:
    """Write that it is out. A database that is away for a moment is no reason to send it twice: we insist."""
    for tries_left in reversed(range(RECORD_TRIES)):
        try:
            with database.write() as session:
                claimed.lease.write(
                    session,
                    state="sent",
                    sent_at=db_now(),
                    next_attempt_at=db_now(),
                    error=complaint,
                    leased_until=None,
                )
                audit_mail(session, claimed, "mail_sent")
        except Exception as err:
            if not is_unavailable(err) or not tries_left:
                raise
            _log.warning("a mail is out, but the database is away: trying again", extra={"error": type(err).__name__})
            time.sleep(1)
        else:
            return


def _put_off(
    database: Database, claimed: _Claimed, identity: MailIdentity, reason: str, report: DeliveryReport
) -> None:
    """Leave the row for its next attempt; after three days of attempts, fail it."""
    if claimed.facts is not None and claimed.now - claimed.facts.frozen_at > GIVE_UP_AFTER:
        _fail(database, claimed, identity, f"gave up after {GIVE_UP_AFTER.days} days: {reason}")
        report.failed += 1
        return
    with database.write() as session:
        claimed.lease.write(
            session, error=clean(reason, LONGEST_ERROR), leased_until=None, next_attempt_at=db_now(claimed.delay)
        )
    report.postponed += 1
    _log.warning("mail put off", extra={"notification": str(claimed.id), "error": reason})


def _fail(database: Database, claimed: _Claimed, identity: MailIdentity, reason: str) -> None:
    """Settle the row as failed, in sight; of an owner's mail the operator is told in the same transaction."""
    _log.error("mail failed", extra={"notification": str(claimed.id), "error": reason})
    with database.write() as session:
        claimed.lease.write(session, state="failed", error=clean(reason, LONGEST_ERROR), leased_until=None)
        audit_mail(session, claimed, "mail_failed", error=clean(reason, LONGEST_ERROR))
        if claimed.channel == "email":
            tell_undeliverable(session, claimed.id, identity)


def tell_undeliverable(session: Session, notification_id: uuid.UUID, identity: MailIdentity) -> None:
    """Queue for the operator that an owner's mail has failed, in the transaction that writes so."""
    incident_ids = session.execute(
        select(NotificationSubject.incident_id).where(NotificationSubject.notification_id == notification_id)
    ).scalars()
    outbox.tell_operator(
        session,
        sorted(set(incident_ids)),
        outbox.UNDELIVERABLE,
        identity.operator_email,
        domain=outbox.domain_of(identity.sender),
    )


def audit_mail(session: Session, mail: _Claimed | Notification, what: str, **evidence: str) -> None:
    """An entry for each incident that the mail tells of."""
    told = select(NotificationSubject.incident_id, NotificationSubject.occasion).where(
        NotificationSubject.notification_id == mail.id
    )
    for incident_id, occasion in session.execute(told.order_by(NotificationSubject.id)).all():
        about = {"recipient": mail.recipient, "occasion": occasion, "message_id": mail.message_id}
        audit.record(session, what, {**about, **evidence}, incident_id=incident_id)


def _hold_back(database: Database, down: TransportDown) -> int:
    """Put off everything else that is due: ten thousand rows need not each find out that the server is away."""
    level = logging.ERROR if down.is_configuration else logging.WARNING
    _log.log(level, "mails are held back: %s", down.reason)
    # Rows that somebody holds are left alone: waiting for them in another order than theirs would be a deadlock.
    due = select(Notification.id).where(*_open(), leases.is_due(Notification)).with_for_update(skip_locked=True)
    with database.write() as session:
        result = session.execute(
            update(Notification)
            .where(Notification.id.in_(due))
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[0]), error=clean(down.reason, LONGEST_ERROR))
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _open() -> tuple[ColumnElement[bool], ...]:
    return (Notification.channel.in_(CHANNELS), Notification.state.in_(OPEN))


def _sent_last_minute(session: Session) -> int:
    # `next_attempt_at` of a sent row is when it was sent, and has an index.
    statement = select(func.count()).where(
        Notification.channel.in_(CHANNELS), Notification.state == "sent", Notification.next_attempt_at > db_now(-60)
    )
    return session.execute(statement).scalar_one()
