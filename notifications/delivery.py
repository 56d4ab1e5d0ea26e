"""Sends mails: claims due mails, renders each, sends it and records the outcome.

Each mail is sent once, with one exception: after a crash between the server's answer and the record of the outcome, the
mail is sent again with the same Message-ID.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from notifications import claiming
from notifications.backoff import (
    GIVE_UP_AFTER,
    MAIL_BACKOFF_SECONDS,
    MAX_MAIL_ATTEMPTS,
    mail_backoff_while_down,
    random_jitter,
)
from notifications.claiming import CHANNELS, Claimed, is_open
from notifications.email.render import MailIdentity, Rendered, UnusableAddress, compose, envelope_sender, render
from notifications.email.transport import (
    Envelope,
    MailConnection,
    MailTransport,
    PermanentFailure,
    TransientFailure,
    TransportDown,
)
from notifications.email.wording import clean
from scanner.records import audit, leases, outbox
from scanner.records.audit import Entry
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.outbox import MAIL_SERVER_DOWN
from scanner.records.states import Channel, NotificationState, Occasion

SEND_SECONDS = 20.0
"""The maximum time for sending one mail. It must be shorter than a lease."""
MAX_RECORD_ATTEMPTS = 5
MAX_ERROR_LENGTH = 500

_log = logging.getLogger(__name__)


class Outcome(Enum):
    """The result of trying to send one mail."""

    SENT = auto()
    DEFERRED = auto()
    FAILED = auto()
    LOST = auto()
    """This worker's lease expired, and another worker claimed the row."""


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """The numbers of mails that one run has sent, deferred and so on.

    `held_back` is the number of mails that were not tried, because the mail server was unavailable.
    """

    sent: int = 0
    deferred: int = 0
    failed: int = 0
    lost: int = 0
    held_back: int = 0

    @property
    def claimed(self) -> int:
        return self.sent + self.deferred + self.failed + self.lost


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The result of one attempt to send a mail.

    `down` is the error if no mail at all can be sent now, otherwise None.
    """

    outcome: Outcome
    down: TransportDown | None = None


def deliver_due(
    database: Database,
    transport: MailTransport,
    identity: MailIdentity,
    *,
    limit: int = 100,
    rate: int = 600,
    jitter: Callable[[], float] = random_jitter,
    send_seconds: float = SEND_SECONDS,
) -> DeliveryReport:
    """Send due mails. An error in one mail does not stop the others. An unavailable mail server ends the run.

    Args:
        database: The database that contains the outbox.
        transport: How mails are sent, such as by SMTP.
        identity: The sender, the brand and the templates of the mails.
        limit: The maximum number of mails in this run.
        rate: The maximum number of mails per minute, for all workers together.
        jitter: A function that returns a random factor for the delay until a mail's next attempt.
        send_seconds: The maximum time for sending one mail, in seconds.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is unavailable.
    """
    counts: Counter[Outcome] = Counter()
    held_back = 0
    with database.read() as session:
        groups = claiming.due(session, limit=min(limit, rate - _sent_last_minute(session)))
    with transport.open() as connection:
        try:
            for keys in groups:
                for claimed in _claims(database, keys, jitter, send_seconds):
                    for outcome in _deliver_all(database, connection, identity, claimed):
                        counts[outcome] += 1
        except TransportDown as down:
            held_back = _hold_back(database, down)
    return DeliveryReport(
        sent=counts[Outcome.SENT],
        deferred=counts[Outcome.DEFERRED],
        failed=counts[Outcome.FAILED],
        lost=counts[Outcome.LOST],
        held_back=held_back,
    )


def _claims(
    database: Database, keys: Sequence[uuid.UUID], jitter: Callable[[], float], send_seconds: float
) -> Iterator[list[Claimed]]:
    """Claim the mails together, and yield them. If this fails, claim and yield each mail alone."""
    try:
        together = claiming.claim(database, keys, jitter, send_seconds)
    except Exception as err:
        if is_unavailable(err) and len(keys) == 1:
            raise
        _log.exception("cannot claim these mails together; trying them one by one", extra={"rows": len(keys)})
    else:
        yield together
        return
    if len(keys) == 1:
        _defer_unclaimable(database, keys[0])
    else:
        for key in keys:
            yield from _claims(database, [key], jitter, send_seconds)


def _defer_unclaimable(database: Database, key: uuid.UUID) -> None:
    """Defer a mail that cannot be claimed."""
    # Without the delay, every run would try this mail first.
    with database.write() as session:
        session.execute(
            update(Notification)
            .where(Notification.id == key, *is_open())
            .values(next_attempt_at=db_now(MAIL_BACKOFF_SECONDS[-1]), error="the row cannot be claimed: see the log")
            .execution_options(synchronize_session=False)
        )


def _deliver_all(
    database: Database, connection: MailConnection, identity: MailIdentity, claimed: Sequence[Claimed]
) -> Iterator[Outcome]:
    """Send the claimed mails, and yield the outcome of each.

    Raises:
        TransportDown: the mail server is unavailable. The untried mails have been released.
    """
    rest = list(claimed)
    while rest:
        if time.monotonic() > rest[0].begin_by:
            rest = claiming.renewed(database, rest)
            if not rest:
                return
        one = rest.pop(0)
        try:
            attempt = _deliver(database, connection, identity, one)
        except LeaseLost as lost:
            _log.warning(
                "the lease on a mail was lost; another worker continues with it",
                extra={"notification": str(one.id), "error": str(lost)},
            )
            attempt = _Attempt(Outcome.LOST)
        if attempt.down is not None:
            claiming.give_back(database, rest)
        yield attempt.outcome
        if attempt.down is not None:
            raise attempt.down


def _deliver(database: Database, connection: MailConnection, identity: MailIdentity, claimed: Claimed) -> _Attempt:
    """Send one mail and record its outcome.

    Raises:
        LeaseLost: the claim expired, and another worker claimed the mail.
    """
    if claimed.lease.attempts > MAX_MAIL_ATTEMPTS:
        return _Attempt(_fail(database, claimed, identity, f"gave up after {MAX_MAIL_ATTEMPTS} attempts"))
    try:
        rendered = _send(connection, claimed, identity)
    except (PermanentFailure, UnusableAddress) as err:
        return _Attempt(_fail(database, claimed, identity, str(err)))
    except TransportDown as down:
        soon = replace(claimed, delay=mail_backoff_while_down(claimed.lease.attempts, claimed.delay))
        return _Attempt(_defer(database, soon, identity, MAIL_SERVER_DOWN + down.reason), down)
    except TransientFailure as err:
        return _Attempt(_defer(database, claimed, identity, err.reason))
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("cannot compose a mail; it will be retried", extra={"notification": str(claimed.id)})
        return _Attempt(_defer(database, claimed, identity, f"the mail could not be composed: {type(err).__name__}"))
    _record_sent(database, claimed, rendered.template_error)
    return _Attempt(Outcome.SENT)


def _send(connection: MailConnection, claimed: Claimed, identity: MailIdentity) -> Rendered:
    deadline = time.monotonic() + claimed.send_seconds
    if claimed.recipient is None:
        raise PermanentFailure("no recipient")
    if claimed.facts is None:
        raise TransientFailure(claimed.facts_error)
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
    envelope = Envelope(sender, recipient, claimed.message_id, message.as_bytes(), claimed.channel)
    connection.send(envelope, deadline=deadline)
    return rendered


def _record_sent(database: Database, claimed: Claimed, template_error: str | None) -> None:
    """Record that the mail was sent. Try for a few seconds if the database is unavailable."""
    # If this is not recorded, the mail is sent again.
    for tries_left in reversed(range(MAX_RECORD_ATTEMPTS)):
        try:
            with database.write() as session:
                claimed.lease.write(
                    session,
                    state=NotificationState.SENT,
                    sent_at=db_now(),
                    next_attempt_at=db_now(),
                    error=template_error,
                    leased_until=None,
                )
                _audit_claimed(session, claimed, "mail_sent")
        except Exception as err:
            if not is_unavailable(err) or not tries_left:
                raise
            _log.warning(
                "a mail was sent, but the database is unavailable: recording it again in a second",
                extra={"notification": str(claimed.id), "error": type(err).__name__},
            )
            time.sleep(1)
        else:
            return


def _defer(database: Database, claimed: Claimed, identity: MailIdentity, reason: str) -> Outcome:
    """Release the mail until its next attempt, or record it as failed if it is too old."""
    if claimed.facts is not None and claimed.now - claimed.facts.frozen_at > GIVE_UP_AFTER:
        return _fail(database, claimed, identity, f"gave up after {GIVE_UP_AFTER.days} days: {reason}")
    with database.write() as session:
        claimed.lease.write(
            session, error=clean(reason, MAX_ERROR_LENGTH), leased_until=None, next_attempt_at=db_now(claimed.delay)
        )
    _log.warning(
        "mail deferred", extra={"notification": str(claimed.id), "error": reason, "seconds": round(claimed.delay)}
    )
    return Outcome.DEFERRED


def _fail(database: Database, claimed: Claimed, identity: MailIdentity, reason: str) -> Outcome:
    """Record the mail as failed, and tell the operator if it was for an owner."""
    _log.error("mail failed", extra={"notification": str(claimed.id), "error": reason})
    with database.write() as session:
        claimed.lease.write(
            session, state=NotificationState.FAILED, error=clean(reason, MAX_ERROR_LENGTH), leased_until=None
        )
        _audit_claimed(session, claimed, "mail_failed", error=clean(reason, MAX_ERROR_LENGTH))
        if claimed.channel == Channel.EMAIL:
            queue_undeliverable_notice(session, claimed.id, identity)
    return Outcome.FAILED


def queue_undeliverable_notice(session: Session, notification_id: uuid.UUID, identity: MailIdentity) -> None:
    """Queue a mail to the operator about a mail to an owner that failed.

    Args:
        session: The transaction that records the failure.
        notification_id: The id of the mail that failed.
        identity: The sender of the new mail.
    """
    incident_ids = session.execute(
        select(NotificationSubject.incident_id).where(NotificationSubject.notification_id == notification_id)
    ).scalars()
    outbox.notify_operator(
        session,
        sorted(set(incident_ids)),
        Occasion.UNDELIVERABLE,
        identity.operator_email,
        domain=outbox.domain_of(identity.sender),
    )


def _audit_claimed(session: Session, claimed: Claimed, what: str, **evidence: str) -> None:
    # For a mail to an owner, use the incidents that were read at the claim, because the account may have been erased
    # meanwhile.
    if claimed.channel == Channel.EMAIL:
        _audit(session, claimed, claimed.subjects, what, **evidence)
    else:
        audit_mail(session, claimed, what, **evidence)


def audit_mail(session: Session, mail: Claimed | Notification, what: str, **evidence: str) -> None:
    """Write an audit entry for each incident that the mail reports.

    `what` is the name of the event, such as "mail_bounced".
    """
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
    """Defer all due mails. Return their number."""
    level = logging.ERROR if down.is_configuration else logging.WARNING
    _log.log(level, "all due mails are deferred: %s", down.reason)
    # Skip rows that another transaction has locked. Waiting for them could cause a deadlock.
    due = select(Notification.id).where(*is_open(), leases.is_due(Notification)).with_for_update(skip_locked=True)
    with database.write() as session:
        result = session.execute(
            update(Notification)
            .where(Notification.id.in_(due))
            .values(
                next_attempt_at=db_now(MAIL_BACKOFF_SECONDS[0]),
                error=clean(MAIL_SERVER_DOWN + down.reason, MAX_ERROR_LENGTH),
            )
        )
        return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def _sent_last_minute(session: Session) -> int:
    # For a sent mail, `next_attempt_at` is the time of sending. It has an index, and `sent_at` has none.
    statement = select(func.count()).where(
        Notification.channel.in_(CHANNELS),
        Notification.state == NotificationState.SENT,
        Notification.next_attempt_at > db_now(-60),
    )
    return session.execute(statement).scalar_one()
