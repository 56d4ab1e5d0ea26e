"""Tests for the caches of values that the console's pages show."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from workers.web.console.cached import MAX_AGE_SECONDS, Refreshed


class Source:
    """A value that counts how often it is loaded. Each load except the first blocks until the test permits it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.allowed = threading.Semaphore(1)
        self.failure: Exception | None = None

    def load(self) -> int:
        assert self.allowed.acquire(timeout=30)
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self.reads


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def value(source: Source, background: ThreadPoolExecutor) -> Refreshed[int]:
    return Refreshed(source.load, 3.0, lambda: background, clock=lambda: source.now)


def finish(source: Source, background: ThreadPoolExecutor) -> None:
    """Allow the running load of the value to finish, and wait for its end."""
    source.allowed.release()
    background.submit(int).result(30)


def test_only_the_first_request_waits(source: Source, value: Refreshed[int], background: ThreadPoolExecutor) -> None:
    assert value.get() == 1
    source.now += 4
    assert [value.get(), value.get()] == [1, 1]
    finish(source, background)
    assert (value.get(), source.reads) == (2, 2)


def test_a_value_that_is_new_enough_is_not_read_again(source: Source, value: Refreshed[int]) -> None:
    assert [value.get(), value.get()] == [1, 1]
    assert source.reads == 1


def test_a_change_starts_a_refresh_at_once_and_one_more_after_a_running_one(
    source: Source, value: Refreshed[int], background: ThreadPoolExecutor
) -> None:
    value.get()
    value.forget()
    value.forget()
    assert value.get() == 1
    finish(source, background)
    assert value.get() == 2
    finish(source, background)
    assert value.get() == 3
    assert source.reads == 3


def test_a_value_that_is_too_old_is_read_again_before_it_is_returned(source: Source, value: Refreshed[int]) -> None:
    value.get()
    source.now += MAX_AGE_SECONDS + 1
    source.allowed.release()
    assert value.get() == 2


def test_a_request_does_not_wait_for_ever_for_a_refresh_that_hangs(
    source: Source, value: Refreshed[int], background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.web.console.cached.MAX_WAIT_SECONDS", 0.01)
    value.get()
    source.now += MAX_AGE_SECONDS + 1
    assert value.get() == 1
    finish(source, background)


def test_a_refresh_that_fails_is_logged_and_tried_again_after_the_interval(
    source: Source, value: Refreshed[int], background: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    value.get()
    source.failure = RuntimeError("the disk is full")
    source.now += 4
    assert value.get() == 1
    finish(source, background)
    assert "could not be refreshed" in caplog.text
    assert (value.get(), source.reads) == (1, 2)
    source.failure = None
    source.now += 4
    assert value.get() == 1
    finish(source, background)
    assert value.get() == 3


def test_the_first_request_gets_the_error_and_the_next_one_tries_again(source: Source, value: Refreshed[int]) -> None:
    source.failure = RuntimeError("the database is unavailable")
    with pytest.raises(RuntimeError, match="unavailable"):
        value.get()
    source.failure = None
    source.allowed.release()
    assert value.get() == 2
