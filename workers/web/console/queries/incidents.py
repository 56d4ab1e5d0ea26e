"""Database queries for the incidents that match a filter."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from scanner.records.canaries import is_no_canary, of_planted
from scanner.records.models import MAX_REPOSITORY_KEY, Exposure, Incident, NotificationSubject
from scanner.records.states import Cause, Channel, Decision, IncidentState
from workers.web.console.queries.incident_rows import MAX_PLACES_COUNTED, OWNER_CHANNEL, Row, rows_of
from workers.web.console.queries.searching import is_rare, is_repository, of_account, search

PAGE_ROWS = 50
MAX_COUNTED = 1000
"""The maximum number of incidents to count for a list."""
MAX_COUNTED_BY_LOOKUP = 100
"""The limit that replaces `MAX_COUNTED` for slow filters, which use several tables."""
MAX_BULK = 10_000
"""The maximum number of incidents that one bulk action changes."""
ID_CHUNK = 200
MAX_TERM = 200
MAIL_CHANNELS = (Channel.EMAIL, Channel.OPERATOR)
NO_MAIL = "none"
MAIL_STATES = ("waiting", "sent", "failed")
GROUPS: Mapping[str, tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]] = {
    "repository": (Exposure.repository, Exposure.incident_id),
    "account": (Incident.account_name, Incident.id),
    "source": (Exposure.source, Exposure.incident_id),
    "action": (Incident.action, Incident.id),
}
"""For each property by which incidents can be counted: its column, and the incident's id in the same table."""


class BadFilter(ValueError):
    """Raised if a filter has an invalid value."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on incidents. An incident must meet all of them. An empty field means no condition.

    Attributes:
        since: The first day of detection, as YYYY-MM-DD in UTC.
        until: The last day of detection, as YYYY-MM-DD in UTC.
        q: A search term.
    """

    state: str = ""
    action: str = ""
    cause: str = ""
    account: str = ""
    repository: str = ""
    source: str = ""
    mail: str = ""
    since: str = ""
    until: str = ""
    assignee: str = ""
    q: str = ""

    @classmethod
    def from_query(cls, values: Mapping[str, str]) -> Filter:
        """Return the filter for the parameters of a URL or the fields of a form.

        Raises:
            BadFilter: A value is not allowed.
        """
        given = {field.name: values.get(field.name, "").strip() for field in fields(cls)}
        if too_long := next((name for name, value in given.items() if len(value) > MAX_TERM), None):
            raise BadFilter(f"{too_long} is longer than {MAX_TERM} characters")
        criteria = cls(**given)
        for name, kind in (("state", IncidentState), ("action", Decision), ("cause", Cause)):
            if (value := given[name]) and value not in tuple(kind):
                raise BadFilter(f"there is no {name} {value}")
        if criteria.mail and criteria.mail not in (*MAIL_STATES, NO_MAIL):
            raise BadFilter(f"there is no state of mails {criteria.mail}")
        for name in ("since", "until"):
            _day(given[name], name)
        return criteria

    def to_query(self) -> dict[str, str]:
        """Return the non-empty fields as parameters of a URL."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list of incidents, newest first.

    Attributes:
        older: The cursor of the next page. Empty on the last page.
        total: The number of incidents on all pages, counted up to a limit.
    """

    rows: list[Row]
    older: str
    total: int


@dataclass(frozen=True, slots=True)
class _Keys:
    """The columns by which a query sorts incidents: detection time and id."""

    # Other tables contain copies of these columns, so that they can have an index in the order of the list.

    detected_at: ColumnElement[Any] | InstrumentedAttribute[Any]
    id: ColumnElement[Any] | InstrumentedAttribute[Any]
    is_copy: bool = False


_OF_INCIDENTS = _Keys(Incident.detected_at, Incident.id)


