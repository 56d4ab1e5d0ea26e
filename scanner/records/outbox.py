"""The outbox: messages to owners and the operator that wait to be sent."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Insert, func, select, text
from sqlalchemy.orm import Session

from scanner.records.columns import insert_into, insert_or_nothing
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.states import Channel, NotificationState, Occasion

NO_RECIPIENT = "no recipient: the account has no mail address"
NO_OPERATOR = "no recipient: R8SCAN_OPERATOR_EMAIL is not set"
MAIL_SERVER_DOWN = "no mail can be sent: "
"""The beginning of the error message of a mail that waits because the mail server does not work."""
DIGEST_SECONDS = 24 * 3600
"""The minimum time between two mails to the operator about undeliverable notifications."""


@dataclass(frozen=True, slots=True)
class OwnerNotice:
    """Incidents to report to one account. Each mail address of the account gets its own mail."""

    account_id: str | None
    recipients: tuple[str, ...]
    occasion: Occasion
    incident_ids: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class _Message:
    """Incidents to report to one recipient. Messages with the same `merge_key` become one mail."""

    merge_key: str
    recipient: str
    account_id: str | None
    occasion: Occasion
    incident_ids: Collection[uuid.UUID]


def notify_owners(session: Session, notices: Collection[OwnerNotice], *, window: float, domain: str) -> None:
    """Queue one mail for each recipient of each account, or add the incidents to a mail that has not been sent yet.

    An account without mail addresses gets a row in state `failed`.

    Args:
        window: Seconds for which a mail waits in order to collect further incidents.
    """
    messages = [
        _Message(
            _merge_key(notice.account_id, recipient), recipient, notice.account_id, notice.occasion, notice.incident_ids
        )
        for notice in notices
        for recipient in distinct_addresses(notice.recipients)
    ]
    _add(session, Channel.EMAIL, messages, window, domain)
    for notice in notices:
        if not notice.recipients:
            _fail(session, notice.incident_ids, Channel.EMAIL, notice.account_id, notice.occasion, NO_RECIPIENT)


def notify_again(
    session: Session,
    incident_id: uuid.UUID,
    *,
    account_id: str | None,
    recipients: Collection[str],
    occasion: Occasion,
    domain: str,
) -> list[uuid.UUID]:
    """Queue another mail about an incident for each recipient, due now. Return the ids of the notifications."""
    notification_ids = []
    for recipient in distinct_addresses(recipients):
        merge_key = f"again:{uuid.uuid4()}"
        message = _Message(merge_key, recipient, account_id, occasion, [incident_id])
        notification_id = _pending(session, Channel.EMAIL, [message], 0, domain)[merge_key]
        _link(session, Channel.EMAIL, [_Subject(notification_id, incident_id, merge_key, occasion)])
        notification_ids.append(notification_id)
    return notification_ids


def notify_operator(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    occasion: Occasion,
    operator_email: str | None,
    *,
    window: float = 10,
    domain: str | None = None,
) -> None:
    """Queue a mail to the operator, or write a row in state `failed` if the operator has no address.

    Incidents with the occasion `undeliverable` go into a separate daily digest.
    """
    if operator_email is None:
        _fail(session, incident_ids, Channel.OPERATOR, None, occasion, NO_OPERATOR)
        return
    domain = domain or domain_of(operator_email)
    if occasion == Occasion.UNDELIVERABLE:
        _add_to_digest(session, incident_ids, operator_email, window, domain)
    else:
        message = _Message(_merge_key(None, operator_email), operator_email, None, occasion, incident_ids)
        _add(session, Channel.OPERATOR, [message], window, domain)


def distinct_addresses(recipients: Collection[str]) -> list[str]:
    """Return the addresses in sorted order, and only one of several addresses that differ only in case."""
    by_mailbox = {normalized_address(recipient): recipient for recipient in sorted(recipients, reverse=True)}
    return sorted(by_mailbox.values())


def normalized_address(recipient: str) -> str:
    """Return the address in lower case, so that addresses of one mailbox compare equal."""
    return recipient.lower()


def domain_of(address: str) -> str:
    """Return the domain of a mail address with or without a display name. If it has no domain, return `localhost`."""
    return address.rpartition("@")[2].rstrip("> ").lower() or "localhost"


def _merge_key(account_id: str | None, recipient: str) -> str:
    return recipient if account_id is None else f"{account_id}:{normalized_address(recipient)}"


@dataclass(frozen=True, slots=True)
class _Subject:
    """A row for the table `notification_subjects`."""

    notification_id: uuid.UUID
    incident_id: uuid.UUID
    merge_key: str
    occasion: Occasion


def _add(session: Session, channel: Channel, messages: Sequence[_Message], window: float, domain: str) -> None:
    """Add incidents to unsent or new mails, except incidents that were reported before."""
    if not messages:
        return
    incident_ids = {incident_id for message in messages for incident_id in message.incident_ids}
    reported = _reported(session, channel, incident_ids)
    unreported = [
        (message, incident_id)
        for message in messages
        for incident_id in sorted(set(message.incident_ids))
        if (incident_id, message.merge_key, message.occasion) not in reported
    ]
    pending = _pending(session, channel, [message for message, _ in unreported], window, domain)
    subjects = [
        _Subject(pending[message.merge_key], incident_id, message.merge_key, message.occasion)
        for message, incident_id in unreported
    ]
    _link(session, channel, subjects)


def _add_to_digest(
    session: Session, incident_ids: Collection[uuid.UUID], operator_email: str, window: float, domain: str
) -> None:
    """Add incidents to the operator's daily digest mail, unless it contains them already."""
    message = _Message(f"digest:{operator_email}", operator_email, None, Occasion.UNDELIVERABLE, incident_ids)
    before = select(func.max(Notification.created_at), db_now()).where(
        Notification.channel == Channel.OPERATOR,
        Notification.merge_key == message.merge_key,
        Notification.created_at > db_now(-DIGEST_SECONDS),
    )
    last, now = session.execute(before).one()
    if last is not None:
        window = max(window, DIGEST_SECONDS - (now - last).total_seconds())
    digest_id = _pending(session, Channel.OPERATOR, [message], window, domain)[message.merge_key]
    subjects = [
        _Subject(digest_id, incident_id, str(digest_id), Occasion.UNDELIVERABLE)
        for incident_id in sorted(set(incident_ids))
    ]
    _link(session, Channel.OPERATOR, subjects)


