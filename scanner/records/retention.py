"""Deletion of old incidents, and erasure of all data of one account."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Text, cast, delete, exists, func, null, select, tuple_, update
from sqlalchemy.orm import Session

from scanner.records import announcements, audit
from scanner.records.announcement_models import Announcement
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import (
    Account,
    ApiToken,
    Base,
    Exposure,
    Incident,
    Notification,
    NotificationSubject,
    Recipient,
    Sighting,
    db_now,
)
from scanner.records.reading_models import ReadObject
from scanner.records.states import Channel, Decision
from scanner.records.usage_models import UsageBaseline, UsageHour

UNFINISHED = (Decision.DISABLING, Decision.HELD)
"""Incidents with these actions are kept, however old they are."""
MAIL_CHANNELS = (Channel.EMAIL, Channel.OPERATOR)
INCIDENTS_PER_TRANSACTION = 500
OTHER_ROWS_PER_TRANSACTION = 5000
VALUES_PER_STATEMENT = 500
MAX_ID_LENGTH = 18
"""The maximum number of decimal digits in an account id, which always fit a 64-bit integer."""
MAX_IDS_NAMED = 5
"""The maximum number of account ids that an error message lists."""

Value = TypeVar("Value")


class NotErasable(Exception):
    """Raised if the account's data cannot be erased now. The message is one line that says why."""


@dataclass(frozen=True, slots=True)
class AccountSelector:
    """The name or the id of an account whose data is erased. The token store assigns the `id`.

    `is_in_our_tables` says whether r8scan's own SQL tables are the token store.
    """

    name: str = ""
    id: str = ""
    is_in_our_tables: bool = True


@dataclass(frozen=True, slots=True)
class _Purged:
    """The number of rows that one transaction deleted."""

    incidents: int
    other_rows: int


def purge_expired(database: Database, *, keep_days: int, transactions: int = 100) -> int:
    """Delete incidents, mails and audit entries older than `keep_days`, and return the number of deleted incidents.

    The age of an incident is the time since its token was last found in a new public place.

    Args:
        transactions: The maximum number of transactions.
    """
    horizon = db_now(-keep_days * 86400)
    total = 0
    for _ in range(transactions):
        with database.write() as session:
            purged = _purge_some(session, horizon)
        total += purged.incidents
        if purged.incidents < INCIDENTS_PER_TRANSACTION and purged.other_rows < OTHER_ROWS_PER_TRANSACTION:
            break
    return total


def _purge_some(session: Session, horizon: db_now) -> _Purged:
    newer_place = exists().where(Exposure.incident_id == Incident.id, Exposure.seen_at > horizon)
    old = select(Incident.id).where(Incident.detected_at < horizon, Incident.action.not_in(UNFINISHED), ~newer_place)
    ids = list(session.execute(old.limit(INCIDENTS_PER_TRANSACTION)).scalars())
    _delete_incidents(session, ids)
    mails = _mails_without_incident(horizon).limit(OTHER_ROWS_PER_TRANSACTION)
    deleted_mails = _delete(session, Notification, Notification.id.in_(mails))
    deleted_entries = audit.purge(session, horizon, limit=OTHER_ROWS_PER_TRANSACTION)
    return _Purged(len(ids), max(deleted_mails, deleted_entries))


def erase_account(database: Database, selector: AccountSelector, *, who: str) -> Counter[str]:
    """Erase all data of the account, record one audit entry, and return the number of erased rows by table.

    Raises:
        NotErasable: The account is unknown or ambiguous, or one of its tokens still works or is being disabled.
    """
    with database.read() as session:
        digests = _plan(session, selector).digests
    # First delete stored results of earlier scans, in separate transactions. If the erasure then fails, it can be
    # repeated.
    forgotten = forget_hits(database, digests)
    with database.write() as session:
        return _erase(session, selector, forgotten, who=who)


