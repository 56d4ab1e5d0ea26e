"""Pages of the public timeline: asked for while they are full and bring something new, told apart by a set of ids.

https://docs.github.com/rest/activity/events
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
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
NEARLY_FULL = 90
"""Events of a page that has another behind it, where GitHub does not say: it leaves some out of its pages."""
IDS_KEPT = 1500
DEFAULT_INTERVAL = 60.0
MAX_CLOCK_SECONDS = 86_400
"""Between our clock and GitHub's; what is more is no clock."""


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
