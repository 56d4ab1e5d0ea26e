"""How code search is walked: a round asks every query once, in parts by file size where it has too many results. Pure.

A part ("shard") is a query and a range of sizes, the only qualifier that divides results without overlap and without
rest. Shards are walked page by page, in turn, so that one large query does not hold up the others.
https://docs.github.com/rest/search/search#about-search
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
"""Of a page that comes with `incomplete_results`."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Sizes `low` to `high` (bytes, inclusive) of the query with this number; all sizes when `is_whole`."""

    query: int
    low: int = 0
    high: int = MAX_SIZE_BYTES
    page: int = 1
    tries: int = 0
    is_whole: bool = True

    def text(self, queries: Sequence[str]) -> str:
        """What is asked."""
        query = queries[self.query]
        return query if self.is_whole else f"{query} size:{self.low}..{self.high}"

    def halves(self) -> tuple[Shard, Shard]:
        """Two shards with the same files. Small files are many: it is cut where both halves are about as full."""
        middle = int(((self.low + 1) * (self.high + 1)) ** 0.5) - 1
        middle = min(max(middle, self.low), self.high - 1)
        return (
            Shard(self.query, self.low, middle, is_whole=False),
            Shard(self.query, middle + 1, self.high, is_whole=False),
        )


@dataclass(frozen=True, slots=True)
class Round:
    """A walk through all queries. Counts are of results; `expected` by GitHub's own totals, which drift."""

    waiting: tuple[Shard, ...]
    started_at: str = ""
    requests: int = 0
    results: int = 0
    expected: int = 0
    unreachable: int = 0
    incomplete: int = 0

    @classmethod
    def begin(cls, query_count: int, at: str) -> Round:
        """A new round."""
        return cls(tuple(Shard(number) for number in range(query_count)), started_at=at)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Round:
        waiting = tuple(Shard(*shard) for shard in value["waiting"])
        return cls(**{**value, "waiting": waiting})

    def to_json(self) -> dict[str, Any]:
        shards = [[s.query, s.low, s.high, s.page, s.tries, s.is_whole] for s in self.waiting]
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
        """The share of the results that was seen, 0 to 1."""
        return 1.0 if not self.expected else min(self.results / self.expected, 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """The round after one answer, and counts of what was noticed."""

    round: Round
    counts: Mapping[str, int] = field(default_factory=dict)


def after_answer(current: Round, *, found: int, total: int, is_incomplete: bool) -> Step:
    """What is left to ask after the first waiting shard was answered with `found` results of `total`."""
    shard, *rest = current.waiting
    after = replace(current, waiting=tuple(rest), requests=current.requests + 1)
    if is_incomplete and shard.tries + 1 < MAX_TRIES:
        again = replace(shard, tries=shard.tries + 1)
        return Step(replace(after, waiting=(*rest, again)), {"incomplete_results": 1})
    counts: dict[str, int] = {}
    if is_incomplete:
        counts["given_up_incomplete"] = 1
        after = replace(after, incomplete=after.incomplete + 1)
    if shard.page == 1 and total > PAGE_SIZE * MAX_PAGES and shard.low < shard.high:
        if len(rest) + 2 <= MAX_SHARDS:
            return Step(replace(after, waiting=(*rest, *shard.halves())), {**counts, "shards_split": 1})
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
    return Step(after, counts)


def after_refusal(current: Round) -> Round:
    """The round without its first shard, of which GitHub wants to hear nothing (422: a query that it does not take)."""
    return replace(current, waiting=current.waiting[1:], requests=current.requests + 1)
