"""The outbox: who has to be told what. Rows only; rendering and sending are somebody else's."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from sqlalchemy import Insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.records.models import Base, Notification, NotificationSubject, db_now

NO_RECIPIENT = "no recipient: the account has no mail address"
NO_OPERATOR = "no recipient: R8SCAN_OPERATOR_EMAIL is not set"
UNDELIVERABLE = "undeliverable"
DIGEST_SECONDS = 24 * 3600
"""For which the mail about owners who could not be told waits for more of them: one a day, not one an owner."""


def insert_or_nothing(session: Session, model: type[Base]) -> Insert:
    """An INSERT that does nothing where a unique key is taken."""
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(model).on_conflict_do_nothing()
    return sqlite.insert(model).on_conflict_do_nothing()


def tell_owner(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    *,
    account_id: str | None,
    recipients: Collection[str],
    occasion: str,
    window: float,
    domain: str,
) -> int:
    """Queue one mail for each recipient of the account, or add to the one that still waits; the number of rows touched.

    Without recipients a failed row is written: the mail that nobody could get stays in sight.
    """
    for recipient in distinct(recipients):
        _add(session, incident_ids, "email", recipient, account_id, occasion, window, domain)
    if not recipients:
        _fail(session, incident_ids, "email", account_id, occasion, NO_RECIPIENT)
    return max(len(recipients), 1)


def tell_again(
    session: Session,
    incident_id: uuid.UUID,
    *,
    account_id: str | None,
    recipients: Collection[str],
    occasion: str,
    domain: str,
) -> list[uuid.UUID]:
    """Queue one mail more for each recipient, due now, of an incident that may have been told before; the rows.

    Each has a merge key of its own: nothing joins it, and the promise to tell once is not asked.
    """
    rows = []
    for recipient in distinct(recipients):
        merge_key = f"again:{uuid.uuid4()}"
        row = _pending(session, "email", merge_key, recipient, account_id, 0, domain)
        _link(session, row, [incident_id], "email", merge_key, occasion)
        rows.append(row)
    return rows


def tell_operator(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    occasion: str,
    operator_email: str | None,
    *,
    window: float = 10,
    domain: str | None = None,
) -> None:
    """Queue it for the operator; without an address of theirs, a failed row says so.

    Owners who could not be told wait a day in a mail of their own, whatever `window` says: they hold up nothing that is
    urgent, and a hundred of them do not bury it.
    """
    if operator_email is None:
        _fail(session, incident_ids, "operator", None, occasion, NO_OPERATOR)
        return
    domain = domain or domain_of(operator_email)
    if occasion == UNDELIVERABLE:
        _add_to_digest(session, incident_ids, operator_email, domain)
    else:
        _add(session, incident_ids, "operator", operator_email, None, occasion, window, domain)


def distinct(recipients: Collection[str]) -> list[str]:
    """In order, one of those that differ only in case: to every mail server that matters they are one mailbox."""
    return sorted({folded(recipient): recipient for recipient in sorted(recipients, reverse=True)}.values())


def folded(recipient: str) -> str:
    """What is equal for two spellings of one address."""
    return recipient.lower()


def domain_of(address: str) -> str:
    """The domain of a mail address, with or without a display name."""
    return address.rpartition("@")[2].rstrip("> ").lower() or "localhost"


def _add(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    channel: str,
    recipient: str,
    account_id: str | None,
    occasion: str,
    window: float,
    domain: str,
) -> None:
    merge_key = recipient if account_id is None else f"{account_id}:{folded(recipient)}"
    untold = _untold(session, incident_ids, channel, merge_key, occasion)
    if untold:
        notification_id = _pending(session, channel, merge_key, recipient, account_id, window, domain)
        _link(session, notification_id, untold, channel, merge_key, occasion)


def _add_to_digest(session: Session, incident_ids: Collection[uuid.UUID], operator_email: str, domain: str) -> None:
    """Add to the day's mail, or begin it. One mail tells an incident once; the next may tell it again.

    For another recipient of the same incident may fail days later.
    """
    merge_key = f"digest:{operator_email}"
    digest = _pending(session, "operator", merge_key, operator_email, None, DIGEST_SECONDS, domain)
    _link(session, digest, sorted(set(incident_ids)), "operator", str(digest), UNDELIVERABLE)


def _untold(
    session: Session, incident_ids: Collection[uuid.UUID], channel: str, merge_key: str, occasion: str
) -> list[uuid.UUID]:
    """Those incidents of which this recipient has not been told on this occasion."""
    told = session.execute(
        select(NotificationSubject.incident_id).where(
            NotificationSubject.incident_id.in_(incident_ids),
            NotificationSubject.channel == channel,
            NotificationSubject.merge_key == merge_key,
            NotificationSubject.occasion == occasion,
        )
    ).scalars()
    return sorted(set(incident_ids) - set(told))


def _link(
    session: Session,
    notification_id: uuid.UUID,
    incident_ids: Collection[uuid.UUID],
    channel: str,
    merge_key: str,
    occasion: str,
) -> None:
    for incident_id in incident_ids:
        session.execute(
            insert_or_nothing(session, NotificationSubject).values(
                notification_id=notification_id,
                incident_id=incident_id,
                channel=channel,
                merge_key=merge_key,
                occasion=occasion,
            )
        )


def _pending(
    session: Session,
    channel: str,
    merge_key: str,
    recipient: str,
    account_id: str | None,
    window: float,
    domain: str,
) -> uuid.UUID:
    """The row that still takes incidents, locked until our transaction ends: no deliverer freezes it under us.

    It is due after `window` seconds at the latest, also where it was begun with a longer one.
    """
    while True:
        notification_id = uuid.uuid4()
        session.execute(
            insert_or_nothing(session, Notification).values(
                id=notification_id,
                channel=channel,
                merge_key=merge_key,
                account_id=account_id,
                recipient=recipient,
                state="pending",
                attempts=0,
                next_attempt_at=db_now(window),
                message_id=f"<{notification_id}@{domain}>",
                created_at=db_now(),
            )
        )
        found = session.execute(
            select(Notification.id)
            .where(
                Notification.channel == channel, Notification.merge_key == merge_key, Notification.state == "pending"
            )
            .with_for_update()
        ).scalar_one_or_none()
        if found is not None:  # else a deliverer froze it between the two statements: begin the next one
            session.execute(
                update(Notification)
                .where(Notification.id == found, Notification.next_attempt_at > db_now(window))
                .values(next_attempt_at=db_now(window))
                .execution_options(synchronize_session=False)
            )
            return found


def _fail(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    channel: str,
    account_id: str | None,
    occasion: str,
    error: str,
) -> None:
    """A row that could not even be addressed. It never becomes pending, so it blocks nobody."""
    untold = _untold(session, incident_ids, channel, "", occasion)
    if not untold:
        return
    notification_id = uuid.uuid4()
    session.add(
        Notification(
            id=notification_id,
            channel=channel,
            merge_key="",
            account_id=account_id,
            state="failed",
            next_attempt_at=db_now(),
            message_id=f"<{notification_id}@localhost>",
            created_at=db_now(),
            error=error,
        )
    )
    session.flush()
    _link(session, notification_id, untold, channel, "", occasion)
