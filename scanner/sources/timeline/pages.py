"""Pages of the public timeline, told apart by a set of ids: the first one for pushes, all of them for texts.

GitHub has served pushes on page 1 only since May 2025, and issues, comments and reviews on pages 2 and 3. So the two
are two lists: each has its own interval, and its own gaps. https://docs.github.com/rest/activity/events
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
"""Events of page 1; all others bring texts."""
TEXTS_EARLY_SECONDS = 0.5
NEARLY_FULL = 90
"""Events of a page that has another behind it, where GitHub does not say: it leaves some out of its pages."""
IDS_KEPT = 3000
DEFAULT_INTERVAL = 60.0
MAX_CLOCK_SECONDS = 86_400
"""Between our clock and GitHub's; what is more is no clock."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the last poll stopped. `etags` by page number and `credential` (a label) they were given to.

    `is_stale`: the list that GitHub served then was an old one. `texts_at`: when pages 2 and 3 are due, in seconds
    since the epoch.
    """

    known_ids: tuple[str, ...] = ()
    etags: Mapping[str, str] = field(default_factory=dict)
    owed_pages: tuple[int, ...] = ()
    credential: str = ""
    is_stale: bool = False
    texts_at: float = 0.0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        return cls(
            known_ids=tuple(value.get("known_ids", ())),
            etags=dict(value.get("etags", {})),
            owed_pages=tuple(value.get("owed_pages", ())),
            credential=str(value.get("credential", "")),
            is_stale=bool(value.get("is_stale")),
            texts_at=float(value.get("texts_at", 0.0)),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "known_ids": list(self.known_ids),
            "etags": dict(self.etags),
            "owed_pages": list(self.owed_pages),
            "credential": self.credential,
            "is_stale": self.is_stale,
            "texts_at": round(self.texts_at, 1),
        }


@dataclass(slots=True)
class Kind:
    """Pushes or texts of one poll: their times, and whether one of them, or any at all, was seen before."""

    times: list[datetime] = field(default_factory=list)
    overlaps: bool = False
    was_known: bool = False

    @property
    def has_gap(self) -> bool:
        """Whether nothing of it was seen by the poll before, so that what lies between was never shown to us."""
        return self.was_known and bool(self.times) and not self.overlaps

    def add(self, events: Sequence[Event], known: Collection[str]) -> None:
        self.times = sorted([*self.times, *(event.created_at for event in events if event.created_at is not None)])
        self.overlaps = self.overlaps or any(event.id in known for event in events)


@dataclass(slots=True)
class Poll:
    """What one poll brought. `interval`: seconds that GitHub asks to leave between two polls.

    `at` is the time by GitHub's clock, ours may be wrong.
    """

    events: list[Event]
    cursor: Cursor
    interval: float
    counts: Counter[str]
    pushes: Kind
    texts: Kind
    error: GitHubError | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def times(self) -> list[datetime]:
        """The times of all that the lists held, in order."""
        return sorted([*self.pushes.times, *self.texts.times])

    @property
    def has_gap(self) -> bool:
        return self.pushes.has_gap or self.texts.has_gap


def poll_pages(github: GitHub, cursor: Cursor, now: float | None = None) -> Poll:
    """Ask for page 1, and for pages 2 and 3 if they are due. `now`: seconds since the epoch.

    An error on the first page is raised (GitHubError); on a later one it is reported, and the page is owed.
    """
    now = time.time() if now is None else now
    if cursor.credential != github.credential_label:
        cursor = replace(cursor, etags={}, credential=github.credential_label)
    are_texts_due = not now < cursor.texts_at <= now + leased_poll.MAX_INTERVAL_SECONDS
    last_page = PAGES if are_texts_due else 1
    known, etags, counts = set(cursor.known_ids), dict(cursor.etags), Counter[str]()
    events: dict[str, Event] = {}
    interval, error, owed = DEFAULT_INTERVAL, None, list[int]()
    pushes, texts = Kind(was_known=bool(known)), Kind(was_known=bool(known))
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
            counts["unusable_event"] += answer.unusable
            pushes.add([event for event in answer.events if event.type in PUSH_TYPES], known)
            texts.add([event for event in answer.events if event.type not in PUSH_TYPES], known)
            events.update({event.id: event for event in answer.events if event.id not in known})
            if answer.has_next and page < last_page:
                page += 1
                continue
        # Page 1 may be unchanged while a page that failed last time was never read.
        page = next((number for number in cursor.owed_pages if number > page), PAGES + 1)
    ids = tuple(dict.fromkeys([*events, *cursor.known_ids]))[:IDS_KEPT]
    # A poll of every minute must not find that the texts are due in a moment.
    texts_at = now + interval - TEXTS_EARLY_SECONDS if are_texts_due else cursor.texts_at
    after = Cursor(ids, etags, tuple(owed), cursor.credential, texts_at=texts_at)
    if not are_texts_due:
        # The few that stand on page 1 say nothing of the pages that were not asked for.
        texts.was_known = False
    return Poll(list(events.values()), after, interval, counts, pushes, texts, error, at)


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