def forget_hits(database: Database, digests: Collection[str]) -> Counter[str]:
    """For each read object that contains a token with one of these digests, delete the stored list of its tokens.

    Return the number of changed rows by table.
    """
    forgotten: Counter[str] = Counter()
    for span in _hours(database):
        forgotten[ReadObject.__tablename__] += _forget_hits_within(database, frozenset(digests), span)
    return forgotten


def _hours(database: Database) -> Iterator[Sequence[ColumnElement[bool]]]:
    """For each hour, yield the SQL conditions that select the objects read in this hour."""
    with database.read() as session:
        oldest, newest = session.execute(select(func.min(ReadObject.read_at), func.max(ReadObject.read_at))).one()
    start: datetime | None = oldest
    while start is not None and start <= newest:
        until = start + timedelta(hours=1)
        yield ReadObject.read_at >= start, ReadObject.read_at < until
        start = until


def _forget_hits_within(database: Database, digests: frozenset[str], span: Sequence[ColumnElement[bool]]) -> int:
    keys = ReadObject.__mapper__.primary_key
    has_hits = cast(ReadObject.hits, Text).contains('"digest"')
    with database.read() as session:
        rows = session.execute(select(ReadObject.hits, *keys).where(*span, has_hits)).all()
    found = [tuple(row[1:]) for row in rows if not digests.isdisjoint(hit["digest"] for hit in row[0])]
    for chunk in _chunks(found):
        with database.write() as session:
            session.execute(
                update(ReadObject)
                .where(tuple_(*keys).in_(chunk))
                .values(hits=null())
                .execution_options(synchronize_session=False)
            )
    return len(found)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The data to erase: the account's row, its incidents and the digests of its tokens."""

    account: Account | None
    incident_ids: tuple[uuid.UUID, ...]
    digests: frozenset[str]


def _plan(session: Session, selector: AccountSelector) -> _Plan:
    """Find the data to erase."""
    account = _account(session, selector)
    # With a remote token store, r8scan has no row of the account, and only incidents contain its id.
    of_account = Incident.account_id.in_(_account_ids(session, selector, account))
    incidents = session.execute(select(Incident.id, Incident.digest, Incident.action).where(of_account)).all()
    if account is None and not incidents:
        raise NotErasable("r8scan keeps no data of such an account: pass an account id as --id")
    if any(action in UNFINISHED for _, _, action in incidents):
        raise NotErasable("a token of the account waits to be disabled: settle that first (r8scan status)")
    digests = {digest for _, digest, _ in incidents}
    if account is not None:
        digests |= _disabled_tokens(session, account)
    return _Plan(account, tuple(incident_id for incident_id, _, _ in incidents), frozenset(digests))


def _account(session: Session, selector: AccountSelector) -> Account | None:
    if selector.name:
        return session.execute(select(Account).where(Account.name == selector.name)).scalar_one_or_none()
    may_have_row = selector.is_in_our_tables and selector.id.isdecimal() and len(selector.id) <= MAX_ID_LENGTH
    return session.get(Account, int(selector.id)) if may_have_row else None


def _account_ids(session: Session, selector: AccountSelector, account: Account | None) -> set[str]:
    """Return the ids under which the incidents of the selected account are stored."""
    if selector.id:
        return {selector.id}
    if selector.is_in_our_tables and account is not None:
        return {str(account.id)}
    named = select(Incident.account_id).where(Incident.account_name == selector.name).distinct()
    ids = {account_id for account_id in session.execute(named).scalars() if account_id is not None}
    if selector.is_in_our_tables:
        # Leave out accounts that once had this name and were renamed since.
        existing = select(Account.id).where(Account.id.in_([int(id_) for id_ in ids if id_.isdecimal()]))
        ids -= {str(account_id) for account_id in session.execute(existing).scalars()}
    if len(ids) > 1:
        listed = ", ".join(sorted(ids)[:MAX_IDS_NAMED])
        raise NotErasable(f"{len(ids)} accounts have had this name ({listed}): select one with --id")
    return ids


