"""One run of repository search: searches ranges of push times, the most urgent first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from scanner.github import repositories
from scanner.github.client import GitHub
from scanner.github.errors import BadCredential, Forbidden, GitHubError, RateLimited
from scanner.github.repositories import ListedRepository
from scanner.sources.polling.leased_poll import MissedSpan
from scanner.sources.repository_search import reading
from scanner.sources.repository_search.reading import WindowReading
from scanner.sources.repository_search.windows import (
    LOOKS_AFTER,
    MAX_RESULTS,
    NOT_SAMPLED,
    SHORT_SHARE,
    Plan,
    Span,
    is_fewer,
)

MAX_REQUESTS = 24
"""Limit of the requests of one run of repository search."""
MAX_SECONDS = 12.0
"""After this time, a run of repository search sends no new request."""
PROBE_SECONDS = 60.0
"""The age of the newest entry in GitHub's search index is measured at this interval."""
COMPARE_SECONDS = 600.0
"""GraphQL is compared with the REST search at this interval."""
COMPARE_AGAIN_SECONDS = 10.0
"""GraphQL and the REST search are compared again after this time if the compared range had too few repositories."""
MIN_COMPARED = 20
"""GraphQL and the REST search are compared only in a range with at least this many repositories."""
PARTIAL_SHARE = 0.5
"""If GraphQL shows less than this share of the REST search's count, its results count as partial."""
SPARE = 1.15
"""Windows are searched again only while the quota allows this many times the GraphQL points that first searches need.
"""
NODE_POINTS_A_SECOND = 0.2
"""GraphQL points a second that are left to the source of new repositories."""


@dataclass(frozen=True, slots=True)
class Look:
    """A range of push times (window) that is due to be searched again.

    Attributes:
        number: The number of the window, counted from the first window of the source.
        look: The number of the search, from 0 for the second search of the window.
        total: The number of repositories that GitHub reported at the latest search.
        seen: Ids of the repositories that the searches have found.
    """

    span: Span
    number: int
    look: int
    total: int
    seen: frozenset[int]