def page(
    session: Session,
    criteria: Filter,
    before: str = "",
    *,
    rows: int = PAGE_ROWS,
    counted: int = 0,
    places: int = MAX_PLACES_COUNTED,
) -> Page:
    """Return one page of the incidents that match the filter.

    Args:
        before: `Page.older` of the previous page, or an empty string for the first page.
        rows: The maximum number of incidents on the page.
        counted: The maximum number of matching incidents to count.
        places: The maximum number of places to count for each incident.

    Raises:
        BadFilter: The cursor is malformed.
    """
    # On the first page, this query also counts the matching incidents.
    keys = session.execute(
        _keys_of(session, criteria, before=before).limit(1 + max(rows, 0 if before else counted))
    ).all()
    total = count(session, criteria, counted) if before and counted else len(keys)
    wanted = [key[1] for key in keys[:rows]]
    shown = select(Incident).where(Incident.id.in_(wanted), *_no_canaries(criteria))
    by_id = {one.id: one for one in session.execute(shown).scalars()}
    older = f"{keys[rows - 1][0].isoformat()}_{keys[rows - 1][1]}" if len(keys) > rows else ""
    return Page(rows_of(session, [by_id[one] for one in wanted if one in by_id], places), older, total)


def most_counted(criteria: Filter) -> int:
    """Return the maximum number of incidents to count for this filter."""
    is_search = bool(criteria.q) and not is_repository(criteria.q)
    is_looked_up = bool(_direct_conditions(criteria)) and bool(_looked_up(criteria, _OF_INCIDENTS))
    return MAX_COUNTED_BY_LOOKUP if is_search or is_looked_up else MAX_COUNTED


def count(session: Session, criteria: Filter, limit: int = MAX_COUNTED) -> int:
    """Return the number of matching incidents, at most `limit` + 1."""
    inner = _keys_of(session, criteria).limit(limit + 1).subquery()
    return int(session.execute(select(func.count()).select_from(inner)).scalar_one())


def commonest(session: Session, criteria: Filter, column: str, limit: int) -> list[tuple[str | None, int]]:
    """Return the commonest values of a column among the matching incidents, each with its number of incidents.

    Args:
        column: The name of the column, which must be a key of GROUPS.
        limit: The maximum number of values.
    """
    wanted = _keys_of(session, criteria).order_by(None).subquery()
    value, incident_id = GROUPS[column]
    number = func.count(incident_id.distinct())
    statement = (
        select(value, number)
        .where(incident_id.in_(select(wanted.c[1])))
        .group_by(value)
        .order_by(number.desc(), value)
        .limit(limit)
    )
    return [(None if row[0] is None else str(row[0]), row[1]) for row in session.execute(statement)]


def ids(session: Session, criteria: Filter, until: datetime, limit: int = MAX_BULK) -> list[uuid.UUID]:
    """Return the ids of the newest matching incidents detected up to the time `until`, at most `limit`."""
    return [row[1] for row in session.execute(_keys_of(session, criteria, until=until).limit(limit))]


def _keys_of(session: Session, criteria: Filter, *, before: str = "", until: datetime | None = None) -> Select[Any]:
    """Return a SELECT statement for the detection time and id of matching incidents, newest first."""
    repository = criteria.repository or (criteria.q if is_repository(criteria.q) else "")
    direct = _direct_conditions(criteria)
    keys = _OF_INCIDENTS
    driver: list[ColumnElement[bool]] = []
    if any(is_rare(session, one) for one in _names(criteria)):
        # Few incidents match. OFFSET makes the database search with an index first, and sort afterwards.
        rare = select(Incident.detected_at, Incident.id).where(*direct)
        rows = rare.order_by(Incident.detected_at.desc(), Incident.id.desc()).offset(0).subquery()
        keys, direct = _Keys(rows.c.detected_at, rows.c.id), []
    elif not direct:
        # Start with one condition whose index has the list's order, so that the database need not sort.
        if repository:
            keys = _Keys(Exposure.detected_at, Exposure.incident_id, is_copy=True)
            driver = _is_in(Exposure, repository)
            criteria = replace(criteria, repository="") if criteria.repository else replace(criteria, q="")
        elif criteria.mail:
            keys = _Keys(NotificationSubject.detected_at, NotificationSubject.incident_id, is_copy=True)
            driver = _has_mail(NotificationSubject, criteria.mail)
            criteria = replace(criteria, mail="")
        elif criteria.source:
            keys = _Keys(Exposure.detected_at, Exposure.incident_id, is_copy=True)
            driver = [Exposure.source == criteria.source]
            criteria = replace(criteria, source="")
    statement = select(keys.detected_at, keys.id).where(*driver, *direct, *_looked_up(criteria, keys))
    if criteria.cause != Cause.CANARY:
        statement = statement.where(keys.id.not_in(of_planted()))
    if since := _day(criteria.since, "since"):
        statement = statement.where(keys.detected_at >= since)
    if last := _day(criteria.until, "until"):
        statement = statement.where(keys.detected_at < last + timedelta(days=1))
    if until is not None:
        statement = statement.where(keys.detected_at <= until)
    statement = statement.where(*_before(before, keys)).order_by(keys.detected_at.desc(), keys.id.desc())
    return statement.distinct() if keys.is_copy else statement


