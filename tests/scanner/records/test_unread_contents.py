"""Tests that a limited number of names of unread documents is recorded for a limited time."""

from __future__ import annotations

from sqlalchemy import select, update

from scanner.records import unread_contents
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.reading_models import UnreadContent
from scanner.records.unread_contents import NotRead


def content(number: int) -> NotRead:
    return NotRead(("damaged", "seconds"), f"{number:064x}", 10 * number, {"kind": "file", "path": f"{number}.zip"})


def rows(database: Database) -> list[UnreadContent]:
    with database.read() as session:
        return list(session.execute(select(UnreadContent).order_by(UnreadContent.id)).scalars())


def test_a_row_names_the_reasons_the_digest_and_the_place(database: Database) -> None:
    with database.write() as session:
        unread_contents.record(session, [content(7)], source="gists", job_id=3)
    (row,) = rows(database)
    assert (row.source, row.job_id, row.reasons, row.size) == ("gists", 3, "damaged,seconds", 70)
    assert row.content_digest == f"{7:064x}"
    assert row.place == {"kind": "file", "path": "7.zip"}


def test_one_job_records_a_limited_number_of_unread_contents(database: Database) -> None:
    with database.write() as session:
        unread_contents.record(session, [content(number) for number in range(1000)], source="public_events")
    assert len(rows(database)) == unread_contents.MAX_ROWS_PER_JOB


def test_old_rows_are_purged(database: Database) -> None:
    with database.write() as session:
        unread_contents.record(session, [content(1), content(2)], source="gists")
        first = select(UnreadContent.id).order_by(UnreadContent.id).limit(1).scalar_subquery()
        session.execute(update(UnreadContent).where(UnreadContent.id == first).values(seen_at=db_now(-31 * 86400.0)))
    assert unread_contents.purge(database) == 1
    assert [row.size for row in rows(database)] == [20]


def test_the_oldest_rows_beyond_the_limit_are_purged(database: Database) -> None:
    with database.write() as session:
        unread_contents.record(session, [content(number) for number in range(10)], source="gists")
    assert unread_contents.purge(database, max_rows=3) == 7
    assert [row.size for row in rows(database)] == [70, 80, 90]
