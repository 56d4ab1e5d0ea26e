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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from notifications import claiming
from notifications.claiming import BACKOFF_SECONDS, CHANNELS, Claimed, is_open
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
from scanner.records.audit import Entry
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.states import NotificationState

SEND_SECONDS = 20.0
"""For the exchange with the server; with what it takes to write the outcome, shorter than the lease."""
GIVE_UP_AFTER = timedelta(days=3)
"""From the moment the facts were frozen: a mail that nobody tried to send does not age."""
MAX_ATTEMPTS = 200
"""Twice what the backoff makes of three days: a row that kills its worker each time ends too."""
RECORD_TRIES = 5
MAX_ERROR_LENGTH = 500

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DeliveryReport:
    """What one run did, in rows. `claimed` is the sum of the next four and of what broke off."""

    claimed: int = 0
    sent: int = 0
    deferred: int = 0
    failed: int = 0
    lost: int = 0
    held_back: int = 0


def _jitter() -> float:
    return 0.8 + 0.4 * secrets.randbelow(1000) / 1000


def deliver_due(
    database: Database,
    transport: Transport,
    identity: MailIdentity,
    *,
    limit: int = 100,
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
        groups = claiming.due(session, limit=min(limit, rate - _sent_last_minute(session)))
    with transport.open() as outlet:
        try:
            for keys in groups:
                for claimed in _claims(database, keys, jitter, send_seconds):
                    _deliver_all(database, outlet, identity, claimed, report)
        except TransportDown as down:
            report.held_back = _hold_back(database, down)
    return report


def _claims(
    database: Database, keys: Sequence[uuid.UUID], jitter: Callable[[], float], send_seconds: float
) -> Iterator[list[Claimed]]:
    """The rows together; where that fails, each by itself: what is too much at once need not be too much alone."""
    try:
        together = claiming.claim(database, keys, jitter, send_seconds)
    except Exception as err:
        if is_unavailable(err) and len(keys) == 1:
            raise
        _log.exception("mails cannot be claimed", extra={"rows": len(keys)})
    else:
        yield together
        return
    if len(keys) == 1:
        _put_aside(database, keys[0])
    else:
        for key in keys:
            yield from _claims(database, [key], jitter, send_seconds)


def _put_aside(database: Database, key: uuid.UUID) -> None:
    """A row that cannot even be claimed must not come first every time."""
    with database.write() as session:
        session.execute(
            update(Notification)
            .where(Notification.id == key, *is_open())
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[-1]), error="it cannot be claimed: see the log")
            .execution_options(synchronize_session=False)
        )


def _deliver_all(
    database: Database, outlet: Outlet, identity: MailIdentity, claimed: Sequence[Claimed], report: DeliveryReport
) -> None:
    """Those that one transaction has claimed. TransportDown after the others were given back."""
    rest = list(claimed)
    while rest:
        if time.monotonic() > rest[0].begin_by:
            rest = claiming.renewed(database, rest)
            if not rest:
                return
        one = rest.pop(0)
        try:
            _deliver(database, outlet, identity, one, report)
        except TransportDown:
            claiming.give_back(database, rest)
            raise
        except LeaseLost as lost:
            report.lost += 1
            _log.warning("lease lost", extra={"notification": str(one.id), "error": str(lost)})


def _deliver(
    database: Database, outlet: Outlet, identity: MailIdentity, claimed: Claimed, report: DeliveryReport
) -> None:
    """One row, to its outcome. TransportDown after it was put off; LeaseLost when it went to another worker."""
    report.claimed += 1
    if claimed.lease.attempts > MAX_ATTEMPTS:
        _fail(database, claimed, identity, f"gave up after {MAX_ATTEMPTS} attempts")
        report.failed += 1
        return
    try:
        rendered = _send(outlet, claimed, identity)
    except (PermanentFailure, UnusableAddress) as err:
        _fail(database, claimed, identity, str(err))
        report.failed += 1
    except TransientFailure as err:
        _defer(database, claimed, identity, err.reason, report)
        if isinstance(err, TransportDown):
            raise
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("a mail could not be made", extra={"notification": str(claimed.id)})
        _defer(database, claimed, identity, f"the mail could not be made: {type(err).__name__}", report)
    else:
        _record_sent(database, claimed, rendered.complaint)
        report.sent += 1


