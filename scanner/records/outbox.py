"""The outbox: who has to be told what. Rows only; rendering and sending are somebody else's."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Insert, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.models import Notification, NotificationSubject, db_now
from scanner.records.states import NotificationState

NO_RECIPIENT = "no recipient: the account has no mail address"
NO_OPERATOR = "no recipient: R8SCAN_OPERATOR_EMAIL is not set"
UNDELIVERABLE = "undeliverable"
DIGEST_SECONDS = 24 * 3600
"""For which the mail about owners who could not be told waits for more of them: one a day, not one an owner."""


@dataclass(frozen=True, slots=True)
class OwnerNews:
    """Incidents of which an account has to be told, at its mail addresses."""

    account_id: str | None
    recipients: tuple[str, ...]
    occasion: str
    incident_ids: tuple[uuid.UUID, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One recipient, and what to tell them. `merge_key`: what is told under one key goes into one mail."""

    merge_key: str
    recipient: str
    account_id: str | None
    occasion: str
    incident_ids: Collection[uuid.UUID]


def tell_owners(session: Session, news: Collection[OwnerNews], *, window: float, domain: str) -> None:
    """Queue one mail for each recipient of each account, or add to the one that still waits.

    For an account without recipients a failed row is written: the mail that nobody could get stays in sight.
    """
    wanted = [
        _Wanted(_key_of(one.account_id, recipient), recipient, one.account_id, one.occasion, one.incident_ids)
        for one in news
        for recipient in distinct(one.recipients)
    ]
    _add(session, "email", wanted, window, domain)
    for one in news:
        if not one.recipients:
            _fail(session, one.incident_ids, "email", one.account_id, one.occasion, NO_RECIPIENT)


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
        wanted = _Wanted(merge_key, recipient, account_id, occasion, [incident_id])
        pending = _pending(session, "email", [wanted], 0, domain)
        _link(session, "email", [(pending[merge_key], incident_id, merge_key, occasion)])
        rows.append(pending[merge_key])
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
        wanted = _Wanted(_key_of(None, operator_email), operator_email, None, occasion, incident_ids)
        _add(session, "operator", [wanted], window, domain)


def distinct(recipients: Collection[str]) -> list[str]:
    """In order, one of those that differ only in case: to every mail server that matters they are one mailbox."""
    return sorted({folded(recipient): recipient for recipient in sorted(recipients, reverse=True)}.values())


def folded(recipient: str) -> str:
    """What is equal for two encodings of one address."""
    return recipient.lower()


def domain_of(address: str) -> str:
    """The domain of a mail address, with or without a display name."""
    return address.rpartition("@")[2].rstrip("> ").lower() or "localhost"


def _key_of(account_id: str | None, recipient: str) -> str:
    return recipient if account_id is None else f"{account_id}:{folded(recipient)}"


def _add(session: Session, channel: str, wanted: Sequence[_Wanted], window: float, domain: str) -> None:
    """Rows for all of them that have not been told yet; a storm brings hundreds at once."""
    if not wanted:
        return
    told = _told(session, channel, {incident_id for one in wanted for incident_id in one.incident_ids})
    untold = [
        (one, incident_id)
        for one in wanted
        for incident_id in sorted(set(one.incident_ids))
        if (incident_id, one.merge_key, one.occasion) not in told
    ]
    pending = _pending(session, channel, [one for one, _ in untold], window, domain)
    _link(
        session,
        channel,
        [(pending[one.merge_key], incident_id, one.merge_key, one.occasion) for one, incident_id in untold],
    )


def _add_to_digest(session: Session, incident_ids: Collection[uuid.UUID], operator_email: str, domain: str) -> None:
    """Add to the day's mail, or begin it. One mail tells an incident once; the next may tell it again.

    For another recipient of the same incident may fail days later.
    """
    wanted = _Wanted(f"digest:{operator_email}", operator_email, None, UNDELIVERABLE, incident_ids)
    digest = _pending(session, "operator", [wanted], DIGEST_SECONDS, domain)[wanted.merge_key]
    rows = [(digest, incident_id, str(digest), UNDELIVERABLE) for incident_id in sorted(set(incident_ids))]
    _link(session, "operator", rows)


