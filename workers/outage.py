"""Logs an outage of a server with few lines: when it begins, at growing intervals, and when it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

FIRST_SECONDS = 10.0
MAX_SECONDS = 3600.0


class Outage:
    """Logs the outages of one server. Threads may share it.

    Args:
        what: The name of the server in the log, such as "Redis".
        meanwhile: What the program does until the server is back, as text for the log.
        clock: Returns seconds from a monotonic clock.
    """

    def __init__(
        self, log: logging.Logger, what: str, meanwhile: str, clock: Callable[[], float] | None = None
    ) -> None:
        self._log, self._what, self._meanwhile = log, what, meanwhile
        self._clock = clock or (lambda: time.monotonic())
        self._lock = threading.Lock()
        self._began: float | None = None
        self._next_at = self._interval = 0.0
        self._failures = 0

    def failed(self, err: BaseException) -> None:
        """Count a failed request to the server, and log the outage if a line is due."""
        with self._lock:
            now = self._clock()
            if self._began is None:
                self._began, self._next_at, self._interval, self._failures = now, now, FIRST_SECONDS, 0
            self._failures += 1
            if now < self._next_at:
                return
            seconds = round(now - self._began)
            self._next_at, self._interval = now + self._interval, min(self._interval * 2, MAX_SECONDS)
            failures = self._failures
        extra = {"seconds": seconds, "failures": failures}
        self._log.warning("%s is unavailable (%s); %s", self._what, type(err).__name__, self._meanwhile, extra=extra)

    def worked(self) -> None:
        """Record a successful request to the server, and log the end of an outage."""
        if self._began is None:
            return
        with self._lock:
            began, self._began = self._began, None
        if began is not None:
            self._log.warning("%s answers again", self._what, extra={"seconds": round(self._clock() - began)})


broker = Outage(logging.getLogger("workers.broker"), "Redis", "due work waits in the database")
"""Logs the outages of Redis."""
database = Outage(logging.getLogger("workers.database"), "the database", "finds and events wait in the spool")
"""Logs the outages of the database."""