def _no_canaries(criteria: Filter) -> list[ColumnElement[bool]]:
    """Return the condition that excludes canaries (test tokens), unless the filter asks for them."""
    return [] if criteria.cause == Cause.CANARY else [is_no_canary()]


def _direct_conditions(criteria: Filter) -> list[ColumnElement[bool]]:
    """Return the filter's conditions on the table of incidents."""
    found: list[ColumnElement[bool]] = []
    for column, value in (
        (Incident.state, criteria.state),
        (Incident.action, criteria.action),
        (Incident.cause, criteria.cause),
    ):
        if value:
            found.append(column == value)
    if criteria.assignee:
        found.append(Incident.assignee == criteria.assignee)
    if criteria.mail == NO_MAIL:
        found.append(~Incident.has_owner_mail)
    return [*found, *(or_(*one) for one in _names(criteria))]


def _names(criteria: Filter) -> list[list[ColumnElement[bool]]]:
    """Return the filter's conditions on names. The conditions in an inner list are alternatives."""
    account = [of_account(criteria.account)] if criteria.account else []
    return [*account, search(criteria.q)] if criteria.q and not is_repository(criteria.q) else account


def _looked_up(criteria: Filter, keys: _Keys) -> list[ColumnElement[bool]]:
    """Return the filter's conditions on other tables."""
    found: list[ColumnElement[bool]] = []
    for repository in {criteria.repository, criteria.q if is_repository(criteria.q) else ""} - {""}:
        place = aliased(Exposure)
        found.append(exists().where(place.incident_id == keys.id, *_is_in(place, repository)))
    if criteria.source:
        place = aliased(Exposure)
        found.append(exists().where(place.incident_id == keys.id, place.source == criteria.source))
    if criteria.mail and criteria.mail != NO_MAIL:
        subject = aliased(NotificationSubject)
        found.append(exists().where(subject.incident_id == keys.id, *_has_mail(subject, criteria.mail)))
    return found


def _is_in(place: type[Exposure], repository: str) -> list[ColumnElement[bool]]:
    key = place.repository_key == repository[:MAX_REPOSITORY_KEY]
    # The column `repository_key` contains only the beginning of a long name, so also compare the name.
    return [key] if len(repository) < MAX_REPOSITORY_KEY else [key, place.repository == repository]


def _has_mail(subject: type[NotificationSubject], state: str) -> list[ColumnElement[bool]]:
    return [subject.channel == OWNER_CHANNEL, subject.mail_state == state]


def chunks(values: Sequence[uuid.UUID], size: int = ID_CHUNK) -> Iterator[Sequence[uuid.UUID]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _before(cursor: str, keys: _Keys) -> list[ColumnElement[bool]]:
    if not cursor:
        return []
    at_text, _, id_text = cursor.partition("_")
    try:
        at, own_id = datetime.fromisoformat(at_text), uuid.UUID(id_text)
    except ValueError:
        raise BadFilter("the cursor of the list is not valid: begin with its first page") from None
    if at.tzinfo is None:
        raise BadFilter("the cursor of the list has no time zone: begin with its first page")
    # The second condition alone would suffice, but the first lets the database begin at `at` in the index.
    return [
        keys.detected_at <= at,
        or_(keys.detected_at < at, and_(keys.detected_at == at, keys.id < own_id)),
    ]


def _day(value: str, name: str) -> datetime | None:
    if not value:
        return None
    try:
        day = date.fromisoformat(value)
        # Limit the year: callers add a day or convert time zones, which Python cannot do in the years 1 and 9999.
        return datetime(min(max(day.year, 1970), 9998), day.month, day.day, tzinfo=UTC)
    except ValueError:
        raise BadFilter(f"{name} must be a day, such as 2026-11-01") from None