def _reported(
    session: Session, channel: Channel, incident_ids: Collection[uuid.UUID]
) -> set[tuple[uuid.UUID, str, Occasion]]:
    """Return (incident id, merge key, occasion) of each mail about one of these incidents."""
    statement = select(
        NotificationSubject.incident_id, NotificationSubject.merge_key, NotificationSubject.occasion
    ).where(NotificationSubject.incident_id.in_(incident_ids), NotificationSubject.channel == channel)
    return {(incident_id, key, occasion) for incident_id, key, occasion in session.execute(statement)}


def _link(session: Session, channel: Channel, subjects: Sequence[_Subject]) -> None:
    rows = [
        {
            "notification_id": subject.notification_id,
            "incident_id": subject.incident_id,
            "channel": channel,
            "merge_key": subject.merge_key,
            "occasion": subject.occasion,
        }
        for subject in subjects
    ]
    if rows:
        session.flush()
        session.connection().execute(insert_or_nothing(session, NotificationSubject), rows)


def _pending(
    session: Session, channel: Channel, messages: Sequence[_Message], window: float, domain: str
) -> dict[str, uuid.UUID]:
    """Find or create the notification for each merge key, lock it, and return its id."""
    if not messages:
        return {}
    by_key = {message.merge_key: message for message in messages}
    now = session.execute(select(db_now())).scalar_one()
    # Two transactions cannot deadlock if both write the rows in the order of their keys.
    rows = [_new_row(channel, by_key[key], domain, now, now + timedelta(seconds=window)) for key in sorted(by_key)]
    session.flush()
    # If another process is just preparing this mail for sending, the statement waits for it and then adds a new mail.
    statement = _insert_or_hasten(session).returning(Notification.merge_key, Notification.id)
    return dict(list(session.connection().execute(statement, rows)))


def _insert_or_hasten(session: Session) -> Insert:
    """Return an INSERT of pending notifications, which makes existing ones due earlier."""
    statement = insert_into(session, Notification)
    earlier = func.least if session.get_bind().dialect.name == "postgresql" else func.min
    at = earlier(Notification.next_attempt_at, statement.excluded.next_attempt_at)
    return statement.on_conflict_do_update(
        index_elements=["channel", "merge_key"], index_where=text("state = 'pending'"), set_={"next_attempt_at": at}
    )


def _new_row(channel: Channel, message: _Message, domain: str, now: datetime, at: datetime) -> dict[str, Any]:
    notification_id = uuid.uuid4()
    return {
        "id": notification_id,
        "channel": channel,
        "merge_key": message.merge_key,
        "account_id": message.account_id,
        "recipient": message.recipient,
        "state": NotificationState.PENDING,
        "attempts": 0,
        "next_attempt_at": at,
        "message_id": f"<{notification_id}@{domain}>",
        "created_at": now,
    }


def _fail(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    channel: Channel,
    account_id: str | None,
    occasion: Occasion,
    error: str,
) -> None:
    """Write one failed notification, because there is nobody to notify of these incidents."""
    reported = _reported(session, channel, incident_ids)
    unreported = [
        incident_id for incident_id in sorted(set(incident_ids)) if (incident_id, "", occasion) not in reported
    ]
    if not unreported:
        return
    notification_id = uuid.uuid4()
    session.add(
        Notification(
            id=notification_id,
            channel=channel,
            merge_key="",
            account_id=account_id,
            state=NotificationState.FAILED,
            next_attempt_at=db_now(),
            message_id=f"<{notification_id}@localhost>",
            created_at=db_now(),
            error=error,
        )
    )
    _link(session, channel, [_Subject(notification_id, incident_id, "", occasion) for incident_id in unreported])