@dataclass(slots=True)
class SearchRun:
    """A run of repository search and its results. A window is a range of push times that one search covers.

    Attributes:
        found: The repositories that no earlier search of the same window has found.
        first: The windows that were searched for the first time, each with its number and result.
        again: The windows that were searched again, each with GitHub's total and the ids of all found repositories.
        missed: Ranges of push times whose repositories were not all seen.
        error: Why the whole run, or one of the two searches (GraphQL and REST), stopped early.
    """

    github: GitHub
    plan: Plan
    clock: Callable[[], float]
    due: Sequence[Look] = ()
    found: list[ListedRepository] = field(default_factory=list)
    first: list[tuple[Span, int, WindowReading]] = field(default_factory=list)
    again: list[tuple[Look, int, frozenset[int]]] = field(default_factory=list)
    missed: list[MissedSpan] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    error: GitHubError | None = None
    seconds: float = 0.0
    has_done_anything: bool = False
    _began: float = 0.0

    def run(self) -> None:
        """Search all windows that are due, within the limits of a run. Store an error in `error` instead of
        raising it.
        """
        self._began = now = self.clock()
        is_after_pause = self.plan.is_after_pause(now)
        for start, end in self.plan.leave_behind(now):
            self._miss((start, end), self.plan.expected((start, end)), "not_caught_up")
        if is_after_pause:
            self.plan.expect_less()
        try:
            self._probe(now)
            self._first_looks()
            self._later_looks()
            if self._is_paid_for() and not self.plan.is_partial:
                self._catch_up(reading.read)
        except GitHubError as err:
            self.error = err
        if isinstance(self.error, BadCredential):
            return
        try:
            # Use the REST search even if GraphQL has failed.
            self._catch_up(reading.read_by_rest)
        except RateLimited:
            self.counts["rest_quota_spent"] += 1
        except GitHubError as err:
            self.error = self.error or err
        if self.plan.is_partial:
            self.error = self.error or self._partial_view()

    def idle_seconds(self, now: float) -> float:
        """Return the seconds until the next search is due, or 0 if it is due already."""
        if self.error is not None and not self.plan.behind:
            return self.error.retry_after or 1.0
        if self.plan.behind:
            return 2.0
        return self.plan.due_in(now)

    def _is_enough(self) -> bool:
        asked = self.counts["requests"] + self.counts["rest_requests"]
        return asked >= MAX_REQUESTS or self.clock() - self._began > MAX_SECONDS

    def _first_looks(self) -> None:
        while not self._is_enough() and (window := self.plan.next_window(self.clock())):
            if self._is_over_budget():
                self.plan.skip(window)
                self.counts["windows_left_to_rest"] += 1
                continue
            found = reading.read(self.github, window)
            self._note(found)
            if found.is_too_wide and self.plan.is_too_wide(window, found.total):
                continue
            self._take(window, found)
            self._compare(window, found)

    def _take(self, window: Span, found: WindowReading) -> None:
        """Store the result of the first search of a window, and update the plan."""
        self.found += found.found.values()
        self.first.append((window, self.plan.windows, found))
        self.plan.looked(window, found.total)
        self.counts["windows"] += 1
        self.counts["repositories"] += len(found.found)
        self.counts["windows_thin"] += self.plan.is_thin(window, found.total)
        if found.total > MAX_RESULTS:
            self._miss(window, found.short, "over_1000_results")

    def _later_looks(self) -> None:
        for look in self.due:
            if self._is_enough():
                return
            if not self._is_paid_for():
                self.counts["looks_skipped"] += 1
                self._looked_again(look, look.total, look.seen)
                continue
            self._look_again(look)

    def _look_again(self, look: Look) -> None:
        begun = reading.count(self.github, look.span)
        found = begun[0]
        is_thin = self.plan.is_thin(look.span, max(found.total, len(look.seen)))
        is_short = found.total - len(look.seen | found.found.keys()) > SHORT_SHARE * found.total
        grew = found.total > look.total
        is_worth_it = self.plan.is_worth_reading(look.look, look.number)
        if (grew or is_thin or is_short or is_worth_it) and found.total <= MAX_RESULTS:
            found = reading.read(self.github, look.span, begun)
        self._note(found)
        fresh = [one for number, one in found.found.items() if number not in look.seen]
        seen = look.seen | found.found.keys()
        self.found += fresh
        self.counts["later_looks"] += 1
        self.counts["repositories_late"] += len(fresh)
        if self.plan.is_sample(look.number):
            # Measure sampled windows only. Other windows may be read again only in part, which would distort the
            # average.
            self.plan.measured(look.look, len(fresh) / max(len(seen), 1))
        self._looked_again(look, found.total, seen)

    def _looked_again(self, look: Look, total: int, seen: frozenset[int]) -> None:
        """Store the result of searching a range of push times once more."""
        self.again.append((look, total, seen))
        if look.look + 1 < len(LOOKS_AFTER) or total > MAX_RESULTS:
            return
        if self.plan.is_thin(look.span, max(total, len(seen))):
            self._miss(look.span, self.plan.expected(look.span) - len(seen), "index_incomplete")
        elif total - len(seen) > SHORT_SHARE * total:
            self._miss(look.span, total - len(seen), "results_not_shown")

    def _catch_up(self, read: Callable[[GitHub, Span], WindowReading]) -> None:
        while not self._is_enough() and (window := self.plan.next_behind()):
            self._catch_up_with(window, read(self.github, window))

    def _catch_up_with(self, window: Span, found: WindowReading) -> None:
        self._note(found)
        if found.is_too_wide and self.plan.is_too_wide(window, found.total):
            return
        now = self.clock()
        expected = self.plan.expected_behind(window, now)
        is_thin = is_fewer(found.total, expected)
        self.counts["windows_thin"] += is_thin
        self.plan.caught_up(window, found.total, now)
        self.found += found.found.values()
        self.counts["repositories_caught_up"] += len(found.found)
        self.counts["seconds_caught_up"] += window[1] - window[0] + 1
        if found.total > MAX_RESULTS:
            self._miss(window, found.short, "over_1000_results")
        elif now - window[1] < LOOKS_AFTER[-1]:
            # GitHub's index may still add pushes to this recent range, so search it again later.
            self.first.append((window, NOT_SAMPLED, found))
        elif is_thin:
            self._miss(window, expected - len(found.found), "index_incomplete")
        elif found.is_short:
            self._miss(window, found.short, "results_not_shown")

    def _probe(self, now: float) -> None:
        """Measure the age of the search index's newest entry, at most once every PROBE_SECONDS."""
        if now < self.plan.probe_at <= now + PROBE_SECONDS:
            return
        newest, page = reading.newest(self.github, now)
        self.plan.probe_at = now + PROBE_SECONDS
        self.has_done_anything = True
        self.seconds += page.seconds
        self.counts["requests"] += 1
        self.counts["points"] += page.points
        self.counts["milliseconds"] += round(1000 * page.seconds)
        if newest is not None:
            self.plan.probed(max(now - newest.timestamp(), 0.0), page.total / reading.PROBED_SECONDS)

    def _compare(self, window: Span, found: WindowReading) -> None:
        """Compare the number of repositories that GraphQL and the REST search report for a window."""
        if self.clock() < self.plan.compare_at <= self.clock() + COMPARE_SECONDS:
            return
        self.plan.compare_at = self.clock() + COMPARE_AGAIN_SECONDS
        try:
            page = repositories.search_by_rest(self.github, reading.words(window), 1, size=1)
        except RateLimited:
            return
        self.counts["rest_requests"] += 1
        self.plan.compared = (found.total, page.total)
        if page.total < MIN_COMPARED:
            return
        self.plan.compare_at = self.clock() + COMPARE_SECONDS
        if found.total < PARTIAL_SHARE * page.total:
            self.plan.skip_to_rest(window)
        else:
            self.plan.checked = window[1] + 1

    def _partial_view(self) -> Forbidden:
        shown, all_of_them = self.plan.compared
        message = (
            f"GraphQL search shows this credential {shown} of {all_of_them} repositories; the REST search is used,"
            " which shows fewer pushes: set GITHUB_TOKEN to a machine account's token"
        )
        return Forbidden("graphql_shows_a_part", message)

    def _is_over_budget(self) -> bool:
        """Return whether the next window must be searched by REST instead of GraphQL."""
        pace = self.github.gate.seconds_a_request("graphql")
        if self.plan.is_partial and self.clock() < self.plan.compare_at:
            return True
        self.plan.is_partial = False
        needed = self.plan.points_a_second()
        self.plan.debt += max(1 - 1 / (pace * needed), 0.0) if pace and needed else 0.0
        if self.plan.debt < 1:
            return False
        self.plan.debt -= 1
        return True

    def _is_paid_for(self) -> bool:
        """Return whether enough GraphQL points are left for all searches until the quota's reset."""
        pace = self.github.gate.seconds_a_request("graphql")
        return not pace or 1 / pace > SPARE * self.plan.points_a_second() + NODE_POINTS_A_SECOND

    def _note(self, found: WindowReading) -> None:
        self.has_done_anything = True
        self.seconds += found.seconds
        self.counts.update(found.counts)
        self.counts["short_by"] += found.short

    def _miss(self, span: Span, estimated: float, reason: str) -> None:
        start, end = (datetime.fromtimestamp(at, UTC) for at in span)
        if estimated >= 1:
            self.missed.append(MissedSpan(start, end, int(estimated), reason))
