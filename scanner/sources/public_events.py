"""The public timeline: one poll of up to three pages, and what it leaves behind.

GitHub serves a window of about 300 events in no strict order; ids say nothing of time. So events are told apart by a
set of ids, a poll that overlaps with none of the last ones is a gap, and a page that failed is still owed.
https://docs.github.com/rest/activity/events
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import delete
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.github.client import GitHub, get_json
from scanner.github.errors import GitHubError
from scanner.github.rate_limit import server_time
from scanner.records import jobs, spool
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.models import SeenEvent, db_now
from scanner.response import sightings
from scanner.response.places import candidate_to_json
from scanner.sources import turns
from scanner.sources.events import Event, Found, newest_repository_id, parse_event, read_event
from scanner.sources.likelihood import PRIORITIES
from scanner.sources.page_work import first_visible
from scanner.sources.polls import PollReport
from scanner.sources.turns import MissedSpan, Turn

SOURCE = "public_events"
PAGES = 3
PAGE_SIZE = 100
NEARLY_FULL = 90
"""Events of a page that has another behind it, where GitHub does not say: it leaves some out of its pages."""
IDS_KEPT = 1500
IDS_A_STATEMENT = 500
DEFAULT_INTERVAL = 60.0
STALE_AFTER = timedelta(minutes=15)
"""GitHub's own latency is mostly below; what is older each time is a list that somebody forgot to renew."""
MOST_CLOCK_SECONDS = 86_400
"""Between our clock and GitHub's; what is more is no clock."""
STRAGGLING = 3
"""Times the width of the middle half of a list's times, beyond which a time tells of no span that was seen."""
MOST_ESTIMATED = 10_000_000
PUSHES_A_JOB = 25
"""Small enough for several processes to share a page, large enough to cost few rows."""
REPOSITORY_PRIORITY = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the last poll stopped. `etags` by page number and `credential` (a label) they were given to.

    `is_stale`: the list that GitHub served then was an old one.
    """

    known_ids: tuple[str, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    owed_pages: tuple[int, ...] = ()
    credential: str = ""
    is_stale: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        return cls(
            known_ids=tuple(value.get("known_ids", ())),
            etags=dict(value.get("etags", {})),
            owed_pages=tuple(value.get("owed_pages", ())),
            credential=str(value.get("credential", "")),
            is_stale=bool(value.get("is_stale")),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "known_ids": list(self.known_ids),
            "etags": dict(self.etags),
            "owed_pages": list(self.owed_pages),
            "credential": self.credential,
            "is_stale": self.is_stale,
        }


@dataclass(slots=True)
class Poll:
    """What one poll brought. `interval` in seconds; `has_gap`: nothing of it had been seen before.

    `times` are those of all that the lists held, in order; `at` is the time by GitHub's clock, ours may be wrong.
    """

    events: list[Event]
    cursor: Cursor
    interval: float
    has_gap: bool
    counts: Counter[str]
    error: GitHubError | None = None
    times: Sequence[datetime] = ()
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


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
    times: list[datetime] = []
    at = datetime.now(UTC)
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
        at = _time(answer.response)
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
            times += [event.created_at for event in answer.events if event.created_at is not None]
            events.update(fresh)
            if fresh and answer.has_next and page < PAGES:
                page += 1
                continue
        # Page 1 may be unchanged while a page that failed last time was never read.
        page = next((number for number in cursor.owed_pages if number > page), PAGES + 1)
    ids = tuple(dict.fromkeys([*events, *cursor.known_ids]))[:IDS_KEPT]
    after = Cursor(ids, etags, tuple(owed), cursor.credential)
    has_gap = bool(known) and read_any and not overlaps
    return Poll(
        list(events.values()),
        after,
        interval,
        has_gap,
        counts,
        error,
        times=sorted(times),
        at=at,
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
    return turns.in_turn(database, SOURCE, wait, lambda turn: _poll(database, github, detector, state_dir, turn))


def _poll(database: Database, github: GitHub, detector: Detector, state_dir: Path, turn: Turn) -> PollReport:
    try:
        brought = poll_pages(github, Cursor.from_json(turn.cursor))
    except GitHubError as err:
        with database.write() as session:
            turns.postpone(session, turn, err)
        return PollReport(polled=True, error=err.reason)
    found = Found(newest_repository_id=newest_repository_id(brought.events))
    for event in brought.events:
        read_event(event, github.web_url, found)
    candidates = _scan(detector, found)
    pace = github.gate.seconds_a_request("core") * brought.counts["requests"]
    try:
        try:
            with database.write() as session:
                return _commit(session, turn, brought, found, candidates, pace)
        except LeaseLost:
            # The cursor is another worker's by now, but that one need not have seen the same events.
            _log.warning("public events: another worker polled meanwhile; its cursor counts")
            with database.write() as session:
                return _take(session, brought, found, candidates)
    except Exception as err:
        if is_unavailable(err):
            _keep(state_dir, found, candidates)
        raise


def enqueue_found(
    session: Session,
    found: Found,
    *,
    source: str = SOURCE,
    priority: int | None = None,
    archive_hour: datetime | None = None,
) -> int:
    """Job rows for the pushes and repositories that were found, the likelier pushes first; the number of rows.

    `priority`: one for all, for what can wait. `archive_hour`: whose file of the archive has brought them.
    """
    count = 0
    for likelihood, own_priority in PRIORITIES.items():
        chosen = [push for push in found.pushes if push.likelihood == likelihood]
        for start in range(0, len(chosen), PUSHES_A_JOB):
            page = chosen[start : start + PUSHES_A_JOB]
            jobs.enqueue(
                session,
                "pushes",
                {"pushes": [push.to_json() for push in page], **_brought_by(found, page, archive_hour)},
                source=source,
                priority=own_priority if priority is None else priority,
                visible_at=first_visible(page),
            )
            count += 1
    # In one order, so that two who ask for the same never deadlock.
    for repository in sorted(found.repositories, key=lambda one: one[0].lower()):
        name, repository_id, published_at = repository
        target = {
            "repository": name,
            "repository_id": repository_id,
            "published_at": published_at.isoformat() if published_at else None,
            **_brought_by(found, [repository], archive_hour),
        }
        key = f"repository:{name.lower()}"
        own = REPOSITORY_PRIORITY if priority is None else priority
        row = jobs.enqueue(
            session, "repository", target, source=source, priority=own, dedupe_key=key, visible_at=published_at
        )
        count += row is not None
    return count


def _brought_by(found: Found, things: Sequence[object], archive_hour: datetime | None) -> dict[str, Any]:
    """By what the archive can bring them once more, should the job be dropped."""
    ids = {event_id for thing in things for event_id in found.event_ids.get(thing, ())}
    hour = {"hour": archive_hour.isoformat()} if archive_hour else {}
    return {**({"events": sorted(ids)} if ids else {}), **hour}


@dataclass(frozen=True, slots=True)
class _Page:
    response: httpx.Response
    etag: str
    events: list[Event] | None
    unusable: int = 0
    has_next: bool = False


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
    has_next = "next" in response.links or ("link" not in response.headers and len(body) >= NEARLY_FULL)
    return _Page(response, tag, events, len(parsed) - len(events), has_next)


def _time(response: httpx.Response) -> datetime:
    """Now, by the clock that set the events' times, as far as it can be believed."""
    ours, theirs = time.time(), server_time(response)
    return datetime.fromtimestamp(theirs if abs(theirs - ours) < MOST_CLOCK_SECONDS else ours, UTC)


