"""Tests that each filter of the list of incidents finds exactly the matching incidents."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, selectinload

from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject
from scanner.records.states import NotificationState
from tests.workers.web.console.filled import fill
from workers.web.console.queries import incidents, searching
from workers.web.console.queries.incidents import Filter

MAIL_STATES = {"pending": "waiting", "frozen": "waiting", "sent": "sent", "failed": "failed"}


class Facts:
    """The data of one incident, from which the tests decide whether a filter must find it."""

    def __init__(self, session: Session, incident: Incident) -> None:
        self.row = incident
        self.sources = {place.source for place in incident.exposures}
        self.repositories = {place.repository for place in incident.exposures}
        subjects = select(NotificationSubject).where(NotificationSubject.incident_id == incident.id)
        mails = [one.notification for one in session.execute(subjects).scalars() if one.channel == "email"]
        self.mails = {MAIL_STATES[mail.state] for mail in mails} or {"none"}
        self.addresses = {mail.recipient for mail in mails}


def facts(session: Session) -> list[Facts]:
    """Return the data of all incidents, the newest first."""
    rows = session.execute(select(Incident).options(selectinload(Incident.exposures))).scalars()
    ordered = sorted(rows, key=lambda row: (row.detected_at, row.id), reverse=True)
    return [Facts(session, row) for row in ordered]


WANTED: tuple[tuple[Filter, Callable[[Facts], bool]], ...] = (
    (Filter(), lambda one: True),
    (Filter(state="open"), lambda one: one.row.state == "open"),
    (Filter(action="protected"), lambda one: one.row.action == "protected"),
    (Filter(cause="compromise_signs"), lambda one: one.row.cause == "compromise_signs"),
    (Filter(account="mira"), lambda one: one.row.account_name == "mira"),
    (Filter(source="public_events"), lambda one: "public_events" in one.sources),
    (Filter(source="gists"), lambda one: "gists" in one.sources),
    (Filter(source="nothing"), lambda one: False),
    (Filter(repository="acme/infra"), lambda one: "acme/infra" in one.repositories),
    (Filter(q="acme/infra"), lambda one: "acme/infra" in one.repositories),
    (
        Filter(q="acme/infra", repository="ana/image-tools"),
        lambda one: {"acme/infra", "ana/image-tools"} <= one.repositories,
    ),
    (Filter(mail="sent"), lambda one: "sent" in one.mails),
    (Filter(mail="failed"), lambda one: "failed" in one.mails),
    (Filter(mail="waiting"), lambda one: "waiting" in one.mails),
    (Filter(mail="none"), lambda one: "none" in one.mails),
    (Filter(q="ana@example.com"), lambda one: "ana@example.com" in one.addresses),
    (Filter(q="acme"), lambda one: (one.row.account_name or "").startswith("acme")),
    (Filter(q="note"), lambda one: one.row.token_name.startswith("note")),
    (Filter(q="r8_"), lambda one: one.row.hint.startswith("r8_")),
    (Filter(source="gists", mail="sent"), lambda one: "gists" in one.sources and "sent" in one.mails),
    (
        Filter(repository="acme/infra", source="gists"),
        lambda one: "acme/infra" in one.repositories and "gists" in one.sources,
    ),
    (
        Filter(state="open", source="public_events", mail="sent", repository="acme/infra"),
        lambda one: (
            one.row.state == "open"
            and "public_events" in one.sources
            and "sent" in one.mails
            and "acme/infra" in one.repositories
        ),
    ),
    (Filter(mail="none", source="gists"), lambda one: "none" in one.mails and "gists" in one.sources),
)


def test_each_filter_finds_exactly_what_the_rows_say_newest_first(database: Database) -> None:
    fill(database)
    now = datetime.now(UTC)
    with database.read() as session:
        every = facts(session)
        for criteria, is_wanted in WANTED:
            expected = [one.row.id for one in every if is_wanted(one)]
            assert [row.incident.id for row in incidents.page(session, criteria).rows] == expected, criteria
            assert incidents.count(session, criteria) == len(expected), criteria
            assert incidents.ids(session, criteria, now) == expected, criteria
        found = [criteria for criteria, is_wanted in WANTED if any(is_wanted(one) for one in every)]
        assert len(found) > len(WANTED) - 4, "the rows do not distinguish the filters"


def test_a_search_finds_the_same_incidents_whether_few_or_many_match(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    with database.read() as session:
        for criteria in (
            Filter(q="acme"),
            Filter(q="acme", source="gists"),
            Filter(account="mira", mail="sent"),
            Filter(account="mira", until="2999-01-01", q="note"),
        ):
            monkeypatch.setattr(searching, "MAX_RARE", 20_000)
            few = pages(session, criteria)
            monkeypatch.setattr(searching, "MAX_RARE", 0)
            assert pages(session, criteria) == few, criteria


def test_days_and_the_moment_of_a_bulk_action_limit_every_filter(database: Database) -> None:
    fill(database)
    with database.read() as session:
        every = facts(session)
        middle = every[len(every) // 2].row.detected_at
        day = f"{middle.astimezone(UTC):%Y-%m-%d}"
        for criteria in (Filter(), Filter(source="public_events"), Filter(mail="sent")):
            all_ids = [row.incident.id for row in incidents.page(session, criteria).rows]
            by_id = {one.row.id: one.row.detected_at for one in every}
            since = incidents.page(session, Filter.from_query({**criteria.to_query(), "since": day})).rows
            midnight = middle.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            assert [row.incident.id for row in since] == [one for one in all_ids if by_id[one] >= midnight], criteria
            until = incidents.page(session, Filter.from_query({**criteria.to_query(), "until": day})).rows
            next_day = midnight + timedelta(days=1)
            assert [row.incident.id for row in until] == [one for one in all_ids if by_id[one] < next_day], criteria
            assert incidents.ids(session, criteria, middle) == [one for one in all_ids if by_id[one] <= middle], (
                criteria
            )


def test_the_last_day_of_the_calendar_limits_nothing(database: Database) -> None:
    fill(database)
    with database.read() as session:
        last = Filter.from_query({"until": "9999-12-31"})
        assert incidents.count(session, last) == incidents.count(session, Filter()) > 0


def test_pages_contain_each_incident_once_even_if_many_were_detected_at_one_moment(database: Database) -> None:
    fill(database)
    with database.write() as session:
        at = session.execute(select(Incident.detected_at).order_by(Incident.detected_at).limit(1)).scalar_one()
        for table in (Incident, Exposure, NotificationSubject):
            session.execute(update(table).values(detected_at=at))
    with database.read() as session:
        for criteria in (
            Filter(),
            Filter(source="public_events"),
            Filter(repository="acme/infra"),
            Filter(mail="sent"),
        ):
            whole = [row.incident.id for row in incidents.page(session, criteria).rows]
            assert len(whole) > 3, criteria
            assert pages(session, criteria) == whole, criteria


def pages(session: Session, criteria: Filter) -> list[uuid.UUID]:
    """Read the list of matching incidents in pages of three. Return all ids in this order."""
    found: list[uuid.UUID] = []
    cursor, is_first = "", True
    while cursor or is_first:
        page = incidents.page(session, criteria, cursor, rows=3)
        found += [row.incident.id for row in page.rows]
        cursor, is_first = page.older, False
    return found


def test_the_filter_by_mail_follows_each_change_of_the_message(database: Database) -> None:
    fill(database, incidents=2)
    with database.read() as session:
        subject = session.execute(select(NotificationSubject).filter_by(channel="email").limit(1)).scalar_one()
        one, message = subject.incident_id, subject.notification_id
    for state in (NotificationState.FROZEN, NotificationState.SENT, NotificationState.FAILED):
        with database.write() as session:
            session.execute(update(Notification).where(Notification.id == message).values(state=state))
        with database.read() as session:
            shown = {
                name: one in [row.incident.id for row in incidents.page(session, Filter(mail=name)).rows]
                for name in (*incidents.MAIL_STATES, "none")
            }
        assert [name for name, is_shown in shown.items() if is_shown] == [MAIL_STATES[state]]


def test_a_repository_name_of_any_length_is_kept_and_found(database: Database) -> None:
    fill(database, incidents=1)
    long = "o/" + "é" * 5000
    with database.write() as session:
        place = session.execute(select(Exposure).limit(1)).scalar_one()
        place_of = {column.key: getattr(place, column.key) for column in Exposure.__mapper__.column_attrs}
        names = (long, long[:-1] + "x")
        ids = dict(zip(names, fill_incidents(session, place.incident_id), strict=True))
        for name, incident_id in ids.items():
            session.add(Exposure(**{**place_of, "id": None, "repository": name, "incident_id": incident_id}))
    with database.read() as session:
        for name, incident_id in ids.items():
            found = incidents.page(session, Filter(repository=name)).rows
            assert [row.incident.id for row in found] == [incident_id]


def fill_incidents(session: Session, like: uuid.UUID) -> list[uuid.UUID]:
    """Add two closed copies of the incident `like`. Return the ids of the copies."""
    row = session.get_one(Incident, like)
    columns = {attr.key: getattr(row, attr.key) for attr in Incident.__mapper__.column_attrs}
    added = [Incident(**{**columns, "id": uuid.uuid4(), "state": "closed"}) for _ in range(2)]
    session.add_all(added)
    session.flush()
    return [one.id for one in added]


def test_places_beyond_the_limit_are_not_counted_and_the_first_publication_is_that_of_the_first_places(
    database: Database,
) -> None:
    fill(database)
    with database.read() as session:
        every = incidents.page(session, Filter(action="disabled")).rows
        many = max(every, key=lambda row: row.places)
        assert many.places > 3
        cut = incidents.page(session, Filter(action="disabled"), places=2).rows
        assert {row.incident.id: row.places for row in cut} == {row.incident.id: min(row.places, 3) for row in every}
        assert [row.seconds for row in cut] == [row.seconds for row in every]
        assert [row.repository for row in cut] == [row.repository for row in every]


def test_a_page_counts_all_that_match_up_to_the_limit(database: Database) -> None:
    fill(database)
    with database.read() as session:
        number = incidents.count(session, Filter())
        first = incidents.page(session, Filter(), rows=3, counted=number)
        later = incidents.page(session, Filter(), first.older, rows=3, counted=5)
        assert (len(first.rows), first.total) == (3, number)
        assert (len(later.rows), later.total) == (3, 6)
