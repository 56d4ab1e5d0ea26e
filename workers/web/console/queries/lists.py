"""Database queries for the console's lists, newest first.

`values` are URL parameters: the filter, and `before`, the cursor at which the page begins. Invalid parameters
raise BadFilter.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from scanner.records import audit
from scanner.records.audit_models import AuditEntry
from scanner.records.models import Account, ApiToken, Notification, NotificationSubject, ScanJob
from scanner.records.source_models import Gap
from scanner.records.states import Channel, JobKind, JobState, NotificationState
from workers.web.console.queries.incidents import BadFilter
from workers.web.console.queries.searching import prefix

ROWS = 50
MAX_REASONS = 12
MAX_FAILED_READ = 500
MAX_TERM = 200
MAX_GAPS = 30
SIGN_INS = ("console_signed_in", "console_signed_out")
"""Frequent and unimportant actions. Lists of what people did omit them, because they would hide the decisions."""
TOKEN_CONDITIONS: Mapping[str, ColumnElement[bool]] = {
    "live": ApiToken.disabled_at.is_(None),
    "disabled": ApiToken.disabled_at.is_not(None),
    "protected": ApiToken.protected_at.is_not(None),
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a list. `older` is the cursor of the next page, or empty on the last page."""

    rows: Sequence[T]
    older: str


def job_list(session: Session, values: Mapping[str, str]) -> Listed[ScanJob]:
    """Return a page of jobs. `values` may filter by `state`, `kind`, `source` and `parent` (a job's id)."""
    conditions: list[ColumnElement[bool]] = [*_number_cursor(ScanJob.id, values)]
    if state := values.get("state"):
        conditions.append(ScanJob.state == _member(JobState, "state", state))
    if kind := values.get("kind"):
        conditions.append(ScanJob.kind == _member(JobKind, "kind of jobs", kind))
    if source := _text(values, "source"):
        conditions.append(ScanJob.source == source)
    if parent := values.get("parent"):
        conditions.append(ScanJob.parent_id == _number(parent))
    statement = select(ScanJob).where(*conditions).order_by(ScanJob.id.desc()).limit(ROWS + 1)
    return _by_number(list(session.execute(statement).scalars()))


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A reason why jobs failed.

    Attributes:
        reason: The beginning of the jobs' error message.
        newest: The id of the newest of these jobs.
    """

    reason: str
    jobs: int
    newest: int


def failure_reasons(session: Session) -> list[FailureReason]:
    """Return the commonest reasons why the newest MAX_FAILED_READ failed jobs have failed."""
    newest = (
        select(ScanJob.id, ScanJob.error)
        .where(ScanJob.state == JobState.FAILED)
        .order_by(ScanJob.id.desc())
        .limit(MAX_FAILED_READ)
    )
    found: dict[str, FailureReason] = {}
    for job_id, error in session.execute(newest):
        reason = (error or "no reason was recorded").partition(":")[0][:120]
        before = found.get(reason, FailureReason(reason, 0, job_id))
        found[reason] = replace(before, jobs=before.jobs + 1)
    return sorted(found.values(), key=lambda one: -one.jobs)[:MAX_REASONS]


def children_of(session: Session, job_id: int) -> dict[str, int]:
    """Return the number of jobs that this job has queued, by state."""
    statement = select(ScanJob.state, func.count()).where(ScanJob.parent_id == job_id).group_by(ScanJob.state)
    return {state.value: number for state, number in session.execute(statement)}


def message_list(session: Session, values: Mapping[str, str]) -> Listed[Notification]:
    """Return a page of outgoing messages. `values` may filter by `state`, `channel` and `recipient`."""
    conditions: list[ColumnElement[bool]] = [*_time_cursor(values)]
    if state := values.get("state"):
        conditions.append(Notification.state == _member(NotificationState, "state", state))
    if channel := values.get("channel"):
        conditions.append(Notification.channel == _member(Channel, "channel", channel))
    if recipient := _text(values, "recipient"):
        conditions.append(Notification.recipient == recipient)
    statement = (
        select(Notification)
        .where(*conditions)
        .order_by(Notification.created_at.desc(), Notification.id.desc())
        .limit(ROWS + 1)
    )
    found = list(session.execute(statement).scalars())
    last = found[ROWS - 1] if len(found) > ROWS else None
    return Listed(found[:ROWS], f"{last.created_at.isoformat()}_{last.id}" if last else "")


@dataclass(frozen=True, slots=True)
class ReportedIncidents:
    """The incidents that a message is about: the first one's id, and their number."""

    first: uuid.UUID
    number: int


def incidents_reported(session: Session, messages: Sequence[Notification]) -> dict[uuid.UUID, ReportedIncidents]:
    """Return the incidents that each message is about, by the message's id."""
    ids = [message.id for message in messages]
    statement = (
        select(NotificationSubject.notification_id, func.min(NotificationSubject.id), func.count())
        .where(NotificationSubject.notification_id.in_(ids))
        .group_by(NotificationSubject.notification_id)
    )
    numbers = {first_id: number for _, first_id, number in session.execute(statement)}
    columns = (NotificationSubject.id, NotificationSubject.notification_id, NotificationSubject.incident_id)
    firsts = select(*columns).where(NotificationSubject.id.in_(numbers))
    return {
        message_id: ReportedIncidents(incident_id, numbers[own_id])
        for own_id, message_id, incident_id in session.execute(firsts)
    }


