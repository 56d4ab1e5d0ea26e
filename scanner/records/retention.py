"""How long incidents are kept, and how the data of one account is erased. Deletes rows, decides nothing else."""

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
from scanner.records.compromise_models import Report, UsageBaseline, UsageHour
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
from scanner.records.source_models import ReadObject
from scanner.records.states import Decision

UNDER_WAY = (Decision.DISABLING, Decision.HELD)
"""Actions whose incidents are not over, however old."""
MAILS = ("email", "operator")
ROWS_A_TRANSACTION = 500
OTHER_ROWS_A_TRANSACTION = 5000
DIGESTS_A_STATEMENT = 500
MAX_ID_LENGTH = 18
MAX_IDS_NAMED = 5

Value = TypeVar("Value")


class NotErasable(Exception):
    """The account's data cannot be erased now; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which account: by its `name`, or by the `id` that the token store gives it. `is_ours`: that is our tables."""

    name: str = ""
    id: str = ""
    is_ours: bool = True


def purge_expired(database: Database, *, keep_days: int, transactions: int = 100) -> int:
    """Delete incidents, mails and audit entries that are older; how many incidents.

    An incident counts as old when it was detected, and its newest place seen, longer ago. In small transactions, at
    most `transactions` a run: the next run goes on.
    """
    horizon = db_now(-keep_days * 86400)
    total = 0
    for _ in range(transactions):
        with database.write() as session:
            incidents, others = _forget_some(session, horizon)
        total += incidents
        if incidents < ROWS_A_TRANSACTION and others < OTHER_ROWS_A_TRANSACTION:
            break
    return total


def _forget_some(session: Session, horizon: db_now) -> tuple[int, int]:
    """A bounded number of each; how many incidents, and how many rows of the table that had most of the others."""
    newer_place = exists().where(Exposure.incident_id == Incident.id, Exposure.seen_at > horizon)
    old = select(Incident.id).where(Incident.detected_at < horizon, Incident.action.not_in(UNDER_WAY), ~newer_place)
    ids = list(session.execute(old.limit(ROWS_A_TRANSACTION)).scalars())
    _delete_incidents(session, ids)
    mails = _unread_rows(horizon).limit(OTHER_ROWS_A_TRANSACTION)
    others = (
        _delete(session, Notification, Notification.id.in_(mails)),
        audit.purge(session, horizon, limit=OTHER_ROWS_A_TRANSACTION),
    )
    return len(ids), max(others)


def erase_account(database: Database, wanted: Wanted, *, who: str) -> Counter[str]:
    """Erase all that is kept of the account; rows by table. NotErasable.

    What stays is one audit entry with counts. Tokens in our tables that live are a reason to refuse: their rows are
    what lets the vendor's API accept them.
    """
    with database.read() as session:
        digests = _plan(session, wanted).digests
    # First and in transactions of its own: it reads whole tables, and done twice it does no harm.
    forgotten = forget_hits(database, digests)
    with database.write() as session:
        return _erase(session, wanted, forgotten, who=who)


def forget_hits(database: Database, digests: Collection[str]) -> Counter[str]:
    """Forget what was read to the end and held one of these digests: it is read again where it is met again."""
    forgotten: Counter[str] = Counter()
    for span in _hours(database):
        forgotten[ReadObject.__tablename__] += _forget_hits_within(database, frozenset(digests), span)
    return forgotten


def _hours(database: Database) -> Iterator[Sequence[ColumnElement[bool]]]:
    """The table by time: that is how rows lie on the disk, and each statement reads what an hour has brought."""
    with database.read() as session:
        oldest, newest = session.execute(select(func.min(ReadObject.read_at), func.max(ReadObject.read_at))).one()
    start: datetime | None = oldest
    while start is not None and start <= newest:
        until = start + timedelta(hours=1)
        yield ReadObject.read_at >= start, ReadObject.read_at < until
        start = until


def _forget_hits_within(database: Database, wanted: frozenset[str], span: Sequence[ColumnElement[bool]]) -> int:
    keys = ReadObject.__mapper__.primary_key
    has_hits = cast(ReadObject.hits, Text).contains('"digest"')
    with database.read() as session:
        rows = session.execute(select(ReadObject.hits, *keys).where(*span, has_hits)).all()
    found = [tuple(row[1:]) for row in rows if not wanted.isdisjoint(hit["digest"] for hit in row[0])]
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
    """What an account's data is: its row, its incidents, the digests of its tokens."""

    account: Account | None
    incident_ids: tuple[uuid.UUID, ...]
    digests: frozenset[str]


