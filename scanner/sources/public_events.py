"""The public timeline: one poll of up to three pages, and what it leaves behind.

GitHub serves a window of about 300 events in no strict order; ids say nothing of time. So events are told apart by a
set of ids, a poll that overlaps with none of the last ones is a gap, and a page that failed is still owed.
https://docs.github.com/rest/activity/events
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.github.client import GitHub, get_json
from scanner.github.errors import GitHubError
from scanner.records import jobs, leases, spool
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import SourceState, db_now
from scanner.records.outbox import insert_or_nothing
from scanner.response import sightings
from scanner.response.places import candidate_to_json
from scanner.sources.events import Event, Found, parse_event, read_event

SOURCE = "public_events"
PAGES = 3
PAGE_SIZE = 100
IDS_KEPT = 1500
DEFAULT_INTERVAL = 60.0
SHORTEST_INTERVAL, LONGEST_INTERVAL = 1.0, 3600.0
PUSHES_A_JOB = 25
"""Small enough for several processes to share a page, large enough to cost few rows."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the last poll stopped. `etags` by page number and `credential` (a label) they were given to."""

    known_ids: tuple[str, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    owed_pages: tuple[int, ...] = ()
    credential: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        return cls(
            known_ids=tuple(value.get("known_ids", ())),
            etags=dict(value.get("etags", {})),
            owed_pages=tuple(value.get("owed_pages", ())),
            credential=str(value.get("credential", "")),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "known_ids": list(self.known_ids),
            "etags": dict(self.etags),
            "owed_pages": list(self.owed_pages),
            "credential": self.credential,
        }


@dataclass(slots=True)
class Poll:
    """What one poll brought. `interval` in seconds; `has_gap`: nothing of it had been seen before."""

    events: list[Event]
    cursor: Cursor
    interval: float
    has_gap: bool
    counts: Counter[str]
    error: GitHubError | None = None


def poll_pages(github: GitHub, cursor: Cursor) -> Poll:
    """Ask for page 1, and for the next as long as pages are full and bring something new.

    An error on the first page is raised (GitHubError); on a later one it is reported, and the page is owed.
    """
    if cursor.credential != github.credential_label:
        cursor = replace(cursor, etags={}, credential=github.credential_label)
    known, etags, counts = set(cursor.known_ids), dict(cursor.etags), Counter[str]()
    events: dict[str, Event] = {}
    interval, overlaps, read_any, error = DEFAULT_INTERVAL, False, False, None
    owed: list[int] = []
    page = 1
    while page <= PAGES:
        try:
            answer = _get_page(github, page, etags.get(str(page)))
        except GitHubError as err:
            if page == 1:
                raise
            owed, error = list(range(page, PAGES + 1)), err
            break
        interval = _interval(answer.response, interval)
        if answer.etag:
            etags[str(page)] = answer.etag
        counts["requests"] += 1
        if answer.events is None:
            counts["not_modified"] += 1
        else:
            read_any = True
            counts["unusable_event"] += answer.unusable
            fresh = {event.id: event for event in answer.events if event.id not in known and event.id not in events}
            overlaps = overlaps or any(event.id in known for event in answer.events)
            events.update(fresh)
            if fresh and len(answer.events) >= PAGE_SIZE and page < PAGES:
                page += 1
                continue
        # Page 1 may be unchanged while a page that failed last time was never read.
        page = next((number for number in cursor.owed_pages if number > page), PAGES + 1)
    ids = tuple(dict.fromkeys([*events, *cursor.known_ids]))[:IDS_KEPT]
    after = Cursor(ids, etags, tuple(owed), cursor.credential)
    has_gap = bool(known) and read_any and not overlaps
    return Poll(list(events.values()), after, interval, has_gap, counts, error)


def ensure_state(session: Session) -> None:
    """The source's row, if it has none yet."""
    session.execute(
        insert_or_nothing(session, SourceState).values(
            source=SOURCE, cursor={}, next_poll_at=db_now(), attempts=0, failures=0, gaps=0, counts={}
        )
    )


def poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    *,
    state_dir: Path,
    wait: Callable[[float], None] = time.sleep,
) -> PollReport:
    """Poll if it is due, or will be within the next tick, and commit all it brought in one transaction.

    What a database that went away meanwhile cannot take goes to the spool.
    """
    claimed = _claim(database, wait)
    if claimed is None:
        return PollReport()
    lease, cursor = claimed
    try:
        brought = poll_pages(github, cursor)
    except GitHubError as err:
        _log.warning("public events: %s", err)
        with database.write() as session:
            _postpone(session, lease, err)
        return PollReport(polled=True, error=err.reason)
    found = Found()
    for event in brought.events:
        read_event(event, github.web_url, found)
    candidates = _scan(detector, found)
    try:
        with database.write() as session:
            report = _commit(session, lease, brought, found, candidates)
    except LeaseLost:
        _log.warning("public events: another worker polled meanwhile; its poll counts")
        return PollReport(polled=True)
    except Exception as err:
        if is_unavailable(err):
            _keep(state_dir, found, candidates)
        raise
    return report


@dataclass(frozen=True, slots=True)
class PollReport:
    """What a poll led to: rows that somebody should look at now."""

    polled: bool = False
    events: int = 0
    jobs: int = 0
    candidates: int = 0
    error: str | None = None