def _disabled_tokens(session: Session, account: Account) -> set[str]:
    """Lock the account's tokens and return their digests."""
    tokens = session.execute(
        select(ApiToken.digest, ApiToken.disabled_at).where(ApiToken.account_id == account.id).with_for_update()
    ).all()
    live = sum(at is None for _, at in tokens)
    if live:
        raise NotErasable(f"{live} of the account's tokens still work: disable them first (r8scan tokens disable)")
    return {digest for digest, _ in tokens}


def _erase(session: Session, selector: AccountSelector, forgotten: Counter[str], *, who: str) -> Counter[str]:
    plan = _plan(session, selector)
    erased = forgotten.copy()
    if plan.account is not None:
        erased["api_tokens"] += _delete(session, ApiToken, ApiToken.account_id == plan.account.id)
        erased["recipients"] += _delete(session, Recipient, Recipient.account_id == plan.account.id)
        erased["accounts"] += _delete(session, Account, Account.id == plan.account.id)
    for chunk in _chunks(sorted(plan.digests)):
        erased["audit"] += audit.remove(session, AuditEntry.evidence["digest"].as_string().in_(chunk), who=who)
        for model in (Report, UsageHour, UsageBaseline, Sighting, Announcement):
            erased[model.__tablename__] += _delete(session, model, model.digest.in_(chunk))
        erased["notifications"] += _delete_announced(session, chunk)
    for ids_chunk in _chunks(plan.incident_ids):
        erased["audit"] += audit.remove(session, AuditEntry.incident_id.in_(ids_chunk), who=who)
        _forget_facts(session, ids_chunk)
        erased["incidents"] += _delete_incidents(session, ids_chunk)
    erased["notifications"] += _delete(session, Notification, Notification.id.in_(_mails_without_incident()))
    audit.record(session, "account_erased", dict(erased), who=who)
    return erased


def _delete_announced(session: Session, digests: Sequence[str]) -> int:
    """Delete the messages to gateways about these tokens. Return their number."""
    of_digest = Notification.facts["digest"].as_string().in_(digests)
    return _delete(session, Notification, Notification.channel.in_(announcements.CHANNELS), of_digest)


def _forget_facts(session: Session, incident_ids: Sequence[uuid.UUID]) -> None:
    """Delete the data gathered for mails about these incidents."""
    touched = select(NotificationSubject.notification_id).where(NotificationSubject.incident_id.in_(incident_ids))
    session.execute(
        update(Notification)
        .where(Notification.id.in_(touched), Notification.channel.in_(MAIL_CHANNELS))
        .values(facts=None)
        .execution_options(synchronize_session=False)
    )


def _delete_incidents(session: Session, ids: Sequence[uuid.UUID]) -> int:
    """Delete incidents together with their rows in other tables. Return the number of incidents."""
    if not ids:
        return 0
    # Delete the rows here, because SQLAlchemy's cascades would first load every row.
    _delete(session, NotificationSubject, NotificationSubject.incident_id.in_(ids))
    _delete(session, Exposure, Exposure.incident_id.in_(ids))
    return _delete(session, Incident, Incident.id.in_(ids))


def _mails_without_incident(before: db_now | None = None) -> Select[uuid.UUID]:
    """Select the ids of mails, older than `before`, whose incidents were all deleted."""
    has_subject = exists().where(NotificationSubject.notification_id == Notification.id)
    statement = select(Notification.id).where(Notification.channel.in_(MAIL_CHANNELS), ~has_subject)
    return statement if before is None else statement.where(Notification.created_at < before)


def _delete(session: Session, model: type[Base], *conditions: ColumnElement[bool]) -> int:
    statement = delete(model).where(*conditions).execution_options(synchronize_session=False)
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for start in range(0, len(values), VALUES_PER_STATEMENT):
        yield values[start : start + VALUES_PER_STATEMENT]