def _plan(session: Session, wanted: Wanted) -> _Plan:
    """NotErasable."""
    account = _account(session, wanted)
    # Where the tokens are in a store that is not ours, only incidents know the account.
    own = Incident.account_id.in_(_account_ids(session, wanted, account))
    incidents = session.execute(select(Incident.id, Incident.digest, Incident.action).where(own)).all()
    if account is None and not incidents:
        raise NotErasable("nothing is kept of such an account: an id is given as --id")
    if any(action in UNDER_WAY for _, _, action in incidents):
        raise NotErasable("a token of the account waits to be disabled: settle that first (r8scan status)")
    digests = {digest for _, digest, _ in incidents}
    if account is not None:
        digests |= _dead_tokens(session, account)
    return _Plan(account, tuple(incident_id for incident_id, _, _ in incidents), frozenset(digests))


def _account(session: Session, wanted: Wanted) -> Account | None:
    if wanted.name:
        return session.execute(select(Account).where(Account.name == wanted.name)).scalar_one_or_none()
    is_one_of_ours = wanted.is_ours and wanted.id.isdecimal() and len(wanted.id) <= MAX_ID_LENGTH
    return session.get(Account, int(wanted.id)) if is_one_of_ours else None


def _account_ids(session: Session, wanted: Wanted, account: Account | None) -> set[str]:
    """By which ids incidents know the account. NotErasable when a name is that of several.

    An incident keeps the name of its day: in our tables, where names are unique, it says nothing against the id.
    """
    if wanted.id:
        return {wanted.id}
    if wanted.is_ours and account is not None:
        return {str(account.id)}
    named = select(Incident.account_id).where(Incident.account_name == wanted.name).distinct()
    ids = {found for found in session.execute(named).scalars() if found is not None}
    if wanted.is_ours:
        others = select(Account.id).where(Account.id.in_([int(found) for found in ids if found.isdecimal()]))
        ids -= {str(found) for found in session.execute(others).scalars()}
    if len(ids) > 1:
        listed = ", ".join(sorted(ids)[:MAX_IDS_NAMED])
        raise NotErasable(f"{len(ids)} accounts have had this name ({listed}): say which, by --id")
    return ids


def _dead_tokens(session: Session, account: Account) -> set[str]:
    """The digests of the account's tokens, locked. NotErasable while one of them works."""
    tokens = session.execute(
        select(ApiToken.digest, ApiToken.disabled_at).where(ApiToken.account_id == account.id).with_for_update()
    ).all()
    live = sum(at is None for _, at in tokens)
    if live:
        raise NotErasable(f"{live} of the account's tokens work still: disable them first (r8scan tokens disable)")
    return {digest for digest, _ in tokens}


def _erase(session: Session, wanted: Wanted, forgotten: Counter[str], *, who: str) -> Counter[str]:
    plan = _plan(session, wanted)
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
    erased["notifications"] += _delete(session, Notification, Notification.id.in_(_unread_rows()))
    audit.record(session, "account_erased", dict(erased), who=who)
    return erased


def _delete_announced(session: Session, digests: Sequence[str]) -> int:
    """Rows for gateways, sent or not: each tells of one token, some of no incident, so nothing else names them."""
    told = Notification.facts["digest"].as_string().in_(digests)
    return _delete(session, Notification, Notification.channel.in_(announcements.CHANNELS), told)


def _forget_facts(session: Session, incident_ids: Sequence[uuid.UUID]) -> None:
    """What mails keep of these incidents; an operator's, which may tell of others, is read anew when it is sent."""
    touched = select(NotificationSubject.notification_id).where(NotificationSubject.incident_id.in_(incident_ids))
    session.execute(
        update(Notification)
        .where(Notification.id.in_(touched), Notification.channel.in_(MAILS))
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
    statement = select(Notification.id).where(Notification.channel.in_(MAILS), ~has_subject)
    return statement if before is None else statement.where(Notification.created_at < before)


def _delete(session: Session, model: type[Base], *conditions: ColumnElement[bool]) -> int:
    statement = delete(model).where(*conditions).execution_options(synchronize_session=False)
    return int(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for start in range(0, len(values), DIGESTS_A_STATEMENT):
        yield values[start : start + DIGESTS_A_STATEMENT]
