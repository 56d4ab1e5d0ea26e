"""Polls the pages of GitHub's public events: https://docs.github.com/rest/activity/events

Since May 2025, pushes have been only on page 1, and issues, comments and reviews on pages 2 and 3.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx

from scanner.github.client import GitHub, get_json
from scanner.github.errors import GitHubError
from scanner.github.rate_limit import server_time
from scanner.sources.polling import leased_poll
from scanner.sources.timeline.events import Event, parse_event

PAGES = 3
PAGE_SIZE = 100
PUSH_TYPES = ("PushEvent", "CreateEvent", "DeleteEvent", "PublicEvent")
"""Types of the events on page 1."""
TEXTS_EARLY_SECONDS = 0.5
"""Pages 2 and 3 become due this many seconds early."""
NEARLY_FULL = 90
"""A page with at least this many events probably has a next page."""
IDS_KEPT = 3000
DEFAULT_INTERVAL = 60.0
MAX_CLOCK_SECONDS = 86_400
"""Largest plausible difference between our clock and GitHub's."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a poll of GitHub's public events stores for the next poll.

    Attributes:
        known_ids: The ids of events that were seen, the most recently seen first.
        owed_pages: The numbers of pages that could not be read. The next poll reads them.
        credential: The label of the credential for which GitHub issued the ETags.
        is_stale: Whether GitHub served an outdated list.
        texts_at: When pages 2 and 3 are due, in seconds since the epoch.
        clock_seconds: GitHub's clock minus our clock at the last answer, in seconds.
        interval: The seconds between polls that GitHub asked for at the last answer. 0: there was no poll yet.
    """

    known_ids: tuple[str, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    owed_pages: tuple[int, ...] = ()
    credential: str = ""
    is_stale: bool = False
    texts_at: float = 0.0
    clock_seconds: float = 0.0
    interval: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        return cls(
            known_ids=tuple(value.get("known_ids", ())),
            etags=dict(value.get("etags", {})),
            owed_pages=tuple(value.get("owed_pages", ())),
            credential=str(value.get("credential", "")),
            is_stale=bool(value.get("is_stale")),
            texts_at=float(value.get("texts_at", 0.0)),
            clock_seconds=float(value.get("clock_seconds", 0.0)),
            interval=float(value.get("interval", 0.0)),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "known_ids": list(self.known_ids),
            "etags": dict(self.etags),
            "owed_pages": list(self.owed_pages),
            "credential": self.credential,
            "is_stale": self.is_stale,
            "texts_at": round(self.texts_at, 1),
            "clock_seconds": round(self.clock_seconds),
            "interval": self.interval,
        }


@dataclass(slots=True)
class EventList:
    """The times of one group of events of a poll: either all push events, or all other events.

    Attributes:
        times: The times of the events, in order.
        overlaps: Whether an earlier poll has seen one of the events.
        was_known: Whether the events can be compared with those of earlier polls.
    """

    times: list[datetime] = field(default_factory=list)
    overlaps: bool = False
    was_known: bool = False

    @property
    def has_gap(self) -> bool:
        """Return whether events between the last poll and this one may be missing."""
        return self.was_known and bool(self.times) and not self.overlaps

    def add(self, events: Sequence[Event], known: Collection[str]) -> None:
        self.times = sorted([*self.times, *(event.created_at for event in events if event.created_at is not None)])
        self.overlaps = self.overlaps or any(event.id in known for event in events)


@dataclass(slots=True)
class TimelinePoll:
    """The result of one poll of GitHub's public events.

    Attributes:
        interval: The seconds between polls that GitHub asks for.
        pushes: The times of the events with a type in `PUSH_TYPES`, and whether earlier polls saw some of them.
        texts: The times of all other events, and whether earlier polls saw some of them.
    """

    events: list[Event]
    cursor: Cursor
    interval: float
    counts: Counter[str]
    pushes: EventList
    texts: EventList
    error: GitHubError | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def times(self) -> list[datetime]:
        """Return the times of all events, in order."""
        return sorted([*self.pushes.times, *self.texts.times])

    @property
    def has_gap(self) -> bool:
        return self.pushes.has_gap or self.texts.has_gap


def poll_pages(github: GitHub, cursor: Cursor, now: float | None = None) -> TimelinePoll:
    """Read page 1 of GitHub's public events, and pages 2 and 3 if they are due.

    If page 2 or 3 fails, the result contains the error.

    Args:
        now: The current time in seconds since the epoch. None: the system's time.

    Raises:
        GitHubError: Page 1 could not be read.
    """
    now = time.time() if now is None else now
    if cursor.credential != github.credential_label:
        cursor = replace(cursor, etags={}, credential=github.credential_label)
    are_texts_due = not now < cursor.texts_at <= now + leased_poll.MAX_INTERVAL_SECONDS
    last_page = PAGES if are_texts_due else 1
    known, etags, counts = set(cursor.known_ids), dict(cursor.etags), Counter[str]()
    events: dict[str, Event] = {}
    interval, error, owed = DEFAULT_INTERVAL, None, list[int]()
    pushes, texts = EventList(was_known=bool(known)), EventList(was_known=bool(known))
    at, clock_seconds = datetime.now(UTC), cursor.clock_seconds
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
        at, clock_seconds = _time(answer.response), server_time(answer.response) - time.time()
        if answer.etag:
            etags[str(page)] = answer.etag
        counts["requests"] += 1
        if answer.events is None:
            counts["not_modified"] += 1
        else:
            counts["unusable_event"] += answer.unusable
            pushes.add([event for event in answer.events if event.type in PUSH_TYPES], known)
            texts.add([event for event in answer.events if event.type not in PUSH_TYPES], known)
            events.update({event.id: event for event in answer.events if event.id not in known})
            if answer.has_next and page < last_page:
                page += 1
                continue
        # If the previous poll could not read some pages, read them now, even if page 1 has not changed.
        page = next((number for number in cursor.owed_pages if number > page), PAGES + 1)
    ids = tuple(dict.fromkeys([*events, *cursor.known_ids]))[:IDS_KEPT]
    # Make pages 2 and 3 due a little early. Otherwise a regular poll a moment before that time would leave them out.
    texts_at = now + interval - TEXTS_EARLY_SECONDS if are_texts_due else cursor.texts_at
    after = Cursor(
        ids, etags, tuple(owed), cursor.credential, texts_at=texts_at, clock_seconds=clock_seconds, interval=interval
    )
    if not are_texts_due:
        # Without pages 2 and 3, this poll cannot tell whether their events were missed.
        texts.was_known = False
    return TimelinePoll(list(events.values()), after, interval, counts, pushes, texts, error, at)


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
    """Return the time of the answer by GitHub's clock. If the clock is implausible, use our clock."""
    ours, theirs = time.time(), server_time(response)
    return datetime.fromtimestamp(theirs if abs(theirs - ours) < MAX_CLOCK_SECONDS else ours, UTC)


def _interval(response: httpx.Response, default: float) -> float:
    try:
        seconds = float(response.headers.get("x-poll-interval", default))
    except ValueError:
        return default
    return (
        min(max(seconds, leased_poll.MIN_INTERVAL_SECONDS), leased_poll.MAX_INTERVAL_SECONDS)
        if seconds == seconds
        else default
    )
