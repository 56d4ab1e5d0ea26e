"""Writes refused requests to the security log: one line for each request, and above a limit one line a minute with
their number.

The limit prevents an attacker from filling the log with such requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from scanner.records import security_log

MAX_LINES = 30
"""Lines of one kind in one period."""
PERIOD_SECONDS = 60.0


class Refusals:
    """Writes refusals to the security log and counts them, by kind. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._written: Counter[str] = Counter()
        self._unwritten: Counter[str] = Counter()

    def add(self, kind: str, network: str, reason: str) -> None:
        """Record one refusal.

        Args:
            kind: The name of the line in the security log, such as "alert_refused".
            network: The network of the client, never its whole address.
            reason: The reason of the refusal, without any part of the input.
        """
        self.flush()
        with self._lock:
            self._written[kind] += 1
            is_shown = self._written[kind] <= MAX_LINES
            self._unwritten[kind] += not is_shown
        if is_shown:
            security_log.write(kind, {"network": network, "reason": reason}, level=logging.WARNING)

    def flush(self) -> None:
        """If a minute has passed, write for each kind the number of refusals that were not written one by one."""
        with self._lock:
            if self._clock() - self._began < PERIOD_SECONDS:
                return
            counted, self._began = +self._unwritten, self._clock()
            self._written.clear()
            self._unwritten.clear()
        for kind, number in counted.items():
            security_log.write(kind, {"refusals": number, "reason": "further ones"}, level=logging.WARNING)


of_this_process = Refusals()
"""The refusals of this process."""