def enqueue_found(session: Session, found: Found, *, source: str = SOURCE, priority: int = 100) -> int:
    """Job rows for the pushes and repositories that were found; their number."""
    count = 0
    for start in range(0, len(found.pushes), PUSHES_A_JOB):
        pushes = [push.to_json() for push in found.pushes[start : start + PUSHES_A_JOB]]
        jobs.enqueue(session, "pushes", {"pushes": pushes}, source=source, priority=priority)
        count += 1
    for name, repository_id, published_at in found.repositories:
        target = {
            "repository": name,
            "repository_id": repository_id,
            "published_at": published_at.isoformat() if published_at else None,
        }
        key = f"repository:{name.lower()}"
        if jobs.enqueue(session, "repository", target, source=source, priority=priority, dedupe_key=key) is not None:
            count += 1
    return count


@dataclass(frozen=True, slots=True)
class _Page:
    response: httpx.Response
    etag: str
    events: list[Event] | None
    unusable: int = 0


def _get_page(github: GitHub, page: int, etag: str | None) -> _Page:
    response, body = get_json(
        github, f"{github.api_url}/events", params={"per_page": PAGE_SIZE, "page": page}, etag=etag, expected=list
    )
    tag = response.headers.get("etag", "")
    tag = tag if len(tag) <= 256 and tag.isascii() and tag.isprintable() else ""
    if body is None:
        return _Page(response, tag, None)
    parsed = [parse_event(value) for value in body]
    events = [event for event in parsed if event is not None]
    return _Page(response, tag, events, len(parsed) - len(events))


def _interval(response: httpx.Response, default: float) -> float:
    try:
        seconds = float(response.headers.get("x-poll-interval", default))
    except ValueError:
        return default
    return min(max(seconds, SHORTEST_INTERVAL), LONGEST_INTERVAL) if seconds == seconds else default


def _scan(detector: Detector, found: Found) -> list[Candidate]:
    candidates: list[Candidate] = []
    for document in found.documents:
        result = detector.scan(document)
        candidates.extend(result.candidates)
        found.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return candidates


def _claim(database: Database, wait: Callable[[float], None]) -> tuple[Lease, Cursor] | None:
    """The lease and the cursor, if it is our turn. Beat's ticks jitter: due within the next second is waited for."""
    with database.write() as session:
        ensure_state(session)
        state, now = session.execute(select(SourceState, db_now()).where(SourceState.source == SOURCE)).one()
        remaining = (state.next_poll_at - now).total_seconds()
    if 0 < remaining <= 1.0:
        wait(remaining)
    with database.write() as session:
        lease = leases.claim(session, SourceState, SOURCE)
        if lease is None:
            return None
        state = session.execute(select(SourceState).where(SourceState.source == SOURCE)).scalar_one()
        # The interval counts from the poll's beginning, so that the time it takes is not added to it.
        lease.write(session, next_poll_at=db_now(SHORTEST_INTERVAL))
        return lease, Cursor.from_json(state.cursor)


def _commit(session: Session, lease: Lease, brought: Poll, found: Found, candidates: Sequence[Candidate]) -> PollReport:
    state = session.execute(select(SourceState).where(SourceState.source == SOURCE)).scalar_one()
    counts = Counter(state.counts)
    counts.update(brought.counts)
    counts.update(found.counts)
    counts["polls"] += 1
    times = [event.created_at for event in brought.events if event.created_at]
    error = str(brought.error) if brought.error else None
    lease.write(
        session,
        cursor=brought.cursor.to_json(),
        next_poll_at=_next_poll(state, brought),
        leased_until=None,
        failures=0,
        last_success_at=db_now(),
        newest_seen_at=_newest(state.newest_seen_at, times),
        gaps=state.gaps + brought.has_gap,
        counts=dict(counts),
        error=error,
    )
    job_count = enqueue_found(session, found)
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state="unchecked")
    return PollReport(
        True, len(brought.events), job_count, len(candidates), brought.error.reason if brought.error else None
    )


def _next_poll(state: SourceState, brought: Poll) -> Any:
    if brought.error is not None and brought.error.retry_after:
        return db_now(min(brought.error.retry_after, LONGEST_INTERVAL))
    # Claiming set it to the beginning of this poll plus the shortest interval.
    return state.next_poll_at + timedelta(seconds=brought.interval - SHORTEST_INTERVAL)


def _newest(before: datetime | None, times: Iterable[datetime]) -> datetime | None:
    # A time in the future is somebody's wrong clock and would hide every lag after it.
    now = datetime.now(UTC)
    return max((at for at in [before, *times] if at is not None and at <= now), default=before)


def _postpone(session: Session, lease: Lease, err: GitHubError) -> None:
    state = session.execute(select(SourceState).where(SourceState.source == SOURCE)).scalar_one()
    delay = err.retry_after or min(2.0**state.failures, 60.0)
    counts = Counter(state.counts)
    counts[f"error_{err.reason}"] += 1
    lease.write(
        session,
        leased_until=None,
        next_poll_at=db_now(min(delay, LONGEST_INTERVAL)),
        failures=min(state.failures + 1, 16),
        counts=dict(counts),
        error=str(err),
    )


def _keep(state_dir: Path, found: Found, candidates: Sequence[Candidate]) -> None:
    """The database is away: GitHub will not show these events again, so they wait in the spool."""
    spool.save(
        state_dir,
        "poll",
        {
            "source": SOURCE,
            "pushes": [push.to_json() for push in found.pushes],
            "repositories": [
                [name, repository_id, at.isoformat() if at else None] for name, repository_id, at in found.repositories
            ],
            "candidates": [candidate_to_json(candidate) for candidate in candidates],
        },
    )
