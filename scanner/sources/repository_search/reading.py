"""Reads all search results for one range of push times, page by page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scanner.github import repositories
from scanner.github.client import GitHub
from scanner.github.errors import Unavailable
from scanner.github.repositories import PAGE_SIZE, ListedRepository, Page
from scanner.sources.repository_search.windows import MAX_RESULTS, MIN_WIDTH, SHORT_SHARE, Span

MAX_PASSES = 3
"""GraphQL reads a range of push times at most this many times."""
MAX_REST_PASSES = 2
"""The REST search reads a range of push times at most this many times."""
SMALL_PAGE = 25
"""The number of results in a page after GitHub has refused larger pages."""
TOO_HEAVY = ("query_too_heavy", "query_failed")
"""Reasons of an error after which a smaller page may succeed."""
MAX_PAGES = 10
PROBED_SECONDS = 3600
"""The newest entry of GitHub's search index is searched among the pushes of this many seconds."""


@dataclass(slots=True)
class WindowReading:
    """The result of searching one range of push times.

    Attributes:
        found: The repositories that GitHub showed, by id.
        total: The number of repositories that GitHub reports.
        short: How many of the reported repositories GitHub did not show.
        is_too_wide: Whether GitHub has more results than it can show, so that the range must be split.
        is_incomplete: Whether GitHub called an answer incomplete. `total` may then be too low.
    """

    found: dict[int, ListedRepository] = field(default_factory=dict)
    total: int = 0
    short: int = 0
    is_too_wide: bool = False
    seconds: float = 0.0
    is_incomplete: bool = False
    page_size: int = PAGE_SIZE
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def is_short(self) -> bool:
        """Return whether more repositories are missing than new pushes can explain."""
        return self.short > SHORT_SHARE * self.total

    def add(self, page: Page) -> None:
        self.found.update({one.id: one for one in page.repositories})
        self.total = page.total
        self.seconds += page.seconds
        self.counts["unusable_repository"] += page.unusable
        self.is_incomplete = self.is_incomplete or not page.is_whole
        self.counts["partial_answers"] += not page.is_whole
        self.counts["milliseconds"] += round(1000 * page.seconds)
        self.counts["points"] += page.points
        self.counts.update({f"graphql_{kind.lower()}": count for kind, count in page.errors.items()})

    def add_page(self, github: GitHub, span: Span, after: str | None, *, newest_first: bool = False) -> Page:
        """Read one page of results, add it, and return it."""
        try:
            page = repositories.search(github, words(span), after, newest_first=newest_first, size=self.page_size)
        except Unavailable as err:
            if err.reason not in TOO_HEAVY or self.page_size == SMALL_PAGE:
                raise
            self.counts.update(requests=1, pages_too_heavy=1)
            self.page_size = SMALL_PAGE
            return self.add_page(github, span, after, newest_first=newest_first)
        self.counts["requests"] += 1
        self.add(page)
        if not page.is_whole:
            self.counts["pages_too_heavy"] += 1
            self.page_size = SMALL_PAGE
        return page

    def add_pages(self, github: GitHub, span: Span, after: str | None, *, newest_first: bool = False) -> None:
        """Read and add the pages after the cursor `after`. "" stands for the first page, None for no page."""
        for _ in range(MAX_RESULTS // SMALL_PAGE):
            if after is None:
                return
            after = self.add_page(github, span, after or None, newest_first=newest_first).after


def count(github: GitHub, span: Span) -> tuple[WindowReading, str | None]:
    """Read the first page of results of a range of push times.

    Returns:
        The result so far, and the cursor of the next page.

    Raises:
        GitHubError: The page could not be read.
    """
    reading = WindowReading()
    return reading, reading.add_page(github, span, None).after


def read(github: GitHub, span: Span, begun: tuple[WindowReading, str | None] | None = None) -> WindowReading:
    """Read all results of a range of push times by GraphQL.

    Args:
        begun: The result of `count`, if the first page was already read.

    Raises:
        GitHubError: A page could not be read. The whole range then counts as not read.
    """
    reading, after = begun or count(github, span)
    if reading.total > MAX_RESULTS and span[1] - span[0] + 1 > MIN_WIDTH:
        reading.is_too_wide = True
        return reading
    for number in range(1, MAX_PASSES + 1):
        before = reading.total
        reading.add_pages(github, span, after)
        # A new push moves a repository out of this range, and the next page then skips another one. If many are
        # missing, read the range again.
        missing = max(min(reading.total, MAX_RESULTS) - len(reading.found), before - reading.total)
        if missing <= SHORT_SHARE * reading.total or number == MAX_PASSES:
            break
        reading.counts["passes_again"] += 1
        after = reading.add_page(github, span, None).after
    if reading.total > MAX_RESULTS:
        # A range of one second cannot be split, but the reverse order shows further results.
        reading.add_pages(github, span, "", newest_first=True)
    reading.short = max(reading.total - len(reading.found), 0)
    return reading


def read_by_rest(github: GitHub, span: Span) -> WindowReading:
    """Read all results of a range of push times by the REST search, which has a separate quota.

    Raises:
        GitHubError: A page could not be read.
    """
    reading = WindowReading()
    for _ in range(MAX_REST_PASSES):
        reading.is_incomplete = False
        for number in range(1, MAX_PAGES + 1):
            page = repositories.search_by_rest(github, words(span), number)
            reading.counts["rest_requests"] += 1
            reading.add(page)
            if number == 1 and reading.total > MAX_RESULTS and span[1] - span[0] + 1 > MIN_WIDTH:
                reading.is_too_wide = True
                return reading
            if page.after is None:
                break
        reading.short = max(reading.total - len(reading.found), 0)
        if reading.total > MAX_RESULTS or not (reading.is_short or reading.is_incomplete):
            break
    return reading


def newest(github: GitHub, now: float) -> tuple[datetime | None, Page]:
    """Return the time of the newest push in GitHub's search index, and the page of results with this push.

    The time is None if the index has no push of the last PROBED_SECONDS.
    """
    page = repositories.search(github, words((int(now) - PROBED_SECONDS, int(now) + 60)), newest_first=True)
    return max((one.pushed_at for one in page.repositories if one.pushed_at), default=None), page


def words(span: Span) -> str:
    """Return the search terms for repositories whose latest push is in the range of push times."""
    return repositories.pushed_between(datetime.fromtimestamp(span[0], UTC), datetime.fromtimestamp(span[1], UTC))
