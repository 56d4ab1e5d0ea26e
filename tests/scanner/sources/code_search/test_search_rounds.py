"""Tests that code search reads all results of its queries, and splits large queries by file size."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.sources.code_search.rounds import (
    MAX_SHARDS,
    MAX_SIZE_BYTES,
    PAGE_SIZE,
    Round,
    SearchShard,
    after_answer,
    after_refusal,
)


def walk(index: Sequence[int], queries: int = 1, most: int = 100_000) -> tuple[Round, set[int], int]:
    """Run all search queries to their end, with answers like GitHub's.

    Args:
        index: The size in bytes of each file that matches the queries.
        queries: The number of queries.
        most: The number of requests at which the test fails.

    Returns:
        The ended search round, the numbers of the files that it saw, and the number of requests.
    """
    current = Round.begin(queries, "2026-01-01T00:00:00+00:00")
    seen: set[int] = set()
    requests = 0
    while current.waiting:
        shard = current.waiting[0]
        matching = [number for number, size in enumerate(index) if shard.low <= size <= shard.high]
        page = matching[:1000][(shard.page - 1) * PAGE_SIZE : shard.page * PAGE_SIZE]
        seen.update(page)
        step = after_answer(current, found=len(page), total=len(matching), is_incomplete=False)
        current = Round.from_json(step.round.to_json())
        requests += 1
        assert requests < most
    return current, seen, requests


@given(st.lists(st.integers(0, MAX_SIZE_BYTES), max_size=4000))
@settings(max_examples=15, deadline=None)
def test_every_result_of_any_index_is_seen(index: list[int]) -> None:
    ended, seen, _ = walk(index)
    reachable = sum(min(index.count(size), 1000) for size in set(index))
    assert len(seen) >= reachable
    assert ended.coverage == 1.0 or ended.unreachable


def test_thirty_thousand_results_take_few_more_requests_than_pages() -> None:
    chance = random.Random(1)
    index = [int(MAX_SIZE_BYTES ** chance.random()) for _ in range(30_000)]
    ended, seen, requests = walk(index)
    assert len(seen) > 0.97 * len(index)
    assert requests < 700
    assert abs(ended.expected - len(index)) < 0.01 * len(index)


def test_results_that_cannot_be_split_are_counted() -> None:
    ended, seen, _ = walk([77] * 1500)
    assert (len(seen), ended.unreachable, ended.expected) == (1000, 500, 1500)
    assert 0.66 < ended.coverage < 0.67


def test_the_halves_of_a_shard_contain_each_of_its_files_once() -> None:
    todo, leaves = [SearchShard(0)], []
    while todo:
        shard = todo.pop()
        if shard.high - shard.low < 3:
            leaves.append(shard)
        else:
            low, high = shard.halves()
            assert (low.low, low.high + 1, high.high) == (shard.low, high.low, shard.high)
            todo += [low, high]
            if len(leaves) > 50:
                break


def test_large_queries_do_not_delay_small_ones() -> None:
    current = Round.begin(3, "2026-01-01T00:00:00+00:00")
    asked = []
    for _ in range(6):
        asked.append(current.waiting[0].query)
        current = after_answer(current, found=100, total=900, is_incomplete=False).round
    assert asked == [0, 1, 2, 0, 1, 2]


def test_incomplete_answers_are_requested_again_and_then_counted() -> None:
    current = Round.begin(1, "2026-01-01T00:00:00+00:00")
    noted: dict[str, int] = {}
    requests = 0
    while current.waiting:
        step = after_answer(current, found=10, total=10, is_incomplete=True)
        for name, count in step.counts.items():
            noted[name] = noted.get(name, 0) + count
        current, requests = step.round, requests + 1
    assert (requests, noted, current.incomplete) == (3, {"incomplete_results": 2, "given_up_incomplete": 1}, 1)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5000), st.booleans()), max_size=300))
def test_drifting_totals_neither_crash_nor_prolong_a_round(answers: list[tuple[int, int, bool]]) -> None:
    current = Round.begin(2, "2026-01-01T00:00:00+00:00")
    for found, total, is_incomplete in answers:
        if not current.waiting:
            break
        current = after_answer(current, found=found, total=total, is_incomplete=is_incomplete).round
        assert len(current.waiting) <= MAX_SHARDS
        assert 0 <= current.coverage <= 1
    requests = 0
    while current.waiting:
        current = after_answer(current, found=0, total=0, is_incomplete=False).round
        requests += 1
    assert requests <= MAX_SHARDS


def test_a_query_that_github_refuses_is_skipped() -> None:
    current = after_refusal(Round.begin(2, "2026-01-01T00:00:00+00:00"))
    assert [shard.query for shard in current.waiting] == [1]
