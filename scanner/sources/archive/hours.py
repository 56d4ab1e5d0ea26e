"""Reads one hour of the event archive, except events that were already seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github import event_files
from scanner.github.errors import Malformed, NotFound
from scanner.github.hostile_json import parse_json
from scanner.records import jobs
from scanner.records.columns import insert_or_nothing
from scanner.records.jobs import ClaimedJob
from scanner.records.models import ScanJob, db_now
from scanner.records.reading_models import ReadObject, SeenEvent
from scanner.records.source_models import Gap
from scanner.records.states import JobKind, JobState, SightingState
from scanner.response import sightings
from scanner.response.respond import Response
from scanner.sources.pushes.priorities import ARCHIVE_PRIORITY
from scanner.sources.rescan.steps import NotNow, Work
from scanner.sources.timeline.event_jobs import enqueue_found, remember_events
from scanner.sources.timeline.events import Event, parse_event, read_events

SOURCE = "event_archive"
LINES_AT_ONCE = 2000
IDS_A_QUERY = 500
QUEUE_SHARE, START_SHARE = 0.5, 0.25
"""An hour is begun only while the waiting pushes are at most the share START_SHARE of their limit. Reading stops above
QUEUE_SHARE.
"""
REMEMBERED = ("PushEvent", "CreateEvent", "PublicEvent")
"""Types of events that lead to jobs and whose ids are stored."""
REMEMBERED_FOR = timedelta(hours=48)
"""Ids of older events are not stored."""
WAIT_SECONDS = 60.0
PUBLISHED_AFTER = timedelta(minutes=6)
"""An hour's file is expected this long after the hour ends."""
LOST_AFTER = timedelta(hours=12)
"""A file that is missing this long after its hour began will not be published."""


def read_hour(work: Work) -> Response:
    """Read the hour's file, beginning at the line at which an earlier attempt stopped.

    Raises:
        NotNow: The file is not published yet, or too many pushes are waiting in the queue.
        GitHubError: The file cannot be read.
    """
    if work.settings.archive_url is None:
        raise Malformed("archive_off", "no archive is configured: set R8SCAN_ARCHIVE_URL")
    hour = datetime.fromisoformat(str(work.job.target["hour"]))
    done = int(work.at.get("lines", 0))
    _wait_for_room(work, START_SHARE)
    try:
        with event_files.opened(work.settings.archive_url, hour) as lines:
            for _ in islice(lines, done):
                pass
            for batch in _batches(lines):
                _take(work, hour, batch, done + len(batch))
                done += len(batch)
    except NotFound as err:
        if datetime.now(UTC) - hour < LOST_AFTER:
            raise NotNow("archive_not_yet", "the archive has no file of this hour yet", retry_after=600.0) from err
        raise
    with work.database.write() as session:
        dropped = _dropped(session, work.job, hour)
        if dropped:
            # Some events were dropped, so leave the hour unread, to read it again later.
            work.counts["unread_dropped_backlog"] += dropped
            return Response()
        session.execute(
            insert_or_nothing(session, ReadObject).values(kind="archive_hour", key=hour.isoformat(), read_at=db_now())
        )
        _fill_gaps(session, hour)
    return Response()


def hours_between(start: datetime, end: datetime) -> list[datetime]:
    """Return the starts of all hours that overlap with the time span, oldest first."""
    hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    while hour < end:
        found.append(hour)
        hour += timedelta(hours=1)
    return found


def was_read(session: Session, hours: Sequence[datetime]) -> set[datetime]:
    """Return which of the hours were read completely from the event archive."""
    found: set[str] = set()
    keys = [hour.isoformat() for hour in hours]
    for start in range(0, len(keys), IDS_A_QUERY):
        listed = ReadObject.key.in_(keys[start : start + IDS_A_QUERY])
        found.update(session.execute(select(ReadObject.key).where(ReadObject.kind == "archive_hour", listed)).scalars())
    return {hour for hour in hours if hour.isoformat() in found}


def reopen(session: Session, hours: Collection[str]) -> None:
    """Mark these hours of the event archive as not read, because some of their jobs were dropped.

    `hours` are in ISO 8601 format.
    """
    for key in sorted(hours):
        session.execute(
            delete(ReadObject)
            .where(ReadObject.kind == "archive_hour", ReadObject.key == key)
            .execution_options(synchronize_session=False)
        )
        session.execute(
            update(Gap)
            .where(_touches(datetime.fromisoformat(key)), Gap.filled_at.is_not(None))
            .values(filled_at=None)
            .execution_options(synchronize_session=False)
        )