def _send(outlet: Outlet, claimed: Claimed, identity: MailIdentity) -> Rendered:
    deadline = time.monotonic() + claimed.send_seconds
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
    outlet.send(envelope, deadline=deadline)
    return rendered


def _record_sent(database: Database, claimed: Claimed, complaint: str | None) -> None:
    """Write that it is out. A database that is away for a moment is no reason to send it twice: we insist."""
    for tries_left in reversed(range(RECORD_TRIES)):
        try:
            with database.write() as session:
                claimed.lease.write(
                    session,
                    state=NotificationState.SENT,
                    sent_at=db_now(),
                    next_attempt_at=db_now(),
                    error=complaint,
                    leased_until=None,
                )
                _audit_claimed(session, claimed, "mail_sent")
        except Exception as err:
            if not is_unavailable(err) or not tries_left:
                raise
            _log.warning("a mail is out, but the database is away: trying again", extra={"error": type(err).__name__})
            time.sleep(1)
        else:
            return


def _defer(database: Database, claimed: Claimed, identity: MailIdentity, reason: str, report: DeliveryReport) -> None:
    """Leave the row for its next attempt; after three days of attempts, fail it."""
    if claimed.facts is not None and claimed.now - claimed.facts.frozen_at > GIVE_UP_AFTER:
        _fail(database, claimed, identity, f"gave up after {GIVE_UP_AFTER.days} days: {reason}")
        report.failed += 1
        return
    with database.write() as session:
        claimed.lease.write(
            session, error=clean(reason, MAX_ERROR_LENGTH), leased_until=None, next_attempt_at=db_now(claimed.delay)
        )
    report.deferred += 1
    _log.warning("mail put off", extra={"notification": str(claimed.id), "error": reason})


def _fail(database: Database, claimed: Claimed, identity: MailIdentity, reason: str) -> None:
    """Settle the row as failed, in sight; of an owner's mail the operator is told in the same transaction."""
    _log.error("mail failed", extra={"notification": str(claimed.id), "error": reason})
    with database.write() as session:
        claimed.lease.write(
            session, state=NotificationState.FAILED, error=clean(reason, MAX_ERROR_LENGTH), leased_until=None
        )
        _audit_claimed(session, claimed, "mail_failed", error=clean(reason, MAX_ERROR_LENGTH))
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


def _audit_claimed(session: Session, claimed: Claimed, what: str, **evidence: str) -> None:
    if claimed.channel == "email":  # an account that is erased takes its own mails along: the lease would be lost
        _audit(session, claimed, claimed.subjects, what, **evidence)
    else:
        audit_mail(session, claimed, what, **evidence)


def audit_mail(session: Session, mail: Claimed | Notification, what: str, **evidence: str) -> None:
    """An entry for each incident that the mail tells of."""
    told = select(NotificationSubject.incident_id, NotificationSubject.occasion).where(
        NotificationSubject.notification_id == mail.id
    )
    _audit(session, mail, session.execute(told.order_by(NotificationSubject.id)).all(), what, **evidence)


def _audit(
    session: Session, mail: Claimed | Notification, subjects: Iterable[Sequence[Any]], what: str, **evidence: str
) -> None:
    entries = []
    for incident_id, occasion in subjects:
        about = {"recipient": mail.recipient, "occasion": occasion, "message_id": mail.message_id}
        entries.append(Entry(what, {**about, **evidence}, incident_id))
    audit.record_all(session, entries)


def _hold_back(database: Database, down: TransportDown) -> int:
    """Put off everything else that is due: ten thousand rows need not each find out that the server is away."""
    level = logging.ERROR if down.is_configuration else logging.WARNING
    _log.log(level, "mails are held back: %s", down.reason)
    # Rows that somebody holds are left alone: waiting for them in another order than theirs would be a deadlock.
    due = select(Notification.id).where(*is_open(), leases.is_due(Notification)).with_for_update(skip_locked=True)
    with database.write() as session:
        result = session.execute(
            update(Notification)
            .where(Notification.id.in_(due))
            .values(next_attempt_at=db_now(BACKOFF_SECONDS[0]), error=clean(down.reason, MAX_ERROR_LENGTH))
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _sent_last_minute(session: Session) -> int:
    # `next_attempt_at` of a sent row is when it was sent, and has an index.
    statement = select(func.count()).where(
        Notification.channel.in_(CHANNELS),
        Notification.state == NotificationState.SENT,
        Notification.next_attempt_at > db_now(-60),
    )
    return session.execute(statement).scalar_one()