def _told(session: Session, channel: str, incident_ids: Collection[uuid.UUID]) -> set[tuple[uuid.UUID, str, str]]:
    """What was told of these incidents: to whom (the merge key), and on which occasion."""
    statement = select(
        NotificationSubject.incident_id, NotificationSubject.merge_key, NotificationSubject.occasion
    ).where(NotificationSubject.incident_id.in_(incident_ids), NotificationSubject.channel == channel)
    return {(incident_id, key, occasion) for incident_id, key, occasion in session.execute(statement)}


def _link(session: Session, channel: str, links: Sequence[tuple[uuid.UUID, uuid.UUID, str, str]]) -> None:
    """`links`: notification, incident, merge key, occasion. What is there already is left as it is."""
    rows = [
        {
            "notification_id": notification_id,
            "incident_id": incident_id,
            "channel": channel,
            "merge_key": merge_key,
            "occasion": occasion,
        }
        for notification_id, incident_id, merge_key, occasion in links
    ]
    if rows:
        session.flush()
        session.connection().execute(insert_or_nothing(session, NotificationSubject), rows)


def _pending(
    session: Session, channel: str, wanted: Sequence[_Wanted], window: float, domain: str
) -> dict[str, uuid.UUID]:
    """By merge key, the rows that still take incidents, locked: no deliverer freezes them before our transaction ends.

    They are due after `window` seconds at the latest, also where they were begun with a longer one. Written, or found,
    in the order of keys: two transactions wait for each other and do not deadlock.
    """
    if not wanted:
        return {}
    by_key = {one.merge_key: one for one in wanted}
    now = session.execute(select(db_now())).scalar_one()
    rows = [_new_row(channel, by_key[key], domain, now, now + timedelta(seconds=window)) for key in sorted(by_key)]
    session.flush()
    # Where a deliverer freezes one at this moment, the statement waits for it, and begins the next one.
    statement = _insert_or_hasten(session).returning(Notification.merge_key, Notification.id)
    return dict(list(session.connection().execute(statement, rows)))


def _insert_or_hasten(session: Session) -> Insert:
    """An INSERT of rows that still take incidents; one that is there is kept, and due when it was or earlier."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    statement = postgresql.insert(Notification) if is_postgresql else sqlite.insert(Notification)
    earlier = func.least if is_postgresql else func.min
    at = earlier(Notification.next_attempt_at, statement.excluded.next_attempt_at)
    return statement.on_conflict_do_update(
        index_elements=["channel", "merge_key"], index_where=text("state = 'pending'"), set_={"next_attempt_at": at}
    )


def _new_row(channel: str, one: _Wanted, domain: str, now: datetime, at: datetime) -> dict[str, Any]:
    notification_id = uuid.uuid4()
    return {
        "id": notification_id,
        "channel": channel,
        "merge_key": one.merge_key,
        "account_id": one.account_id,
        "recipient": one.recipient,
        "state": NotificationState.PENDING,
        "attempts": 0,
        "next_attempt_at": at,
        "message_id": f"<{notification_id}@{domain}>",
        "created_at": now,
    }


def _fail(
    session: Session,
    incident_ids: Collection[uuid.UUID],
    channel: str,
    account_id: str | None,
    occasion: str,
    error: str,
) -> None:
    """A row that could not even be addressed. It never becomes pending, so it blocks nobody."""
    told = _told(session, channel, incident_ids)
    untold = [incident_id for incident_id in sorted(set(incident_ids)) if (incident_id, "", occasion) not in told]
    if not untold:
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
    _link(session, channel, [(notification_id, incident_id, "", occasion) for incident_id in untold])
