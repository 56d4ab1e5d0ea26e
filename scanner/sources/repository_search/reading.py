"""Reads one span of time from repository search: page after page, again while GitHub counts more than it shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scanner.github import repositories
from scanner.github.client import GitHub
from scanner.github.repositories import ListedRepository, Page
from scanner.sources.repository_search.windows import MAX_RESULTS, MIN_WIDTH, Span

MAX_PASSES = 3
"""Times that one span is read before what is missing is left to a later look."""
MAX_PAGES = 10
PROBED_SECONDS = 3600
"""How far back the index's newest entry is looked for."""
SHORT_SHARE = 0.01
"""Share of the count that may be missing without another pass: at any time some repositories are pushed again."""


@dataclass(slots=True)
class WindowReading:
    """What the span holds. `total` is GitHub's count; `found` has the repositories by id; `short`: still missing.

    `is_too_wide`: there are more results than GitHub shows, and the span can be divided; nothing else was read then.
    """

    found: dict[int, ListedRepository] = field(default_factory=dict)
    total: int = 0
    short: int = 0
    is_too_wide: bool = False
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, page: Page) -> None:
        self.found.update({one.id: one for one in page.repositories})
        self.total = page.total
        self.seconds += page.seconds
        self.counts["unusable_repository"] += page.unusable
        self.counts["partial_answers"] += not page.is_whole
        self.counts["points"] += page.points
        self.counts.update({f"graphql_{kind.lower()}": count for kind, count in page.errors.items()})


def count(github: GitHub, span: Span) -> tuple[WindowReading, str | None]:
    """Ask for the first page of a span: the count, the first results, and what to ask for the next page with."""
    reading = WindowReading()
    page = repositories.search(github, words(span))
    reading.counts["requests"] += 1
    reading.add(page)
    return reading, page.after


def read(github: GitHub, span: Span, begun: tuple[WindowReading, str | None] | None = None) -> WindowReading:
    """Read a span by GraphQL, from its second page on if `count` has asked for the first.

    Raises GitHubError, and then nothing of it counts as read.
    """
    reading, after = begun or count(github, span)
    if reading.total > MAX_RESULTS and span[1] - span[0] + 1 > MIN_WIDTH:
        reading.is_too_wide = True
        return reading
    for number in range(1, MAX_PASSES + 1):
        before = reading.total
        _read_pages(github, span, after, reading)
        # A repository that is pushed again leaves, and those behind it move up: one of them may be jumped over.
        missing = max(min(reading.total, MAX_RESULTS) - len(reading.found), before - reading.total)
        if missing <= SHORT_SHARE * reading.total or number == MAX_PASSES:
            break
        reading.counts["passes_again"] += 1
        page = repositories.search(github, words(span))
        reading.counts["requests"] += 1
        reading.add(page)
        after = page.after
    if reading.total > MAX_RESULTS:
        # One second cannot be divided, but read from its other end it shows as many once more.
        _read_pages(github, span, "", reading, newest_first=True)
    reading.short = max(reading.total - len(reading.found), 0)
    return reading


def read_by_rest(github: GitHub, span: Span) -> WindowReading:
    """Read a span by the REST search, which has a quota of its own. Raises GitHubError."""
    reading = WindowReading()
    for number in range(1, MAX_PAGES + 1):
        page = repositories.search_by_rest(github, words(span), number)
        reading.counts["rest_requests"] += 1
        reading.add(page)
        if number == 1 and reading.total > MAX_RESULTS and span[1] - span[0] + 1 > MIN_WIDTH:
            reading.is_too_wide = True
            break
        if page.after is None:
            break
    reading.short = max(reading.total - len(reading.found), 0)
    return reading


def newest(github: GitHub, now: float) -> tuple[datetime | None, Page]:
    """Return when the newest push was that the index knows of; None if it knows of none within the last hour."""
    page = repositories.search(github, words((int(now) - PROBED_SECONDS, int(now) + 60)), newest_first=True)
    return max((one.pushed_at for one in page.repositories if one.pushed_at), default=None), page


def words(span: Span) -> str:
    return repositories.pushed_between(datetime.fromtimestamp(span[0], UTC), datetime.fromtimestamp(span[1], UTC))


def _read_pages(
    github: GitHub, span: Span, after: str | None, reading: WindowReading, *, newest_first: bool = False
) -> None:
    """Read the pages that follow; `after` empty: from the first one on."""
    for _ in range(MAX_PAGES):
        if after is None:
            return
        page = repositories.search(github, words(span), after or None, newest_first=newest_first)
        reading.counts["requests"] += 1
        reading.add(page)
        after = page.after
