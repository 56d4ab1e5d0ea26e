"""Tests that the time ranges of repository search leave out no push time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.sources.repository_search.windows import (
    FIRST_SETTLE,
    LONG_PAUSE_SECONDS,
    LOOKS_AFTER,
    MAX_BEHIND_SECONDS,
    MAX_LAG_SECONDS,
    MAX_RESULTS,
    MAX_SETTLE,
    MAX_WIDTH,
    MIN_SETTLE,
    Plan,
    is_fewer,
)

NOW = 1_800_000_000.0


def test_a_cursor_is_unchanged_after_it_was_stored() -> None:
    plan = Plan(until=5, behind=[(1, 2), (3, 4)], compared=(7, 9), late=[0.5, 0.25, 0.0], debt=0.5, behind_rate=2.5)
    assert Plan.from_json(plan.to_json(), NOW) == plan
    assert Plan.from_json({}, NOW).until == int(NOW - FIRST_SETTLE)


@given(rates=st.lists(st.integers(0, 3000), min_size=1, max_size=40))
def test_windows_are_contiguous_at_any_rate(rates: list[int]) -> None:
    plan, seen = Plan(until=int(NOW)), []
    for rate in rates:
        window = plan.next_window(NOW + 1e6)
        assert window is not None
        while plan.is_too_wide(window, rate * (window[1] - window[0] + 1)):
            window = plan.next_window(NOW + 1e6)
            assert window is not None
        seen.append(window)
        plan.looked(window, rate * (window[1] - window[0] + 1))
    assert seen[0][0] == int(NOW)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(seen))
    assert all(1 <= end - start + 1 <= MAX_WIDTH for start, end in seen)


def test_a_window_is_as_wide_as_the_rate_allows() -> None:
    plan = Plan(until=int(NOW))
    for _ in range(30):
        window = plan.next_window(NOW + 1e6)
        assert window is not None
        assert not plan.is_too_wide(window, 66 * (window[1] - window[0] + 1))
        plan.looked(window, 66 * (window[1] - window[0] + 1))
    assert plan.width == 10
    assert 66 * plan.width < MAX_RESULTS


def test_a_window_waits_until_the_index_has_settled() -> None:
    plan = Plan(until=1000, width=10, settle=60)
    assert plan.next_window(1069.9) is None
    assert plan.due_in(1060) == 10
    assert plan.next_window(1070) == (1000, 1009)


def test_the_first_look_comes_later_if_entries_are_late_and_earlier_again_within_its_limits() -> None:
    plan = Plan(until=0, settle=60)
    for _ in range(20):
        plan.measured(0, 0.4)
    assert plan.settle == MAX_SETTLE
    for _ in range(400):
        plan.measured(0, 0.0)
    assert plan.settle == MIN_SETTLE
    plan.probed(47, rate=0.1)
    assert plan.settle == MIN_SETTLE, "on a GitHub with few pushes, the newest entry may be old"
    plan.probed(47, rate=66.0)
    assert plan.settle == 49
    plan.probed(1e9, rate=66.0)
    assert plan.settle == MAX_SETTLE
    plan.probed(20, rate=66.0)
    assert plan.settle == 22, "the index is fast again, so the first look comes soon"
    stored = Plan.from_json(plan.to_json(), 0.0)
    assert (stored.settle, stored.learned, stored.lag) == (22, MIN_SETTLE, 20)


def test_later_looks_read_windows_whole_while_the_index_adds_to_them() -> None:
    plan = Plan(until=0)
    assert [plan.is_worth_reading(1, number) for number in (0, 1, 7, 8)] == [True, False, False, True]
    for _ in range(20):
        plan.measured(1, 0.1)
    assert plan.is_worth_reading(1, 1)
    assert not plan.is_worth_reading(0, 1)
    assert len(plan.late) == len(LOOKS_AFTER)


def test_after_a_pause_new_pushes_come_first_and_the_pause_is_caught_up_with_newest_first() -> None:
    plan = Plan(until=int(NOW) - 3600, width=10)
    assert plan.leave_behind(NOW) == []
    assert plan.until == int(NOW - plan.settle)
    assert plan.behind == [(int(NOW) - 3600, plan.until - 1)]
    read = 0
    while (window := plan.next_behind()) is not None:
        read += window[1] - window[0] + 1
        plan.caught_up(window, 100, NOW)
    assert read == 3600 - plan.settle


def test_a_short_delay_is_not_left_behind() -> None:
    plan = Plan(until=int(NOW - FIRST_SETTLE - MAX_LAG_SECONDS + 1))
    plan.leave_behind(NOW)
    assert plan.behind == []


def test_spans_older_than_a_day_are_given_up_and_recorded() -> None:
    plan = Plan(until=int(NOW) - MAX_BEHIND_SECONDS - 500)
    given_up = plan.leave_behind(NOW)
    assert given_up == [(int(NOW) - MAX_BEHIND_SECONDS - 500, int(NOW) - MAX_BEHIND_SECONDS - 1)]
    assert plan.behind[0][0] == int(NOW) - MAX_BEHIND_SECONDS
    assert plan.leave_behind(NOW) == []


@given(
    spans=st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 2000)), max_size=150),
    until=st.integers(0, 200_000),
)
def test_every_second_is_either_caught_up_or_given_up(spans: list[tuple[int, int]], until: int) -> None:
    behind = [(start, start + length) for start, length in spans]
    plan = Plan(until=until, behind=list(behind))
    given_up = plan.leave_behind(200_000)
    before = sum(end - start + 1 for start, end in behind)
    added = max(plan.until - until, 0)
    after = sum(end - start + 1 for start, end in [*plan.behind, *given_up])
    assert after == before + added


def test_a_lasting_drop_of_the_rate_is_accepted_only_after_hours() -> None:
    plan = Plan(until=0, rate=70.0)
    hours = 0
    while plan.is_thin((plan.until, plan.until + 9), 350) and hours < 24:
        hours += 1
        for _ in range(360):
            plan.looked((plan.until, plan.until + 9), 350)
    assert 3 <= hours <= 8


@pytest.mark.parametrize(("rate", "total"), [(0.2, 1), (2.0, 12), (70.0, 600)])
def test_a_window_with_fewer_pushes_by_chance_does_not_count_as_incomplete(rate: float, total: int) -> None:
    assert not Plan(until=0, rate=rate).is_thin((0, 9), total)


def test_after_a_long_pause_fewer_pushes_do_not_count_as_lost() -> None:
    plan = Plan(until=0, rate=70.0)
    assert plan.is_after_pause(8 * 3600)
    plan.expect_less()
    assert not plan.is_thin((0, 9), 300)
    for _ in range(100):
        plan.looked((plan.until, plan.until + 9), 500)
    assert plan.rate == pytest.approx(50, rel=0.01)


def caught_up(plan: Plan, rates: list[float], now: float = NOW) -> list[bool]:
    """Search the skipped time ranges 100 s at a time, newest first. Return whether each search found too few pushes.

    Args:
        plan: The plan of the searches, with some skipped time ranges.
        rates: For each search, the number of pushes per second that it finds.
        now: The Unix time of the searches.
    """
    thin = []
    for rate in rates:
        plan.behind_width = 100
        window = plan.next_behind()
        assert window is not None
        usual = plan.expected_behind(window, now)
        thin.append(is_fewer(int(rate * 100), usual))
        plan.caught_up(window, int(rate * 100), now)
    return thin


def test_windows_of_long_ago_are_compared_with_the_next_newer_windows_and_not_with_the_present_rate() -> None:
    """Few pushes happen at night, so a low number does not prove that GitHub's index lost pushes."""
    plan = Plan(until=int(NOW), rate=70.0, behind=[(int(NOW) - 80_000, int(NOW) - LONG_PAUSE_SECONDS - 1)])
    evening = [70.0 - number for number in range(60)]
    assert not any(caught_up(plan, evening))
    assert all(caught_up(plan, [5.0] * 50))
    assert not any(caught_up(plan, [11.0] * 50))
    assert plan.rate == 70.0


def test_windows_of_the_last_hour_are_compared_with_the_present_rate() -> None:
    plan = Plan(until=int(NOW), rate=70.0, behind_rate=1.0, behind=[(int(NOW) - 1000, int(NOW) - 1)])
    assert caught_up(plan, [60.0, 30.0]) == [False, True]
    assert plan.behind_rate == 1.0
