"""Logs refused requests, with a limited number of lines, so that an attacker cannot fill the log."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from scanner.records import security_log

MAX_LINES = 30
"""The maximum number of log lines about one kind of refusal in PERIOD_SECONDS."""
PERIOD_SECONDS = 60.0


class Refusals:
    """Writes refused requests to the security log, with a limit for each kind. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._written: Counter[str] = Counter()
        self._unwritten: Counter[str] = Counter()

    def add(self, kind: str, network: str, reason: str) -> None:
        """Log one refused request. Above MAX_LINES, only count it.

        Args:
            kind: The name of the event in the log, such as "alert_refused".
            network: The client's network, never its whole address.
            reason: The reason for the refusal, without any part of the input.
        """
        self.flush()
        with self._lock:
            self._written[kind] += 1
            is_shown = self._written[kind] <= MAX_LINES
            self._unwritten[kind] += not is_shown
        if is_shown:
            security_log.write(kind, {"network": network, "reason": reason}, level=logging.WARNING)

    def flush(self) -> None:
        """Log, every PERIOD_SECONDS, how many refused requests of each kind were not logged one by one."""
        with self._lock:
            if self._clock() - self._began < PERIOD_SECONDS:
                return
            counted, self._began = +self._unwritten, self._clock()
            self._written.clear()
            self._unwritten.clear()
        for kind, number in counted.items():
            security_log.write(kind, {"refusals": number, "reason": "further ones"}, level=logging.WARNING)


of_this_process = Refusals()
"""The object that logs all refused requests of this process."""