def _interval(response: httpx.Response, default: float) -> float:
    try:
        seconds = float(response.headers.get("x-poll-interval", default))
    except ValueError:
        return default
    return min(max(seconds, turns.SHORTEST_INTERVAL), turns.LONGEST_INTERVAL) if seconds == seconds else default


def _scan(detector: Detector, found: Found) -> list[Candidate]:
    candidates: list[Candidate] = []
    for document in found.documents:
        result = detector.scan(document)
        candidates.extend(result.candidates)
        found.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return candidates


def _commit(
    session: Session, turn: Turn, brought: Poll, found: Found, candidates: Sequence[Candidate], pace: float
) -> PollReport:
    counts = brought.counts + found.counts
    missed = _missed(turn, brought)
    cursor = brought.cursor
    newest = _newest(turn.newest_seen_at, (event.created_at for event in brought.events), brought.at)
    is_stale = _is_stale(newest, brought, _usual(brought.times))
    if is_stale:
        _log.warning("public events: GitHub serves an old list", extra={"newest": str(newest)})
        # Its ETag would have us told for ever that nothing has changed.
        cursor = replace(cursor, etags={}, is_stale=True)
    counts["stale_list"] += is_stale
    if missed is not None:
        counts["missed_by_estimate"] += missed.estimated
    turns.end(
        session,
        turn,
        cursor=cursor.to_json(),
        # A small budget is spread over its hour: a poll every few minutes sees more than a burst and a silence.
        interval=max(brought.interval, pace),
        counts=+counts,
        newest=newest,
        missed=missed,
        error=brought.error,
    )
    return _take(session, brought, found, candidates)


