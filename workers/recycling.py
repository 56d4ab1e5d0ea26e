"""Ends a worker that uses much memory or has run for a day, so that it is started again."""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

from workers import watchdog

MAX_MEMORY_BYTES = 1024**3
"""The resident memory above which a worker ends itself. An idle worker has 120 MB, mostly shared with its parent."""
MAX_AGE_SECONDS = 86400.0
SPREAD_SECONDS = 7200
"""The span in which workers that were started together end themselves, so that not all end at once."""
PATIENCE_SECONDS = 1800.0
"""How long a worker with too much memory waits until it is idle, before it ends itself anyway."""

_log = logging.getLogger(__name__)


class Recycler:
    """Ends this process if it uses much memory or has run for a day, preferably while no task runs.

    Args:
        memory: Returns the resident memory of the process in bytes.
        end: Ends the process when its current tasks are done.
        clock: Returns seconds of a monotonic clock.
    """

    def __init__(
        self,
        is_idle: Callable[[], bool] | None = None,
        memory: Callable[[], int] | None = None,
        end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_idle = is_idle or watchdog.current().is_idle
        self._memory = memory or resident_bytes
        self._end = end or _end_warmly
        self._clock = clock
        self._old_at = clock() + MAX_AGE_SECONDS + os.getpid() % SPREAD_SECONDS
        self._large_since: float | None = None
        self._has_ended = False

    def look(self) -> None:
        """End the process if it uses too much memory or is too old. Call this every few seconds."""
        if not self._has_ended and (reason := self._reason()):
            self._has_ended = True
            _log.info("this worker ends, to be started again: %s", reason)
            self._end()

    def _reason(self) -> str | None:
        now, size = self._clock(), self._memory()
        if size <= MAX_MEMORY_BYTES:
            self._large_since = None
            return "it has run for a day" if now > self._old_at and self._is_idle() else None
        self._large_since = now if self._large_since is None else self._large_since
        if self._is_idle() or now - self._large_since > PATIENCE_SECONDS:
            return f"it has grown to {size / 1e6:,.0f} MB"
        return None


def resident_bytes() -> int:
    """Return the resident memory of this process in bytes, including memory shared with its parent."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0  # there is no /proc, because the system is not Linux


def _end_warmly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
