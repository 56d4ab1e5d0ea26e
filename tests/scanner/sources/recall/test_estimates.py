"""Shares and totals that are estimated from marks keep within the intervals that they state."""

from __future__ import annotations

import random

import pytest

from scanner.sources.recall.estimates import Mark, delays, recall, share_of, total, total_of

NOW = 1_800_000_000.0


def test_a_push_counts_as_seen_by_the_first_listing_of_its_repository_from_then_on() -> None:
    marks = [Mark(1, 100.0, 101.0), Mark(2, 100.0, 101.0), Mark(3, 100.0, 101.0)]
    catches = [
        *(Mark(1, 300.0, 360.0), Mark(1, 99.0, 160.0)),
        # Pushed before, so this says nothing of the mark.
        Mark(2, 50.0, 110.0),
    ]
    assert delays(marks, catches) == [60.0, None, None]


def test_a_share_is_of_marks_for_which_the_time_is_over() -> None:
    marks = [Mark(number, NOW - 400 * number, NOW - 400 * number + 5) for number in range(1, 11)]
    catches = [Mark(mark.repository_id, mark.pushed_at, mark.pushed_at + 120) for mark in marks[:6]]
    found = recall(marks, catches, NOW)
    assert (found[60].seen, found[60].marks) == (0, 10)
    assert (found[300].seen, found[300].marks) == (6, 10)
    assert (found[3600].seen, found[3600].marks) == (0, 2)
    assert 86_400 not in found


def test_a_push_that_was_seen_late_is_no_mark() -> None:
    assert recall([Mark(1, NOW - 5000, NOW - 100)], [], NOW) == {}


def test_nothing_is_estimated_without_marks() -> None:
    assert share_of(0, 0) is None
    assert total_of(10, 10, 0) is None


@pytest.mark.parametrize(("seen", "marks"), [(0, 20), (20, 20), (1, 5000), (4999, 5000)])
def test_an_interval_lies_between_none_and_all_and_holds_its_share(seen: int, marks: int) -> None:
    found = share_of(seen, marks)
    assert found is not None
    assert 0 <= found.low <= seen / marks <= found.high <= 1
    assert found.low < found.high


def test_the_total_lies_in_its_interval_in_at_least_93_percent_of_simulated_days() -> None:
    """200 days of different rates and lags; the two sources miss independently of each other."""
    chance = random.Random(7)
    held, shares_held = 0, 0
    for _ in range(200):
        pushes = chance.randint(600, 1500)
        events, search, lag = chance.uniform(0.05, 0.2), chance.uniform(0.4, 0.99), chance.uniform(10, 900)
        first = [Mark(number, number, number + 5) for number in range(pushes) if chance.random() < events]
        second = [
            Mark(number, number, number + chance.expovariate(1 / lag))
            for number in range(pushes)
            if chance.random() < search
        ]
        found = total(first, second)
        assert found is not None
        held += found.low <= pushes <= found.high
        measured = recall(first, second, 1e9)[86_400]
        shares_held += measured.low <= search <= measured.high
    assert held >= 0.93 * 200
    # Of 200 intervals that hold in 95 % of all cases, fewer than 91 % hold once in two hundred times.
    assert shares_held >= 0.91 * 200


def test_sources_that_favour_the_same_pushes_make_the_total_too_low() -> None:
    """The known weakness, which the docs name: no interval tells of it."""
    chance = random.Random(3)
    favoured = [chance.random() < 0.5 for _ in range(8000)]
    first = [Mark(number, number, number) for number, good in enumerate(favoured) if good and chance.random() < 0.1]
    second = [Mark(number, number, number) for number, good in enumerate(favoured) if good or chance.random() < 0.2]
    found = total(first, second)
    assert found is not None
    assert found.high < 8000