def _take(session: Session, brought: Poll, found: Found, candidates: Sequence[Candidate]) -> PollReport:
    """Rows for what was found; which events these were is kept, too."""
    remember_events(session, brought.events)
    job_count = enqueue_found(session, found)
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state="unchecked")
    return PollReport(
        True, len(brought.events), job_count, len(candidates), brought.error.reason if brought.error else None
    )


def remember_events(session: Session, events: Sequence[Event]) -> None:
    """So that the archive's file of this hour need not bring them again."""
    rows = [{"id": event_id} for event_id in sorted({event.id for event in events})]
    if rows:
        statement = insert_or_nothing(session, SeenEvent).values(seen_at=db_now())
        session.connection().execute(statement, rows)


def forget_events(session: Session, ids: Collection[str]) -> None:
    """What they brought was not read after all: the archive may bring it once more."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), IDS_A_STATEMENT):
        listed = SeenEvent.id.in_(ordered[start : start + IDS_A_STATEMENT])
        session.execute(delete(SeenEvent).where(listed).execution_options(synchronize_session=False))


def _missed(turn: Turn, brought: Poll) -> MissedSpan | None:
    """The span between the newest event known before and the oldest usual one of this poll, if nothing overlapped."""
    usual = _usual(brought.times)
    if not brought.has_gap or turn.newest_seen_at is None or not usual:
        return None
    seconds_seen = max((usual[-1] - usual[0]).total_seconds(), 1.0)
    seconds_missed = max((usual[0] - turn.newest_seen_at).total_seconds(), 0.0)
    estimated = min(int(len(usual) / seconds_seen * seconds_missed), MOST_ESTIMATED)
    return MissedSpan(min(turn.newest_seen_at, usual[0]), usual[0], estimated, "no_overlap")


def _usual(ordered: Sequence[datetime]) -> Sequence[datetime]:
    """The times without those far from the middle half: some events are served hours late, some clocks are wrong."""
    if not ordered:
        return ordered
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    reach = STRAGGLING * max(high - low, timedelta(seconds=1))
    return [at for at in ordered if at - high <= reach and low - at <= reach]


def _is_stale(known: datetime | None, brought: Poll, usual: Sequence[datetime]) -> bool:
    """Whether GitHub answers, but with nothing younger than what it should be (it happens to some).

    `known`: the newest of all that was ever seen, for a list of which we are told only that it has not changed.
    """
    newest = usual[-1] if usual else known
    return newest is not None and brought.at - newest > STALE_AFTER


def _newest(before: datetime | None, times: Iterable[datetime | None], now: datetime) -> datetime | None:
    # A time in the future is somebody's wrong clock and would hide every lag after it.
    return max((at for at in [before, *times] if at is not None and at <= now), default=before)


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