def _batches(lines: Iterator[bytes | None]) -> Iterator[list[bytes | None]]:
    while batch := list(islice(lines, LINES_AT_ONCE)):
        yield batch


def _take(work: Work, hour: datetime, batch: Sequence[bytes | None], lines_done: int) -> None:
    """Store the jobs and token candidates of some lines, and the position in the file."""
    _wait_for_room(work, QUEUE_SHARE)
    events, counts = _events(batch)
    with work.database.read() as session:
        seen = _seen(session, [event.id for event in events])
    fresh = [event for event in events if event.id not in seen]
    counts["already_seen"] += len(events) - len(fresh)
    found = read_events(fresh, work.github.web_url)
    candidates: list[Candidate] = []
    budget, limits = ScanBudget.for_page(), CandidateLimits()
    for document in found.documents:
        result = work.detector.scan(document, budget)
        candidates += limits.take(result.candidates)
        counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    work.counts.update(counts + found.counts)
    work.counts["lines"] = lines_done
    with work.database.write() as session:
        enqueue_found(session, found, source=SOURCE, priority=ARCHIVE_PRIORITY, archive_hour=hour)
        if datetime.now(UTC) - hour < REMEMBERED_FOR:
            # Store the ids, so that the events are not queued again if the hour is read twice.
            remember_events(session, [event for event in fresh if event.type in REMEMBERED])
        if candidates:
            sightings.record(session, candidates, source=SOURCE, state=SightingState.UNCHECKED)
        # Store the position together with the events, so that a crash loses or repeats none.
        work.reached({"lines": lines_done})
        progress: dict[str, Any] = {
            "step": work.step,
            "phase": "reading the archive",
            "done": lines_done,
            "total": None,
            "counts": dict(work.counts_there),
            "at": dict(work.at),
        }
        work.job.lease.write(session, progress=progress, failures=1)


def _wait_for_room(work: Work, share: float) -> None:
    with work.database.read() as session:
        waiting = jobs.item_count(session, ScanJob.kind == JobKind.PUSHES, ScanJob.state == JobState.QUEUED)
    if waiting > work.settings.queue_max_pushes * share:
        raise NotNow("queue_full", "too many pushes wait: the archive goes on later", retry_after=WAIT_SECONDS)


def _events(batch: Sequence[bytes | None]) -> tuple[list[Event], Counter[str]]:
    """Return the events in the lines, and the number of unusable lines by reason."""
    events: list[Event] = []
    counts = Counter[str]()
    for line in batch:
        if line is None:
            counts["unread_line_over_limit"] += 1
            continue
        if not line.strip():
            continue
        try:
            event = parse_event(parse_json(line))
        except ValueError:
            event = None
        if event is None:
            counts["unusable_event"] += 1
        else:
            events.append(event)
    return events, counts


def _seen(session: Session, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), IDS_A_QUERY):
        statement = select(SeenEvent.id).where(SeenEvent.id.in_(ids[start : start + IDS_A_QUERY]))
        found.update(session.execute(statement).scalars())
    return found


def _dropped(session: Session, job: ClaimedJob, hour: datetime) -> int:
    """Return how many pushes and repositories of the hour were dropped since this job was queued."""
    asked = select(ScanJob.created_at).where(ScanJob.id == job.id).scalar_subquery()
    return jobs.item_count(
        session,
        ScanJob.kind.in_((JobKind.PUSHES, JobKind.REPOSITORY)),
        ScanJob.state == JobState.DROPPED,
        ScanJob.finished_at >= asked,
        ScanJob.target["hour"].as_string() == hour.isoformat(),
    )


def _touches(hour: datetime) -> ColumnElement[bool]:
    """Return the SQL condition for gaps (spans of missed events) that overlap with this hour."""
    return and_(Gap.source == "public_events", Gap.from_at < hour + timedelta(hours=1), Gap.until_at > hour)


def _fill_gaps(session: Session, hour: datetime) -> None:
    """Mark gaps (spans of missed events) as filled if all of their hours were read."""
    open_gaps = select(Gap).where(Gap.filled_at.is_(None), _touches(hour))
    for gap in session.execute(open_gaps).scalars().all():
        keys = [one.isoformat() for one in hours_between(gap.from_at, gap.until_at)]
        read = session.execute(
            select(func.count()).where(ReadObject.kind == "archive_hour", ReadObject.key.in_(keys))
        ).scalar_one()
        if read == len(keys):
            gap.filled_at = datetime.now(UTC)
