"""Helpers for tests of mails, for example to write incidents and outbox rows to the database."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from notifications.delivery import DeliveryReport, deliver_due
from notifications.email.facts import MailFacts
from notifications.email.gathering import gather
from notifications.email.render import MailIdentity
from notifications.email.transport import Envelope
from scanner.records import outbox
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Notification, db_now
from scanner.records.outbox import OwnerNotice
from scanner.records.states import Occasion

PUBLISHED = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
SEEN = PUBLISHED + timedelta(seconds=30)
DISABLED = PUBLISHED + timedelta(seconds=31)
COMMIT = "4f2a9c1e0b7733d8a95c6e1f20b4d7a8c3e59b61"
OWNER = "ana@acme.example"
OPERATOR = "ops@vendor.example"
IDENTITY = MailIdentity(sender="Vendor Security <security@vendor.example>", operator_email=OPERATOR)


def place(**values: Any) -> dict[str, Any]:
    """Return the database columns for a place where a token was found, by default a file in a repository.

    `values` replaces the default values of columns.
    """
    known: dict[str, Any] = {
        "kind": "file",
        "url": f"https://github.com/acme/app/blob/{COMMIT}/src/app.py#L7",
        "repository": "acme/app",
        "path": "src/app.py",
        "commit": COMMIT,
        "line": 7,
        "encoding": "plain",
        "container": "",
        "published_at": PUBLISHED,
        "source": "public_events",
        "seen_at": SEEN,
        "place_key": secrets.token_hex(32),
    }
    return {**known, **values}


def incident(database: Database, places: Sequence[dict[str, Any]] = (), **values: Any) -> uuid.UUID:
    """Write an incident with these places to the database. Return the incident's id.

    `values` replaces default values of the incident's columns.
    """
    known: dict[str, Any] = {
        "id": uuid.uuid4(),
        "digest": hashlib.sha256(secrets.token_bytes()).hexdigest(),
        "hint": "r8_Exa…mple",
        "token_id": "1",
        "token_name": "ci",
        "token_last_used_at": PUBLISHED - timedelta(hours=1),
        "account_id": "1",
        "account_name": "acme",
        "cause": "public_repository",
        "action": "disabled",
        "detected_at": SEEN,
        "disabled_at": DISABLED,
    }
    row = Incident(**{**known, **values})
    with database.write() as session:
        session.add(row)
        session.flush()
        session.add_all([Exposure(incident_id=row.id, **one) for one in places])
    return row.id


def queue_owner_mail(
    database: Database, *incident_ids: uuid.UUID, recipient: str = OWNER, occasion: Occasion = Occasion.DISABLED
) -> uuid.UUID:
    """Queue a mail to an owner about these incidents, due now. Return the mail's id."""
    with database.write() as session:
        news = OwnerNotice("1", (recipient,), occasion, incident_ids)
        outbox.notify_owners(session, [news], window=0, domain="vendor.example")
    return newest(database, "email", recipient)


def notify_operator(database: Database, occasion: Occasion, *incident_ids: uuid.UUID) -> uuid.UUID:
    """Queue a mail to the operator about these incidents, due now. Return the mail's id."""
    with database.write() as session:
        outbox.notify_operator(session, incident_ids, occasion, OPERATOR, window=0)
    return newest(database, "operator", OPERATOR)


def newest(database: Database, channel: str, recipient: str) -> uuid.UUID:
    """Return the id of the newest notification to this recipient on this channel."""
    statement = (
        select(Notification.id)
        .where(Notification.channel == channel, Notification.recipient == recipient)
        .order_by(Notification.created_at.desc())
        .limit(1)
    )
    with database.read() as session:
        return session.execute(statement).scalar_one()


def row(database: Database, notification_id: uuid.UUID) -> Notification:
    with database.read() as session:
        return session.execute(select(Notification).where(Notification.id == notification_id)).scalar_one()


def facts_of(database: Database, notification_id: uuid.UUID) -> MailFacts:
    """Return the data that this mail would report if it were sent now."""
    with database.read() as session:
        found = session.execute(select(Notification).where(Notification.id == notification_id)).scalar_one()
        return gather(session, found)


def make_due(database: Database, notification_id: uuid.UUID) -> None:
    """Make this mail due now, even if a worker has claimed it."""
    with database.write() as session:
        session.execute(
            update(Notification)
            .where(Notification.id == notification_id)
            .values(next_attempt_at=db_now(-1), leased_until=None)
        )


def leak(database: Database, recipient: str = OWNER) -> uuid.UUID:
    """Write the incident of a disabled token, and queue a mail to the token's owner.

    The mail is due now. Return the mail's id.
    """
    return queue_owner_mail(database, incident(database, [place()]), recipient=recipient)


class Post:
    """A mail transport that keeps the mails instead of sending them.

    `failures` has the exceptions to raise, by recipient. The key `*` means all recipients.
    """

    def __init__(self, failures: dict[str, Exception] | None = None) -> None:
        self.taken: list[Envelope] = []
        self.tried: list[str] = []
        self.failures = failures or {}

    @contextmanager
    def open(self) -> Iterator[Post]:
        yield self

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        self.tried.append(envelope.recipient)
        failure = self.failures.get(envelope.recipient) or self.failures.get("*")
        if failure is not None:
            raise failure
        self.taken.append(envelope)


def deliver(database: Database, post: Any, identity: MailIdentity = IDENTITY, **options: Any) -> DeliveryReport:
    """Deliver the due mails once, without random delays."""
    return deliver_due(database, post, identity, jitter=lambda: 1.0, **options)
