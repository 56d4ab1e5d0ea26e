"""The watchdog of a worker process: ends the process when a task in it hangs.

A thread cannot be killed. So the process ends: a child of a prefork pool is replaced by its worker, a worker with a
pool of threads by the supervisor or the container's restart policy. Celery's own time limits do nothing in pools of
threads.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scanner.records import leases
from scanner.records.leases import Keeping
from scanner.records.time_limits import GRACE_SECONDS, MAX_STEP_SECONDS, PAGE_SECONDS, POLL_SECONDS

EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h: the supervisor's log tells an end of this kind from a crash."""
LOOK_SECONDS = 1.0
DEAF_SECONDS = 60.0
"""When no Python code of the process has run for so long, C code holds the interpreter's lock."""
LAST_WORDS_SECONDS = 5.0
"""For the log and for giving back other rows before the end; a hung database or log must not prevent it."""

_MARGIN_SECONDS = 300.0
TASK_SECONDS = {
    "r8scan.poll": max(POLL_SECONDS.values()) + _MARGIN_SECONDS,
    "r8scan.scan": PAGE_SECONDS + _MARGIN_SECONDS,
    "r8scan.fetch": PAGE_SECONDS + _MARGIN_SECONDS,
    "r8scan.rescan": MAX_STEP_SECONDS + _MARGIN_SECONDS,
    # A hundred mails of at most 20 seconds each, and their rows.
    "r8scan.deliver": 2400.0,
    "r8scan.tidy": 3600.0,
}
"""Limits of whole tasks. The work under a lease has a lower limit of its own: this one is for what surrounds it."""
DEFAULT_TASK_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Watchdog:
    """Knows the tasks that its process works on, and ends the process when one of them does not end.

    Args:
        end: Ends the process; called once.
        grace_seconds: From the deadline of leased work to the end: work that notices the loss stops by itself.
    """

    def __init__(self, end: Callable[[], None] | None = None, grace_seconds: float = GRACE_SECONDS) -> None:
        self._end = end or _end_process
        self.grace_seconds = grace_seconds
        self._tasks: dict[object, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, task: str) -> Iterator[None]:
        """Count the block as work in hand on `task`."""
        key = object()
        with self._lock:
            self._tasks[key] = (task, time.monotonic() + TASK_SECONDS.get(task, DEFAULT_TASK_SECONDS))
        try:
            yield
        finally:
            with self._lock:
                del self._tasks[key]

    def hung(self) -> list[str]:
        """Return what is in hand and should have ended, as text for the log."""
        now = time.monotonic()
        with self._lock:
            tasks = [name for name, deadline in self._tasks.values() if now > deadline]
        return tasks + [_named(keeping) for keeping in leases.in_hand() if self._is_hung(keeping)]

    def look(self) -> bool:
        """End the process if something in it hangs; return whether it did."""
        hung = self.hung()
        if not hung:
            return False
        last_words = threading.Thread(target=self._last_words, args=(hung,), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_SECONDS)
        self._end()
        return True

    def start(self) -> None:
        """Look every second from a thread, for as long as the process lives."""
        threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()

    def _look_on(self) -> None:
        while True:
            # Runs without the interpreter's lock, so it fires also when C code never gives the lock back.
            faulthandler.dump_traceback_later(DEAF_SECONDS, exit=True, file=sys.__stderr__ or 2)
            if self.look():
                return
            time.sleep(LOOK_SECONDS)

    def _is_hung(self, keeping: Keeping) -> bool:
        return keeping.seconds_left < -self.grace_seconds

    def _last_words(self, hung: list[str]) -> None:
        _log.error("work hangs: this process ends and is started again", extra={"hung": ", ".join(hung)})
        for keeping in leases.in_hand():
            if not self._is_hung(keeping) and keeping.release is not None:
                # It ends through no fault of its own, and is due at once.
                keeping.release()


def _named(keeping: Keeping) -> str:
    return ", ".join(f"{lease.model.__tablename__} {lease.key}" for lease in keeping.held)


def _end_process() -> None:
    """End this process at once. Git and other children would otherwise outlive it, as they may not write any more."""
    for child in _children():
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os._exit(EXIT_STATUS)


def _children() -> list[int]:
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(pid) for pid in path.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found


_current = Watchdog()


def current() -> Watchdog:
    """Return the watchdog of this process. It only watches where `start` was called."""
    return _current