def audit_list(session: Session, values: Mapping[str, str]) -> Listed[AuditEntry]:
    """Return a page of audit entries. `values` may filter by `who`, `what` and `incident`.

    If `people` is set, entries of the service are omitted. Sign-ins are then also omitted, unless `sign_ins` is set.
    """
    conditions: list[ColumnElement[bool]] = [*_number_cursor(AuditEntry.id, values)]
    if who := _text(values, "who"):
        conditions.append(AuditEntry.who == who)
    elif values.get("people"):
        conditions.append(AuditEntry.who != audit.SYSTEM)
        if not values.get("sign_ins") and not values.get("what"):
            conditions.append(AuditEntry.what.not_in(SIGN_INS))
    if what := _text(values, "what"):
        conditions.append(AuditEntry.what == what.replace(" ", "_"))
    if incident := values.get("incident"):
        conditions.append(AuditEntry.incident_id == _uuid(incident))
    statement = select(AuditEntry).where(*conditions).order_by(AuditEntry.id.desc()).limit(ROWS + 1)
    return _by_number(list(session.execute(statement).scalars()))


def token_list(session: Session, values: Mapping[str, str]) -> Listed[ApiToken]:
    """Return a page of tokens in r8scan's own token store. For `values`, see `token_conditions`."""
    statement = select(ApiToken).options(joinedload(ApiToken.account)).order_by(ApiToken.id.desc()).limit(ROWS + 1)
    conditions = [*_number_cursor(ApiToken.id, values), *token_conditions(values)]
    return _by_number(list(session.execute(statement.where(*conditions)).scalars()))


def token_conditions(values: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Return the SQL conditions for a filter on tokens.

    Args:
        values: `state` (a key of TOKEN_CONDITIONS), `account` (a name), and `q`: a token's digest, or the beginning of
            its hint or name.

    Raises:
        BadFilter: A value is not allowed.
    """
    conditions: list[ColumnElement[bool]] = []
    if wanted := values.get("state", ""):
        if wanted not in TOKEN_CONDITIONS:
            raise BadFilter(f"there is no state of tokens {wanted}")
        conditions.append(TOKEN_CONDITIONS[wanted])
    if account := _text(values, "account"):
        conditions.append(ApiToken.account_id.in_(select(Account.id).where(Account.name == account)))
    if term := _text(values, "q"):
        is_digest = len(term) == 64 and set(term.lower()) <= set("0123456789abcdef")
        conditions.append(
            ApiToken.digest == term.lower()
            if is_digest
            else or_(ApiToken.hint.like(prefix(term), escape="\\"), ApiToken.name.like(prefix(term), escape="\\"))
        )
    return conditions


def account_list(session: Session, values: Mapping[str, str]) -> Listed[Account]:
    """Return a page of the accounts whose names begin with the parameter `q`."""
    conditions: list[ColumnElement[bool]] = [*_number_cursor(Account.id, values)]
    if term := _text(values, "q"):
        conditions.append(Account.name.like(prefix(term), escape="\\"))
    statement = select(Account).options(selectinload(Account.recipients)).where(*conditions)
    return _by_number(list(session.execute(statement.order_by(Account.id.desc()).limit(ROWS + 1)).scalars()))


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """The number of an account's tokens, and how many of them are disabled."""

    all: int = 0
    disabled: int = 0


def tokens_of(session: Session, accounts: Sequence[Account]) -> dict[int, TokenCounts]:
    """Return the numbers of tokens of each account, by its id. Accounts without tokens are omitted."""
    statement = (
        select(ApiToken.account_id, func.count(), func.count(ApiToken.disabled_at))
        .where(ApiToken.account_id.in_([account.id for account in accounts]))
        .group_by(ApiToken.account_id)
    )
    return {
        account_id: TokenCounts(number, disabled)
        for account_id, number, disabled in session.execute(statement)
        if account_id is not None
    }


def newest_gaps(session: Session) -> list[Gap]:
    """Return the newest gaps (periods in which events were missed), at most MAX_GAPS."""
    return list(session.execute(select(Gap).order_by(Gap.id.desc()).limit(MAX_GAPS)).scalars())


def _by_number(found: Sequence[Any]) -> Listed[Any]:
    return Listed(found[:ROWS], str(found[ROWS - 1].id) if len(found) > ROWS else "")


def _number_cursor(column: Any, values: Mapping[str, str]) -> list[ColumnElement[bool]]:
    before = values.get("before", "")
    return [column < _number(before)] if before else []


def _time_cursor(values: Mapping[str, str]) -> list[ColumnElement[bool]]:
    before = values.get("before", "")
    if not before:
        return []
    at_text, _, id_text = before.partition("_")
    own_id = _uuid(id_text)
    try:
        at = datetime.fromisoformat(at_text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadFilter("the cursor of the list is not valid: begin with its first page")
    is_older = or_(Notification.created_at < at, and_(Notification.created_at == at, Notification.id < own_id))
    return [Notification.created_at <= at, is_older]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise BadFilter("a number in the address is not valid: begin with the list's first page")
    return int(text)


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise BadFilter("an id is not understood: take it from the page of an incident") from None


def _member(enum: type[StrEnum], name: str, value: str) -> Any:
    try:
        return enum(value)
    except ValueError:
        raise BadFilter(f"there is no {name} {value[:MAX_TERM]}") from None


def _text(values: Mapping[str, str], name: str) -> str:
    value = values.get(name, "").strip()
    if len(value) > MAX_TERM:
        raise BadFilter(f"{name} is longer than {MAX_TERM} characters")
    return value
