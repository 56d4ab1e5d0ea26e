"""How long incidents are kept, and how the data of one account is erased. Deletes rows, decides nothing else."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select, update
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.database import Database
from scanner.records.models import (
    Account,
    Announcement,
    ApiToken,
    AuditEntry,
    Base,
    Exposure,
    Incident,
    Notification,
    NotificationSubject,
    Recipient,
    Sighting,
    db_now,
)
from scanner.records.sign_models import Report, UsageBaseline, UsageHour

UNDER_WAY = ("disabling", "held")
"""Actions whose incidents are not over, however old."""
ROWS_A_TRANSACTION = 500
DIGESTS_A_STATEMENT = 500

Value = TypeVar("Value")


class NotErasable(Exception):
    """The account's data cannot be erased now; the message is one line that says why."""


def forget_old(database: Database, *, keep_days: int, transactions: int = 100) -> int:
    """Delete incidents, mails and audit entries that are older; how many incidents.

    An incident counts as old when it was detected, and its newest place seen, longer ago. In small transactions, at
    most `transactions` a run: the next run goes on.
    """
    horizon = db_now(-keep_days * 86400)
    total = 0
    for _ in range(transactions):
        with database.write() as session:
            newer_place = exists().where(Exposure.incident_id == Incident.id, Exposure.seen_at > horizon)
            old = select(Incident.id).where(
                Incident.detected_at < horizon, Incident.action.not_in(UNDER_WAY), ~newer_place
            )
            ids = list(session.execute(old.limit(ROWS_A_TRANSACTION)).scalars())
            _delete_incidents(session, ids)
            _delete(session, Notification, Notification.id.in_(_unread_rows(horizon)))
            old_entries = select(AuditEntry.id).where(AuditEntry.at < horizon).limit(ROWS_A_TRANSACTION * 10)
            _delete(session, AuditEntry, AuditEntry.id.in_(old_entries))
        total += len(ids)
        if len(ids) < ROWS_A_TRANSACTION:
            break
    return total


def erase_account(session: Session, name: str, *, who: str) -> Counter[str]:
    """Erase all that is kept of the account with this name (or id), in the caller's transaction; rows by table.

    NotErasable. What stays is one audit entry with counts. Tokens that live are a reason to refuse: their rows are
    what lets the vendor's API accept them.
    """
    account = session.execute(select(Account).where(Account.name == name)).scalar_one_or_none()
    # Where the tokens are in a store that is not ours, only incidents know the account: by its name or its id there.
    own = or_(Incident.account_name == name, Incident.account_id == (str(account.id) if account else name))
    incidents = session.execute(select(Incident.id, Incident.digest, Incident.action).where(own)).all()
    if account is None and not incidents:
        raise NotErasable("nothing is kept of an account with this name")
    if any(action in UNDER_WAY for _, _, action in incidents):
        raise NotErasable("a token of the account waits to be disabled: settle that first (r8scan status)")
    digests = {digest for _, digest, _ in incidents}
    erased: Counter[str] = Counter()
    if account is not None:
        digests |= _erase_tokens(session, account, erased)
    for chunk in _chunks(sorted(digests)):
        erased["audit"] += _delete(session, AuditEntry, AuditEntry.evidence["digest"].as_string().in_(chunk))
        for model in (Report, UsageHour, UsageBaseline, Sighting, Announcement):
            erased[model.__tablename__] += _delete(session, model, model.digest.in_(chunk))
    ids = [incident_id for incident_id, _, _ in incidents]
    for ids_chunk in _chunks(ids):
        erased["audit"] += _delete(session, AuditEntry, AuditEntry.incident_id.in_(ids_chunk))
        _forget_facts(session, ids_chunk)
        erased["incidents"] += _delete_incidents(session, ids_chunk)
    erased["notifications"] += _delete(session, Notification, Notification.id.in_(_unread_rows()))
    audit.record(session, "account_erased", dict(erased), who=who)
    return erased


def _erase_tokens(session: Session, account: Account, erased: Counter[str]) -> set[str]:
    tokens = session.execute(
        select(ApiToken.digest, ApiToken.disabled_at).where(ApiToken.account_id == account.id).with_for_update()
    ).all()
    live = sum(at is None for _, at in tokens)
    if live:
        raise NotErasable(f"{live} of the account's tokens work still: disable them first (r8scan tokens disable)")
    erased["api_tokens"] += _delete(session, ApiToken, ApiToken.account_id == account.id)
    erased["recipients"] += _delete(session, Recipient, Recipient.account_id == account.id)
    erased["accounts"] += _delete(session, Account, Account.id == account.id)
    return {digest for digest, _ in tokens}


def _forget_facts(session: Session, incident_ids: Sequence[uuid.UUID]) -> None:
    """What messages keep of these incidents; an operator's, which may tell of others, is read anew when it is sent."""
    touched = select(NotificationSubject.notification_id).where(NotificationSubject.incident_id.in_(incident_ids))
    session.execute(
        update(Notification)
        .where(Notification.id.in_(touched))
        .values(facts=None)
        .execution_options(synchronize_session=False)
    )


def _delete_incidents(session: Session, ids: Sequence[uuid.UUID]) -> int:
    """With places and subjects; SQLAlchemy's cascades would read each first."""
    if not ids:
        return 0
    _delete(session, NotificationSubject, NotificationSubject.incident_id.in_(ids))
    _delete(session, Exposure, Exposure.incident_id.in_(ids))
    return _delete(session, Incident, Incident.id.in_(ids))


def _unread_rows(before: db_now | None = None) -> Select[uuid.UUID]:
    """Mails that tell of no incident any more; announcements have an end of their own."""
    has_subject = exists().where(NotificationSubject.notification_id == Notification.id)
    statement = select(Notification.id).where(Notification.channel.in_(("email", "operator")), ~has_subject)
    return statement if before is None else statement.where(Notification.created_at < before)


def _delete(session: Session, model: type[Base], *conditions: ColumnElement[bool]) -> int:
    statement = delete(model).where(*conditions).execution_options(synchronize_session=False)
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for start in range(0, len(values), DIGESTS_A_STATEMENT):
        yield values[start : start + DIGESTS_A_STATEMENT]
