"""A value that is read at most once in some seconds, however many people look at the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Cached(Generic[T]):
    """Keeps what `load` returned for `seconds`. While one thread loads, the others get the value from before."""

    def __init__(self, load: Callable[[], T], seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: tuple[float, T] | None = None

    def get(self) -> T:
        """Return the value. Raises what `load` raises, and keeps nothing then."""
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

    def forget(self) -> None:
        """Have the next call load the value: something was just changed."""
        self._kept = None
