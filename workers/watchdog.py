"""Ends a worker process if one of its tasks hangs."""

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
from scanner.records.leases import HeldLeases
from scanner.records.time_limits import GRACE_SECONDS, MAX_STEP_SECONDS, PAGE_SECONDS, POLL_SECONDS

EXIT_STATUS = 70
"""The exit status of a process that the watchdog has ended: EX_SOFTWARE of sysexits.h."""
CHECK_INTERVAL_SECONDS = 1.0
FROZEN_INTERPRETER_SECONDS = 60.0
"""If no Python code runs for this long, faulthandler ends the process."""
MAX_SHUTDOWN_SECONDS = 5.0
"""The maximum time for writing to the log and releasing database rows before the process ends."""

_MARGIN_SECONDS = 300.0
TASK_SECONDS = {
    "r8scan.poll": max(POLL_SECONDS.values()) + _MARGIN_SECONDS,
    "r8scan.scan": PAGE_SECONDS + _MARGIN_SECONDS,
    "r8scan.fetch": PAGE_SECONDS + _MARGIN_SECONDS,
    "r8scan.rescan": MAX_STEP_SECONDS + _MARGIN_SECONDS,
    # One task sends up to a hundred mails, and each may take 20 seconds.
    "r8scan.deliver": 2400.0,
    "r8scan.tidy": 3600.0,
}
"""The time limits of whole tasks. Each job or poll in a task has its own, lower limit."""
DEFAULT_TASK_SECONDS = 600.0

_log = logging.getLogger(__name__)


class TaskWatchdog:
    """Ends the process when one of its tasks exceeds its time limit.

    Args:
        end: Ends the process. It is called once.
        grace_seconds: How long a task may continue after its deadline.
    """

    def __init__(self, end: Callable[[], None] | None = None, grace_seconds: float = GRACE_SECONDS) -> None:
        self._end = end or end_process
        self.grace_seconds = grace_seconds
        self._tasks: dict[object, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, task: str) -> Iterator[None]:
        """Count this task as running until the `with` block ends."""
        key = object()
        with self._lock:
            self._tasks[key] = (task, time.monotonic() + TASK_SECONDS.get(task, DEFAULT_TASK_SECONDS))
        try:
            yield
        finally:
            with self._lock:
                del self._tasks[key]

    def is_idle(self) -> bool:
        """Return whether no task runs in this process."""
        with self._lock:
            return not self._tasks

    def hung(self) -> list[str]:
        """Return the names of the tasks and jobs that have exceeded their time limit."""
        now = time.monotonic()
        with self._lock:
            tasks = [name for name, deadline in self._tasks.values() if now > deadline]
        return tasks + [_named(keeping) for keeping in leases.all_held() if self._is_hung(keeping)]

    def check(self) -> bool:
        """End the process and return True if a task has exceeded its time limit."""
        hung = self.hung()
        if not hung:
            return False
        preparing = threading.Thread(target=self._prepare_end, args=(hung,), daemon=True)
        preparing.start()
        preparing.join(MAX_SHUTDOWN_SECONDS)
        self._end()
        return True

    def start(self) -> None:
        """Start a thread that calls `check` every second."""
        threading.Thread(target=self._check_forever, name="watchdog", daemon=True).start()

    def _check_forever(self) -> None:
        while True:
            # faulthandler works even while C code blocks all Python code.
            faulthandler.dump_traceback_later(FROZEN_INTERPRETER_SECONDS, exit=True, file=sys.__stderr__ or 2)
            if self.check():
                return
            time.sleep(CHECK_INTERVAL_SECONDS)

    def _is_hung(self, keeping: HeldLeases) -> bool:
        return keeping.seconds_left < -self.grace_seconds

    def _prepare_end(self, hung: list[str]) -> None:
        _log.error("a task hangs: this process ends and will be restarted", extra={"hung": ", ".join(hung)})
        for keeping in leases.all_held():
            if not self._is_hung(keeping) and keeping.release is not None:
                # This job or poll does not hang. Release it, so that another worker can continue it at once.
                keeping.release()


def _named(keeping: HeldLeases) -> str:
    return ", ".join(f"{lease.model.__tablename__} {lease.key}" for lease in keeping.held)


def end_process() -> None:
    """Kill this process and its child processes at once."""
    # Python cannot stop a single thread, so the whole process must end.
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
        except OSError:  # the thread has ended meanwhile
            continue
    return found


_current = TaskWatchdog()


def current() -> TaskWatchdog:
    """Return the watchdog of this process. It does nothing before `start` is called."""
    return _current
