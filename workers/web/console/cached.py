"""Caches of values that pages show, so that they are read at most once in some seconds for all people together.

`Cached` reads the value in the thread of a request. `Refreshed` reads it in a background thread, for values that take
long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Generic, TypeVar

MAX_AGE_SECONDS = 30.0
"""A request waits for a new value if the old one is older than this.

Such a value is from a time when nobody looked at the page, and would mislead.
"""
MAX_WAIT_SECONDS = 2.0
"""How long a request waits for a new value. Then it gets the old value, whose age the page shows."""
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Cached(Generic[T]):
    """A cache of the value that `load` returns. A value is kept for `seconds`.

    While one thread loads a new value, other threads get the previous one.
    """

    def __init__(self, load: Callable[[], T], seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None

    def get(self) -> T:
        """Return the cached value, or load it if it is too old.

        If `load` raises, raise the same exception and cache nothing.
        """
        kept = self._kept
        if kept is not None and self._clock() - kept[0] < self._seconds:
            return kept[1]
        if not self._lock.acquire(blocking=kept is None):
            assert kept is not None  # noqa: S101 - otherwise we would have waited
            return kept[1]
        try:
            newer = self._kept
            if newer is not None and newer is not kept:
                return newer[1]
            value = self._load()
            self._kept = (self._clock(), value)
            return value
        finally:
            self._lock.release()

    def refresh(self) -> T:
        """Read the value now and keep it."""
        self.forget()
        return self.get()

    def forget(self) -> None:
        """Discard the value, so that the next call loads it. Call this after an action has changed the data."""
        self._kept = None


class Refreshed(Generic[T]):
    """A cache that a background thread refreshes when the value is older than `seconds`.

    Only the first request waits for the value. At most one refresh runs at a time.
    """

    def __init__(
        self,
        load: Callable[[], T],
        seconds: float,
        background: Callable[[], Executor],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._background = background
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None
        self._running: Future[None] | None = None
        self._tried_at = 0.0
        self._is_outdated = False

    def get(self) -> T:
        """Return the newest value, and start a refresh if it is due.

        If the first `load` raises, raise the same exception. A later failure is logged, and a later call tries again.
        """
        with self._lock:
            kept, now = self._kept, self._clock()
            is_due = kept is None or self._is_outdated or now - max(kept[0], self._tried_at) >= self._seconds
            if is_due and self._running is None:
                self._start(now)
            running = self._running
        if kept is None:
            assert running is not None  # noqa: S101 - without a value, a refresh is due
            running.result()
        elif running is not None and now - kept[0] > MAX_AGE_SECONDS:
            wait([running], MAX_WAIT_SECONDS)
        newest = self._kept
        assert newest is not None  # noqa: S101 - the first refresh returned or raised
        return newest[1]

    def forget(self) -> None:
        """Start a refresh at once.

        Call this after an action has changed the data. Requests get the old value until the refresh ends.
        """
        with self._lock:
            self._is_outdated = self._kept is not None
            if self._is_outdated and self._running is None:
                self._start(self._clock())

    def refresh(self) -> T:
        """Read the value in this thread, keep it and return it."""
        value = self._load()
        self._kept = (self._clock(), value)
        return value

    def _start(self, now: float) -> None:
        """Start a refresh in the background thread. The caller must hold the lock."""
        self._is_outdated = False
        self._tried_at = now
        running: Future[None] = self._background().submit(self._run)
        self._running = running

    def _run(self) -> None:
        try:
            self.refresh()
        except Exception:
            if self._kept is None:
                raise
            _log.exception("A value of the console could not be refreshed; pages show the old one and its age")
        finally:
            with self._lock:
                self._running = None
