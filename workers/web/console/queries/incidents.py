"""Incidents by filter: conditions, pages by key, counts up to a limit, and what a row of the list shows."""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session

from scanner.records.models import Exposure, Incident, Notification, NotificationSubject
from scanner.records.states import Cause, Channel, Decision, IncidentState, NotificationState

PAGE_ROWS = 50
MAX_COUNTED = 1000
"""Up to which a list says how many there are."""
MAX_BULK = 10_000
"""Incidents that one bulk action may change."""
ID_CHUNK = 200
MAX_TERM = 200
MAIL_CHANNELS = (Channel.EMAIL, Channel.OPERATOR)
OWNER_CHANNEL = Channel.EMAIL
NO_MAIL = "none"
_HEX = re.compile(r"[0-9a-f-]{4,36}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WAITING = (NotificationState.PENDING, NotificationState.FROZEN)
MAIL_STATES: Mapping[str, tuple[NotificationState, ...]] = {
    "waiting": _WAITING,
    "sent": (NotificationState.SENT,),
    "failed": (NotificationState.FAILED,),
}


class BadFilter(ValueError):
    """A filter that cannot be understood. It is refused, never left out: a wider filter could act on more."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which incidents. Empty fields do not restrict. `since` and `until` are days; `until` is included."""

    state: str = ""
    action: str = ""
    cause: str = ""
    account: str = ""
    repository: str = ""
    source: str = ""
    mail: str = ""
    since: str = ""
    until: str = ""
    q: str = ""

    @classmethod
    def from_query(cls, values: Mapping[str, str]) -> Filter:
        """Return the filter of an address or a form. Raises BadFilter."""
        given = {field.name: values.get(field.name, "").strip() for field in fields(cls)}
        if too_long := next((name for name, value in given.items() if len(value) > MAX_TERM), None):
            raise BadFilter(f"{too_long} is longer than {MAX_TERM} characters")
        own = cls(**given)
        for name, kind in (("state", IncidentState), ("action", Decision), ("cause", Cause)):
            if (value := given[name]) and value not in tuple(kind):
                raise BadFilter(f"there is no {name} {value}")
        if own.mail and own.mail not in (*MAIL_STATES, NO_MAIL):
            raise BadFilter(f"there is no state of mails {own.mail}")
        for name in ("since", "until"):
            _day(given[name], name)
        return own

    def to_query(self) -> dict[str, str]:
        """Return the fields that restrict, for an address."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


@dataclass(frozen=True, slots=True)
class Row:
    """An incident as a list shows it. `seconds`: from the first publication known until it was disabled."""

    incident: Incident
    places: int
    repository: str
    where: str
    seconds: float | None
    mails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list, newest first. `older`: the cursor of what follows, empty at the end."""

    rows: list[Row]
    older: str


def conditions(own: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions that a filter means."""
    found: list[ColumnElement[bool]] = []
    for column, value in ((Incident.state, own.state), (Incident.action, own.action), (Incident.cause, own.cause)):
        if value:
            found.append(column == value)
    if own.account:
        found.append(or_(Incident.account_name == own.account, Incident.account_id == own.account))
    if own.repository:
        found.append(_stands_in(own.repository))
    if own.source:
        found.append(Incident.id.in_(select(Exposure.incident_id).where(Exposure.source == own.source)))
    if own.mail:
        found.append(_mail(own.mail))
    if since := _day(own.since, "since"):
        found.append(Incident.detected_at >= since)
    if until := _day(own.until, "until"):
        found.append(Incident.detected_at < until + timedelta(days=1))
    if own.q:
        found.append(_search(own.q))
    return found


def page(session: Session, own: Filter, before: str = "", *, rows: int = PAGE_ROWS) -> Page:
    """Return the newest incidents of the filter, or those that follow a cursor. Raises BadFilter for a bad cursor."""
    statement = select(Incident).where(*conditions(own), *_before(before))
    statement = statement.order_by(Incident.detected_at.desc(), Incident.id.desc()).limit(rows + 1)
    found = list(session.execute(statement).scalars())
    last = found[rows - 1] if len(found) > rows else None
    older = f"{last.detected_at.isoformat()}_{last.id}" if last else ""
    return Page(rows_of(session, found[:rows]), older)


def count(session: Session, own: Filter, limit: int = MAX_COUNTED) -> int:
    """Return how many incidents the filter has; `limit` + 1 where there are more than `limit`."""
    inner = select(Incident.id).where(*conditions(own)).limit(limit + 1).subquery()
    return int(session.execute(select(func.count()).select_from(inner)).scalar_one())


def ids(session: Session, own: Filter, until: datetime, limit: int = MAX_BULK) -> list[uuid.UUID]:
    """Return the incidents of the filter that were detected by a moment, newest first."""
    statement = select(Incident.id).where(*conditions(own), Incident.detected_at <= until)
    statement = statement.order_by(Incident.detected_at.desc(), Incident.id.desc()).limit(limit)
    return list(session.execute(statement).scalars())


def rows_of(session: Session, incidents: Sequence[Incident]) -> list[Row]:
    """Return incidents as rows of a list, in their order."""
    places = _places(session, [incident.id for incident in incidents])
    mails = _mail_states(session, [incident.id for incident in incidents])
    found = []
    for incident in incidents:
        number, published, first = places.get(incident.id, (0, None, None))
        seconds = None
        if incident.action == Decision.DISABLED and incident.disabled_at and published:
            seconds = max((incident.disabled_at - published).total_seconds(), 0.0)
        where = (first.path or first.kind) if first else ""
        repository = (first.repository or "") if first else ""
        found.append(Row(incident, number, repository, where, seconds, tuple(sorted(mails[incident.id]))))
    return found


def chunks(values: Sequence[uuid.UUID], size: int = ID_CHUNK) -> Iterator[Sequence[uuid.UUID]]:
    """Yield the values a few at a time."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _places(
    session: Session, wanted: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[int, datetime | None, Exposure | None]]:
    """Return for each incident the number of its places, the earliest publication before its end, the first place."""
    # Where else it stands is found later, often in places that are much older: they delayed nothing.
    counts = case((Exposure.seen_at <= Incident.disabled_at, Exposure.published_at))
    statement = (
        select(Exposure.incident_id, func.count(), func.min(counts), func.min(Exposure.id))
        .join(Incident, Incident.id == Exposure.incident_id)
        .where(Exposure.incident_id.in_(wanted))
        .group_by(Exposure.incident_id)
    )
    found = session.execute(statement).all()
    firsts = select(Exposure).where(Exposure.id.in_([row[3] for row in found]))
    by_id = {exposure.id: exposure for exposure in session.execute(firsts).scalars()}
    return {row[0]: (row[1], row[2], by_id.get(row[3])) for row in found}


def _mail_states(session: Session, wanted: Sequence[uuid.UUID]) -> dict[uuid.UUID, set[str]]:
    states: dict[uuid.UUID, set[str]] = defaultdict(set)
    statement = (
        select(NotificationSubject.incident_id, Notification.state)
        .join(Notification)
        .where(NotificationSubject.incident_id.in_(wanted), Notification.channel == OWNER_CHANNEL)
        .distinct()
    )
    for incident_id, state in session.execute(statement):
        states[incident_id].add("waiting" if state in _WAITING else state.value)
    return states


def _stands_in(repository: str) -> ColumnElement[bool]:
    return Incident.id.in_(select(Exposure.incident_id).where(Exposure.repository == repository))


def _mail(state: str) -> ColumnElement[bool]:
    if state == NO_MAIL:
        told = select(NotificationSubject.id).where(
            NotificationSubject.incident_id == Incident.id, NotificationSubject.channel == OWNER_CHANNEL
        )
        return ~told.exists()
    subjects = (
        select(NotificationSubject.incident_id)
        .join(Notification)
        .where(Notification.state.in_(MAIL_STATES[state]), Notification.channel == OWNER_CHANNEL)
    )
    return Incident.id.in_(subjects)


def _search(term: str) -> ColumnElement[bool]:
    """Return what a word in the search field may mean: each meaning has an index, and none reads all incidents."""
    low = term.lower()
    if _DIGEST.fullmatch(low):
        return Incident.digest == low
    if term.startswith("r8_"):
        return Incident.hint.like(prefix(term), escape="\\")
    if "/" in term:
        return _stands_in(term)
    meanings: list[ColumnElement[bool]] = [
        Incident.account_name.like(prefix(term), escape="\\"),
        Incident.token_name.like(prefix(term), escape="\\"),
        Incident.account_id == term,
    ]
    if "@" in term:
        told = select(NotificationSubject.incident_id).join(Notification).where(Notification.recipient == term)
        meanings.append(Incident.id.in_(told))
    digits = low.replace("-", "")
    if _HEX.fullmatch(low) and 4 <= len(digits) <= 32:
        first, last = uuid.UUID(digits.ljust(32, "0")), uuid.UUID(digits.ljust(32, "f"))
        meanings.append(Incident.id.between(first, last))
    return or_(*meanings)


def prefix(term: str) -> str:
    return term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _before(cursor: str) -> list[ColumnElement[bool]]:
    if not cursor:
        return []
    at_text, _, id_text = cursor.partition("_")
    try:
        at, own_id = datetime.fromisoformat(at_text), uuid.UUID(id_text)
    except ValueError:
        raise BadFilter("the place in the list is not understood: begin with its first page") from None
    if at.tzinfo is None:
        raise BadFilter("the place in the list has no time zone: begin with its first page")
    # The first condition alone lets the index begin at the right place.
    return [
        Incident.detected_at <= at,
        or_(Incident.detected_at < at, and_(Incident.detected_at == at, Incident.id < own_id)),
    ]


def _day(value: str, name: str) -> datetime | None:
    if not value:
        return None
    try:
        day = date.fromisoformat(value)
        return datetime(max(day.year, 1970), day.month, day.day, tzinfo=UTC)
    except ValueError:
        raise BadFilter(f"{name} must be a day, such as 2026-11-01") from None
