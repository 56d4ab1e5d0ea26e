"""Caches for values that the console's pages show. All requests share a cached value.

`Cached` loads a value in the thread of a request, `Refreshed` in a background thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait
from typing import Generic, TypeVar

MAX_AGE_SECONDS = 30.0
"""If the cached value is older than this, it would mislead people, so a request waits for a new one."""
MAX_WAIT_SECONDS = 2.0
"""The maximum time that a request waits for a new value before it gets the old one."""
_log = logging.getLogger(__name__)

T = TypeVar("T")


class Cached(Generic[T]):
    """Caches the value that `load` returns for `seconds` seconds. While a new value is loaded, other threads get the
    old one.
    """

    def __init__(self, load: Callable[[], T], seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None

    def get(self) -> T:
        """Return the cached value, or load a new one. Exceptions of `load` are raised."""
        kept = self._kept
        if kept is not None and self._clock() - kept[0] < self._seconds:
            return kept[1]
        if not self._lock.acquire(blocking=kept is None):
            assert kept is not None  # noqa: S101 - without a value, `acquire` waits and returns True
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
        """Load, cache and return a new value."""
        self.forget()
        return self.get()

    def forget(self) -> None:
        """Discard the cached value. Call this after an action has changed the data."""
        self._kept = None


class Refreshed(Generic[T]):
    """Caches the value that `load` returns. After `seconds` seconds, a background thread loads a new one.

    A request waits if there is no value. If the value is older than MAX_AGE_SECONDS, it waits at most MAX_WAIT_SECONDS.
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
        """Return the newest value. Raise the exception of `load` if there is no value yet."""
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
        """Start loading a new value after an action has changed the data. Until it is loaded, requests get the old
        one.
        """
        with self._lock:
            self._is_outdated = self._kept is not None
            if self._is_outdated and self._running is None:
                self._start(self._clock())

    def refresh(self) -> T:
        """Load a new value in the caller's thread, cache it and return it."""
        value = self._load()
        self._kept = (self._clock(), value)
        return value

    def _start(self, now: float) -> None:
        """Start loading a new value in the background. The caller must hold `_lock`."""
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
