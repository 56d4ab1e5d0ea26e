"""Tests that announcements have the documented content, and that a client can read all of them page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, update

from scanner.records import announcements
from scanner.records.announcement_models import Announcement
from scanner.records.announcements import (
    SETTLED_SECONDS,
    AnnouncementPage,
    CursorExpired,
    DisabledToken,
)
from scanner.records.database import Database
from scanner.records.models import Notification, db_now
from scanner.records.states import Cause, Channel
from tests.notifications.outbox_rows import incident

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)


def announce(database: Database, *digests: str, channels: tuple[Channel, ...] = ()) -> None:
    with database.write() as session:
        announcements.announce(session, [DisabledToken(one, "7", Cause.OPERATOR, AT) for one in digests], channels)


def listed(database: Database, after: int | None, **options: Any) -> AnnouncementPage:
    with database.read() as session:
        return announcements.list_after(session, after, **options)


def age(database: Database, seconds: float) -> None:
    """Make all announcements `seconds` seconds old."""
    with database.write() as session:
        session.execute(update(Announcement).values(announced_at=db_now(-seconds)))


def digests(listing: AnnouncementPage) -> list[str]:
    return [one["digest"] for one in listing.announcements]


def test_an_announcement_has_one_row_for_each_channel_and_one_in_the_list(database: Database) -> None:
    announce(database, "a" * 64, "b" * 64, channels=(Channel.STREAM, Channel.WEBHOOK))
    with database.read() as session:
        rows = session.execute(select(Notification.channel, Notification.state, Notification.facts)).all()
    assert sorted((channel, state, facts["digest"][0]) for channel, state, facts in rows if facts) == [
        (channel, "frozen", letter) for channel in (Channel.STREAM, Channel.WEBHOOK) for letter in "ab"
    ]
    assert digests(listed(database, 0)) == ["a" * 64, "b" * 64]


def test_an_announcement_identifies_the_token_without_secrets(database: Database) -> None:
    announce(database, "a" * 64)
    (one,) = listed(database, 0).announcements
    assert one == {
        "id": one["id"],
        "type": "token.disabled",
        "digest": "a" * 64,
        "token_id": "7",
        "cause": "operator",
        "incident_id": None,
        "disabled_at": AT.isoformat(),
    }


def test_an_incident_is_announced_once(database: Database) -> None:
    incident_id = incident(database)
    for _ in range(2):
        with database.write() as session:
            announcements.announce(
                session, [DisabledToken("a" * 64, "7", Cause.PUBLIC_REPOSITORY, AT, incident_id)], (Channel.STREAM,)
            )
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(Announcement)).scalar_one() == 1
        assert session.execute(select(func.count()).select_from(Notification)).scalar_one() == 1


def test_a_request_without_cursor_returns_only_the_current_cursor(database: Database) -> None:
    assert listed(database, None) == AnnouncementPage([], 0, has_more=False)
    announce(database, "a" * 64)
    age(database, SETTLED_SECONDS + 1)
    start = listed(database, None)
    assert start.announcements == []
    announce(database, "b" * 64)
    assert digests(listed(database, start.next_cursor)) == ["b" * 64]


def test_the_newest_announcements_repeat_until_no_lower_id_can_appear(database: Database) -> None:
    announce(database, "a" * 64)
    first = listed(database, 0)
    assert digests(listed(database, first.next_cursor)) == ["a" * 64]
    age(database, SETTLED_SECONDS + 1)
    settled = listed(database, first.next_cursor)
    assert digests(settled) == ["a" * 64]
    assert listed(database, settled.next_cursor).announcements == []


def test_more_than_one_page_is_read_to_the_end(database: Database) -> None:
    announce(database, *(f"{number:064x}" for number in range(25)))
    age(database, SETTLED_SECONDS + 1)
    announce(database, *(f"{number:064x}" for number in range(25, 40)))
    pages = [listed(database, 0, limit=10)]
    while pages[-1].has_more:
        pages.append(listed(database, pages[-1].next_cursor, limit=10))
    assert [digest for page in pages for digest in digests(page)] == [f"{number:064x}" for number in range(40)]
    assert [len(page.announcements) for page in pages] == [10, 10, 20]


def test_no_cursor_misses_a_lower_id_that_commits_late(database: Database) -> None:
    announce(database, *(f"{number:064x}" for number in range(25)))
    page = listed(database, 0, limit=10)
    with database.write() as session:
        late = session.execute(select(func.min(Announcement.id))).scalar_one()
        session.execute(update(Announcement).where(Announcement.id == late).values(digest="f" * 64))
    assert "f" * 64 in digests(listed(database, page.next_cursor, limit=10))


def test_the_cursor_of_an_empty_list_returns_later_announcements(database: Database) -> None:
    start = listed(database, None).next_cursor
    announce(database, "a" * 64, "b" * 64)
    age(database, 31 * 86400)
    announce(database, "c" * 64)
    with database.write() as session:
        announcements.purge_expired(session)
    with pytest.raises(CursorExpired) as caught:
        listed(database, start)
    assert digests(listed(database, caught.value.start)) == ["c" * 64]


def test_a_cursor_older_than_the_retention_is_expired(database: Database) -> None:
    for letter in "abc":
        announce(database, letter * 64)
    first = listed(database, 0).announcements[0]["id"]
    age(database, 31 * 86400)
    announce(database, "d" * 64)
    with database.write() as session:
        announcements.purge_expired(session)
    age(database, SETTLED_SECONDS + 1)
    with pytest.raises(CursorExpired) as caught:
        listed(database, first)
    assert listed(database, caught.value.start).announcements == []


def test_a_cursor_of_another_database_is_expired(database: Database) -> None:
    with pytest.raises(CursorExpired):
        listed(database, 10)


def test_sent_rows_are_deleted_with_their_announcement_and_ids_continue(database: Database) -> None:
    announce(database, "a" * 64, channels=(Channel.STREAM,))
    with database.write() as session:
        session.execute(update(Notification).values(state="sent", next_attempt_at=db_now(-31 * 86400)))
    age(database, 31 * 86400)
    with database.write() as session:
        announcements.purge_expired(session)
    newest = listed(database, 0).announcements[0]["id"]
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(Notification)).scalar_one() == 0
    announce(database, "b" * 64)
    assert listed(database, 0).announcements[-1]["id"] > newest
