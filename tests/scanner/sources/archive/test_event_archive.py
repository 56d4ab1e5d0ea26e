"""Tests that events which the polls missed are read from the event archive and queued once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from scanner.github.errors import RateLimited
from scanner.records import jobs
from scanner.records.models import ScanJob, Sighting, db_now
from scanner.records.reading_models import SeenEvent
from scanner.records.source_models import Gap
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.sources.archive import hours as archive_hours
from scanner.sources.archive import poll as event_archive
from scanner.sources.archive.hours import hours_between
from scanner.sources.batches import runner as page_work
from scanner.sources.batches import shedding
from scanner.sources.batches.runner import ItemOutcome
from scanner.sources.pushes.push import Push
from scanner.sources.rescan.manual import queue_hours
from scanner.sources.timeline import event_jobs
from scanner.sources.timeline.events import parse_event, read_events
from tests.scanner.sources.archive.archiving import ARCHIVE, HOUR, Archive, event, packed, push
from tests.scanner.sources.knowing import is_disabled, jobs_of, know, make_due

Token = Callable[[], str]


def test_an_hour_queues_unseen_events_with_the_lowest_priority(reading: Archive, fresh_token: Token) -> None:
    token = fresh_token()
    digest = know(reading.database, token)
    with reading.database.write() as session:
        session.add(SeenEvent(id="1", seen_at=db_now()))
    issue = event(3, "IssuesEvent", {"action": "opened", "issue": {"body": f"my key is {token}"}})
    reading.publish(HOUR, packed(push(1), push(2), issue))
    reading.queue(HOUR)
    reading.work()
    job = reading.hour()
    assert (job.state, job.counts["lines"], job.counts["already_seen"]) == ("done", 3, 1)
    assert reading.pushes() == [f"{2:040x}"]
    assert jobs_of(reading.database, "pushes")[0].priority > 110
    look_up_again(reading.database, policy=Policy())
    assert is_disabled(reading.database, digest)


def test_a_crash_within_an_hour_neither_loses_nor_doubles_events(
    reading: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_hours, "LINES_AT_ONCE", 10)
    reading.publish(HOUR, packed(*(push(number) for number in range(1, 36))))
    reading.queue(HOUR)
    enqueue, calls = event_jobs.enqueue_found, []

    def away(*arguments: Any, **options: Any) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise OperationalError("INSERT", {}, Exception("the server is gone"))
        return enqueue(*arguments, **options)

    monkeypatch.setattr(archive_hours, "enqueue_found", away)
    with pytest.raises(OperationalError):
        reading.work()
    assert reading.hour().progress["at"] == {"lines": 20}
    reading.work()
    assert reading.hour().state == "done"
    assert sorted(reading.pushes()) == [f"{number:040x}" for number in range(1, 36)]


def test_the_archive_waits_while_too_many_pushes_wait(reading: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_hours, "LINES_AT_ONCE", 30)
    reading.settings = reading.settings.model_copy(update={"queue_max_pushes": 50})
    reading.publish(HOUR, packed(*(push(number) for number in range(90))))
    reading.queue(HOUR)
    reading.work()
    job = reading.hour()
    assert (job.state, job.progress["at"], job.failures) == ("queued", {"lines": 30}, 0)
    for _ in range(10):
        reading.work()
    with reading.database.write() as session:
        session.execute(update(ScanJob).where(ScanJob.kind == JobKind.PUSHES).values(state="done"))
    reading.work()
    assert reading.hour().progress["at"] == {"lines": 60}


def test_a_file_is_fetched_again_only_when_the_queue_has_enough_room(
    reading: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_hours, "LINES_AT_ONCE", 25)
    # 1,000 pushes make 40 jobs. r8scan stops reading the archive at more than 20 waiting jobs, and continues at 10.
    reading.settings = reading.settings.model_copy(update={"queue_max_pushes": 1000})
    route = reading.publish(HOUR, packed(*(push(number) for number in range(1, 1001))))
    reading.queue(HOUR)
    reading.work()
    assert (route.call_count, len(jobs_of(reading.database, "pushes"))) == (1, 21)
    while reading.hour().state != "done":
        # Finish one job before each attempt, so that the queue empties slowly.
        with reading.database.write() as session:
            first = session.execute(select(ScanJob.id).where(ScanJob.kind == JobKind.PUSHES, ScanJob.state == "queued"))
            session.execute(update(ScanJob).where(ScanJob.id == first.scalars().first()).values(state="done"))
        reading.work()
    assert route.call_count <= 4
    assert len(reading.pushes()) == 1000


def test_an_hour_that_was_read_is_skipped_unless_it_is_requested_again(reading: Archive) -> None:
    reading.publish(HOUR, packed(push(1)))
    reading.queue(HOUR)
    reading.work()
    assert reading.queue(HOUR) == []
    reading.publish(HOUR, packed(push(1), push(2)))
    with reading.database.write() as session:
        assert len(queue_hours(session, [HOUR], again=True)) == 1
    reading.work()
    assert (reading.hour().counts["already_seen"], sorted(reading.pushes())) == (1, [f"{1:040x}", f"{2:040x}"])


def gap_of(reading: Archive) -> Gap:
    with reading.database.read() as session:
        return session.execute(select(Gap)).scalar_one()


def drop_all(reading: Archive) -> int:
    with reading.database.write() as session:
        return shedding.shed(session, JobKind.PUSHES, most_items=0)


def waiting(reading: Archive) -> list[str]:
    pages = [job.target["pushes"] for job in jobs_of(reading.database, "pushes") if job.state == "queued"]
    return sorted(one["head"] for page in pages for one in page)


@pytest.fixture
def gap(reading: Archive) -> None:
    with reading.database.write() as session:
        span = {"from_at": HOUR + timedelta(minutes=1), "until_at": HOUR + timedelta(minutes=2), "estimated": 5}
        session.add(Gap(source="public_events", reason="no_overlap", found_at=db_now(), **span))


@pytest.mark.usefixtures("gap")
def test_dropped_events_are_queued_again_and_their_gap_stays_open_until_then(reading: Archive) -> None:
    reading.publish(HOUR, packed(*(push(number) for number in range(1, 4))))
    reading.queue(HOUR)
    reading.work()
    assert gap_of(reading).filled_at is not None
    assert drop_all(reading) == 3
    assert gap_of(reading).filled_at is None
    make_due(reading.database)
    assert event_archive.poll(reading.database, wait=lambda _: None).jobs == 1
    reading.work()
    assert waiting(reading) == [f"{number:040x}" for number in range(1, 4)]
    assert gap_of(reading).filled_at is not None


@pytest.mark.usefixtures("gap")
def test_an_hour_with_events_dropped_during_reading_counts_as_unread(
    reading: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_hours, "LINES_AT_ONCE", 2)
    reading.publish(HOUR, packed(*(push(number) for number in range(1, 4))))
    reading.queue(HOUR)
    enqueue, calls = event_jobs.enqueue_found, []

    def drops_first(session: Any, *arguments: Any, **options: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            assert shedding.shed(session, JobKind.PUSHES, most_items=0) == 2
        return enqueue(session, *arguments, **options)

    monkeypatch.setattr(archive_hours, "enqueue_found", drops_first)
    reading.work()
    assert (reading.hour().state, reading.hour().counts["unread_dropped_backlog"]) == ("partial", 2)
    assert gap_of(reading).filled_at is None
    assert len(reading.queue(HOUR)) == 1
    reading.work()
    assert (reading.hour().state, reading.hour().counts["already_seen"]) == ("done", 1)
    assert waiting(reading) == [f"{number:040x}" for number in range(1, 4)]
    assert gap_of(reading).filled_at is not None


def test_the_archive_queues_events_whose_jobs_were_dropped(reading: Archive) -> None:
    event_of = parse_event(push(1))
    assert event_of is not None
    found = read_events([event_of], "https://github.com")
    with reading.database.write() as session:
        event_jobs.remember_events(session, [event_of])
        event_jobs.enqueue_found(session, found)
    assert drop_all(reading) == 1
    reading.publish(HOUR, packed(push(1)))
    reading.queue(HOUR)
    reading.work()
    assert waiting(reading) == [f"{1:040x}"]


def test_dropped_pushes_that_waited_for_a_budget_count_as_unseen(reading: Archive) -> None:
    reading.publish(HOUR, packed(push(1), push(2)))
    reading.queue(HOUR)
    reading.work()

    def read(item: Push) -> ItemOutcome[Push]:
        err = RateLimited("budget_spent", "spent", retry_after=60, asked=False)
        return ItemOutcome(item, error=err if item.head.endswith("2") else None)

    job = jobs.claim_next(reading.database, JobKind.PUSHES)
    assert job is not None
    page_work.work(reading.database, job, [Push.from_json(one) for one in job.target["pushes"]], read, threads=1)
    assert drop_all(reading) == 1
    with reading.database.read() as session:
        assert archive_hours.was_read(session, [HOUR]) == set()
        assert session.execute(select(SeenEvent)).all() == []


def test_a_backfill_of_old_hours_stores_no_event_ids(reading: Archive) -> None:
    old = HOUR - archive_hours.REMEMBERED_FOR
    reading.publish(old, packed(push(1)))
    reading.queue(old)
    reading.work()
    assert waiting(reading) == [f"{1:040x}"]
    with reading.database.read() as session:
        assert session.execute(select(SeenEvent)).all() == []


def test_an_hour_with_gaps_is_read_as_soon_as_its_file_is_published(reading: Archive) -> None:
    with reading.database.write() as session:
        for hours, source in ((3, "public_events"), (0, "public_events"), (5, "gists")):
            at = datetime.now(UTC) - timedelta(hours=hours, minutes=1)
            span = {"from_at": at - timedelta(seconds=30), "until_at": at, "estimated": 5, "reason": "no_overlap"}
            session.add(Gap(source=source, found_at=db_now(), **span))
    make_due(reading.database)
    end = datetime.now(UTC) - timedelta(hours=3, minutes=1)
    wanted = hours_between(end - timedelta(seconds=30), end)
    report = event_archive.poll(reading.database, wait=lambda _: None)
    assert report.jobs == len(wanted)
    for hour in wanted:
        reading.publish(hour, packed(push(1)))
    while reading.work():
        pass
    with reading.database.read() as session:
        filled = {gap.source: gap.filled_at for gap in session.execute(select(Gap).order_by(Gap.from_at)).scalars()}
        first = (
            session.execute(select(Gap).where(Gap.source == "public_events").order_by(Gap.from_at)).scalars().first()
        )
    assert first is not None
    assert first.filled_at is not None
    assert filled["gists"] is None
    make_due(reading.database)
    assert event_archive.poll(reading.database, wait=lambda _: None).jobs == 0


def test_a_file_not_published_yet_is_awaited_and_a_missing_one_fails(reading: Archive) -> None:
    old = HOUR - timedelta(days=2)
    reading.router.get(url__startswith=ARCHIVE).mock(return_value=httpx.Response(404))
    reading.queue(HOUR)
    reading.work()
    assert (reading.hour().state, reading.hour().failures) == ("queued", 0)
    with reading.database.write() as session:
        assert jobs.cancel(session, reading.hour().id)
    reading.queue(old)
    reading.work()
    assert reading.hour().state == "failed"
    assert reading.hour().error


def test_no_raw_token_of_the_archive_is_stored(reading: Archive, fresh_token: Token) -> None:
    token = fresh_token()
    reading.publish(HOUR, packed(event(1, "IssuesEvent", {"issue": {"body": token, "title": token}})))
    reading.queue(HOUR)
    reading.work()
    with reading.database.read() as session:
        (sighting,) = session.execute(select(Sighting)).scalars()
    assert token not in repr(vars(sighting))


def test_an_hour_is_queued_once(reading: Archive) -> None:
    assert reading.queue(HOUR) == reading.queue(HOUR)
