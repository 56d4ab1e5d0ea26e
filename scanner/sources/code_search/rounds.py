"""The rounds of code search. A round searches once for every query, page by page.

A query with too many results is split by file size into shards: https://docs.github.com/rest/search/search#about-search
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

PAGE_SIZE = 100
MAX_PAGES = 10
MAX_SIZE_BYTES = 384 * 1024
MAX_SHARDS = 2000
MAX_TRIES = 3
"""Attempts to get a page that GitHub calls incomplete."""


@dataclass(frozen=True, slots=True)
class SearchShard:
    """A query for files in a range of sizes.

    Attributes:
        query: The index of the query in the configured queries, from 0.
        low: The smallest file size in bytes.
        high: The largest file size in bytes.
        page: The next page of results to request, from 1.
        tries: The number of incomplete answers to requests for this page.
        is_whole: Whether the range covers all file sizes.
    """

    query: int
    low: int = 0
    high: int = MAX_SIZE_BYTES
    page: int = 1
    tries: int = 0
    is_whole: bool = True

    def text(self, queries: Sequence[str]) -> str:
        """Return the text of the search request. `queries` are the configured queries."""
        query = queries[self.query]
        return query if self.is_whole else f"{query} size:{self.low}..{self.high}"

    def halves(self) -> tuple[SearchShard, SearchShard]:
        """Split the range of file sizes into two ranges that have about the same number of files."""
        # Most files are small, so split at the geometric mean.
        middle = int(((self.low + 1) * (self.high + 1)) ** 0.5) - 1
        middle = min(max(middle, self.low), self.high - 1)
        return (
            SearchShard(self.query, self.low, middle, is_whole=False),
            SearchShard(self.query, middle + 1, self.high, is_whole=False),
        )


_SHARD_FIELDS = ("query", "low", "high", "page", "tries", "is_whole")
"""The fields of a shard in the order in which the cursor stores their values."""


@dataclass(frozen=True, slots=True)
class Round:
    """One search for every configured query, page by page.

    Attributes:
        waiting: The shards (queries with a range of file sizes) with pages to request, the next one first.
        expected: The total number of results, according to GitHub's answers.
        unreachable: The number of results that GitHub does not show.
        incomplete: The number of pages that were incomplete in every attempt.
    """

    waiting: tuple[SearchShard, ...]
    started_at: str = ""
    requests: int = 0
    results: int = 0
    expected: int = 0
    unreachable: int = 0
    incomplete: int = 0

    @classmethod
    def begin(cls, query_count: int, at: str) -> Round:
        """Return a new round that begins at the time `at`."""
        return cls(tuple(SearchShard(number) for number in range(query_count)), started_at=at)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Round:
        waiting = tuple(SearchShard(**dict(zip(_SHARD_FIELDS, shard, strict=False))) for shard in value["waiting"])
        return cls(**{**value, "waiting": waiting})

    def to_json(self) -> dict[str, Any]:
        shards = [[getattr(shard, name) for name in _SHARD_FIELDS] for shard in self.waiting]
        return {
            "waiting": shards,
            "started_at": self.started_at,
            "requests": self.requests,
            "results": self.results,
            "expected": self.expected,
            "unreachable": self.unreachable,
            "incomplete": self.incomplete,
        }

    @property
    def coverage(self) -> float:
        """Return the share (0 to 1) of the expected results that were received."""
        return 1.0 if not self.expected else min(self.results / self.expected, 1.0)


@dataclass(frozen=True, slots=True)
class RoundUpdate:
    """The state of a round of code search after one answer of GitHub, and counters of what the answer contained."""

    round: Round
    counts: Mapping[str, int] = field(default_factory=dict)


def after_answer(current: Round, *, found: int, total: int, is_incomplete: bool) -> RoundUpdate:
    """Return the round after GitHub's answer to the request for the first waiting shard (query and file sizes).

    Args:
        found: The number of results in the answer.
        total: GitHub's total of results for the shard.
        is_incomplete: Whether GitHub says that the answer is incomplete.
    """
    shard, *rest = current.waiting
    after = replace(current, waiting=tuple(rest), requests=current.requests + 1)
    if is_incomplete and shard.tries + 1 < MAX_TRIES:
        again = replace(shard, tries=shard.tries + 1)
        return RoundUpdate(replace(after, waiting=(*rest, again)), {"incomplete_results": 1})
    counts: dict[str, int] = {}
    if is_incomplete:
        counts["given_up_incomplete"] = 1
        after = replace(after, incomplete=after.incomplete + 1)
    if shard.page == 1 and total > PAGE_SIZE * MAX_PAGES and shard.low < shard.high:
        if len(rest) + 2 <= MAX_SHARDS:
            return RoundUpdate(replace(after, waiting=(*rest, *shard.halves())), {**counts, "shards_split": 1})
        counts["shards_over_limit"] = 1
    reachable = min(total, PAGE_SIZE * MAX_PAGES)
    if shard.page == 1:
        unreachable = total - reachable
        after = replace(after, expected=after.expected + total, unreachable=after.unreachable + unreachable)
        if unreachable:
            counts["results_unreachable"] = unreachable
    after = replace(after, results=after.results + found)
    if found and shard.page < MAX_PAGES and shard.page * PAGE_SIZE < reachable:
        following = replace(shard, page=shard.page + 1, tries=0)
        after = replace(after, waiting=(*rest, following))
    return RoundUpdate(after, counts)


def after_refusal(current: Round) -> Round:
    """Return the round after GitHub has refused a request (status 422). The refused query is removed."""
    return replace(current, waiting=current.waiting[1:], requests=current.requests + 1)
