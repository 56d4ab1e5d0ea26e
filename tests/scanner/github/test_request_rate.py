"""Tests for the request rate that all workers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scanner.github.errors import RateLimited
from scanner.github.request_rate import (
    HALVE_PAUSE_SECONDS,
    MAX_WAIT_SECONDS,
    MIN_PER_SECOND,
    WINDOW_SECONDS,
    RateBounds,
    RateLimiter,
    RequestRate,
    refused,
    reserved,
)

NOW = 1_800_000_000.0
BOUNDS = RateBounds(5.0, 7.0)
NEW = RequestRate("token", "git", 5.0, window_began_at=NOW)


class Clock:
    """A clock that advances only when its `sleep` is called."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Memory:
    """Stores the request rate in memory instead of in the database.

    `ahead` is the number of seconds by which the simulated database's clock is ahead of `clock`.
    """

    def __init__(self, clock: Clock, ahead: float = 0.0) -> None:
        self.clock, self.ahead, self.away = clock, ahead, False
        self.row: RequestRate | None = None

    def update_rate(
        self, first: RequestRate, change: Callable[[RequestRate, float], RequestRate]
    ) -> tuple[RequestRate, RequestRate, float]:
        if self.away:
            raise ConnectionError("the database is unavailable")
        before, now = self.row or first, self.clock() + self.ahead
        self.row = change(before, now)
        return before, self.row, now


def limiter(clock: Clock, memory: Memory | None = None, bounds: RateBounds = BOUNDS) -> RateLimiter:
    return RateLimiter("token", "git", bounds, memory, clock=clock, sleep=clock.sleep)


def test_a_fully_used_rate_rises_by_one_a_minute_up_to_its_maximum() -> None:
    rate, seen = NEW, []
    for minute in range(1, 5):
        sent = int(rate.per_second * WINDOW_SECONDS)
        rate = reserved(rate, NOW + minute * WINDOW_SECONDS, count=1, sent=sent, bounds=BOUNDS)
        seen.append(rate.per_second)
    assert seen == [6.0, 7.0, 7.0, 7.0]


@pytest.mark.parametrize(("sent", "seconds"), [(60, 60), (3000, 600), (0, 60)])
def test_a_rate_that_nobody_needs_does_not_rise(sent: int, seconds: int) -> None:
    assert reserved(NEW, NOW + seconds, count=1, sent=sent, bounds=BOUNDS).per_second == 5.0


def test_a_refusal_halves_the_observed_rate_and_refusals_close_together_count_once() -> None:
    fast = replace(NEW, per_second=100.0)
    once = refused(fast, NOW + 10, sent=80)
    assert once.per_second == 4.0, "half of the 8 requests a second that were sent"
    again = refused(once, NOW + 11, sent=0)
    assert (again.per_second, again.refusals) == (4.0, 2)
    later = refused(again, NOW + 11 + HALVE_PAUSE_SECONDS, sent=0)
    assert later.per_second == 0.5
    for number in range(10):
        later = refused(later, NOW + 1000 * (number + 1), sent=0)
    assert later.per_second == MIN_PER_SECOND


def test_a_learned_rate_obeys_a_maximum_that_was_lowered_later() -> None:
    assert reserved(replace(NEW, per_second=50.0), NOW, count=1, sent=0, bounds=BOUNDS).per_second == 7.0


@pytest.mark.parametrize("ahead", [0.0, 500.0, -500.0])
def test_workers_together_send_no_more_than_the_rate(ahead: float) -> None:
    clock = Clock()
    memory = Memory(clock, ahead)
    workers = [limiter(clock, memory, RateBounds(5.0, 5.0)) for _ in range(3)]
    for _ in range(20):
        for worker in workers:
            worker.wait()
    assert 59 / 5 - 1 <= clock.now - NOW <= 59 / 5 + 2


def test_a_pause_is_not_followed_by_a_burst() -> None:
    clock = Clock()
    limited = limiter(clock, Memory(clock))
    limited.wait()
    clock.now += 3600
    began = clock.now
    for _ in range(11):
        limited.wait()
    assert clock.now - began >= 10 / 5.0 - 1.5


def test_a_request_that_would_wait_too_long_is_refused() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.row = replace(NEW, next_slot_at=NOW + MAX_WAIT_SECONDS + 5)
    with pytest.raises(RateLimited) as caught:
        limiter(clock, memory).wait()
    assert caught.value.retry_after == pytest.approx(MAX_WAIT_SECONDS + 5)


def test_a_clock_that_jumps_back_stops_nobody() -> None:
    clock = Clock()
    limited = limiter(clock, Memory(clock))
    limited.wait()
    clock.now -= 86_400
    limited.wait()
    assert clock.now < NOW - 86_000


def test_without_a_ledger_each_process_keeps_the_rate_by_itself() -> None:
    clock = Clock()
    memory = Memory(clock)
    memory.away = True
    limited = limiter(clock, memory)
    for _ in range(11):
        limited.wait()
    assert clock.now - NOW >= 2.0
    limited.refuse()
    assert limited.per_second == 2.5


def test_many_answers_that_break_off_count_as_a_refusal() -> None:
    clock = Clock()
    limited = limiter(clock, Memory(clock))
    for _ in range(4):
        limited.wait()
        limited.note_broken()
    assert limited.per_second == 5.0
    limited.wait()
    limited.note_broken()
    assert limited.per_second < 5.0
