"""The heartbeat of this process: a row in the database for `r8scan status`, and a file for health checks.

If the thread that receives messages is stuck, no heartbeat is written, and the process ends.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scanner import __version__
from scanner.records import heartbeats
from scanner.records.database import Database, is_unavailable
from scanner.records.heartbeats import Process
from scanner.settings import Settings
from workers.health import pulse
from workers.health.machine import own_host
from workers.health.pulse import Mark, Pulse

WRITE_SECONDS = 10.0
"""The interval between two heartbeats. After 30 seconds without a heartbeat, a process counts as silent."""
DEAF_SECONDS = 90.0
"""If the thread that receives messages makes no progress for this long, it is stuck.

It must exceed 67 seconds, the longest time between two attempts to connect in an outage of the broker.
"""
STOP_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Heart:
    """Writes the heartbeat of this process until `stop` or `request_stop` is called.

    Args:
        progress: The progress of the thread that receives messages.
        end: Called if that thread is stuck. It must end the process.
        then: Called after each heartbeat.
        will_fork: Whether the process is forked later. If so, each heartbeat opens its own connection, because a fork
            must not inherit an open one.
    """

    def __init__(
        self,
        settings: Settings,
        process: Process,
        progress: Pulse | None = None,
        end: Callable[[], None] | None = None,
        then: Callable[[], None] | None = None,
        *,
        will_fork: bool = False,
    ) -> None:
        self._settings = settings
        self._process = process
        self._pulse = progress or pulse.current()
        self._end = end
        self._then = then
        self._will_fork = will_fork
        self._started = time.monotonic()
        self._stopped = threading.Event()
        self._is_away = False
        self._database: Database | None = None
        self._touched: Mark | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread that writes the heartbeat every ten seconds."""
        # A forked process has inherited its parent's last sign of life, which may be old. Record a new one.
        self._pulse.try_to_connect()
        self._thread.start()

    def request_stop(self) -> None:
        """Ask the heartbeat's thread to end, without waiting for it. A signal handler may call this method."""
        self._stopped.set()

    def stop(self) -> None:
        """Ask the heartbeat's thread to end, and wait for it, at most `STOP_SECONDS`."""
        self._stopped.set()
        self._thread.join(STOP_SECONDS)

    def close(self) -> None:
        """Close the connection to the database. The next heartbeat would open one again."""
        if self._database is not None:
            self._database.close()

    def look(self) -> None:
        """Write the heartbeat, or end the process if the thread that receives messages is stuck."""
        self._touch()
        if self._pulse.age(self._pulse.latest) > DEAF_SECONDS and self._end is not None:
            _log.error("this process no longer takes messages: it ends and is started again")
            self._end()
            return
        if self._pulse.worked is not None:
            self._in_database(self._write)
            if self._then is not None:
                self._then()

    def _run(self) -> None:
        while not self._stopped.wait(WRITE_SECONDS if self._pulse.worked else 1.0):
            self.look()
        self._in_database(self._remove)
        self.close()

    def _touch(self) -> None:
        path, latest = self._settings.alive_file, self._pulse.latest
        if path is not None and latest != self._touched:
            touch(path, latest.wall)
            self._touched = latest

    def _in_database(self, do: Callable[[Database], None]) -> None:
        try:
            if self._database is None:
                self._database = self._opened()
            do(self._database)
        except Exception as err:  # noqa: BLE001 - after any error, it is tried again soon
            if not self._is_away:
                words = "the database is unavailable" if is_unavailable(err) else "the database refuses it"
                _log.warning("the heartbeat was not written: %s (%s)", words, type(err).__name__)
            self._is_away = True
        else:
            self._is_away = False

    def _opened(self) -> Database:
        """Return the database. Keep one connection to PostgreSQL open, unless the process is forked later."""
        # A new connection to PostgreSQL costs more than the heartbeat itself. Opening SQLite's file costs little.
        url = self._settings.database_url.get_secret_value()
        keeps_connection = url.startswith("postgresql") and not self._will_fork
        return Database(url, max_connections=1 if keeps_connection else 0)

    def _write(self, database: Database) -> None:
        worked = self._pulse.worked
        assert worked is not None  # noqa: S101 - `look` has asked
        with database.write() as session:
            heartbeats.write(
                session,
                self._process,
                silent_seconds=max(self._pulse.age(worked), 0.0),
                age_seconds=time.monotonic() - self._started,
                clock=time.time(),
            )

    def _remove(self, database: Database) -> None:
        with database.write() as session:
            heartbeats.remove(session, self._process)


_current: Heart | None = None


def start(
    settings: Settings,
    role: str,
    queues: tuple[str, ...] = (),
    end: Callable[[], None] | None = None,
    then: Callable[[], None] | None = None,
    *,
    will_fork: bool = False,
) -> None:
    """Start the heartbeat of this process.

    Args:
        role: The role of this process, such as poller.
        end: Ends the process. It is called if the process no longer takes messages.
        then: Called after each heartbeat.
        will_fork: Whether the process is forked later.
    """
    global _current
    _current = Heart(settings, process(role, queues), end=end, then=then, will_fork=will_fork)
    _current.start()


def request_stop() -> None:
    """Ask the heartbeat's thread to end, if there is one, without waiting for it."""
    if _current is not None:
        _current.request_stop()


def stop() -> None:
    """Ask the heartbeat's thread to end, if there is one, and wait for it."""
    if _current is not None:
        _current.stop()


def process(role: str, queues: tuple[str, ...] = ()) -> Process:
    """Return the description of this process for its heartbeat."""
    return Process(role, own_host(), os.getpid(), queues, __version__)


def touch(path: Path, at: float) -> None:
    """Set the file's modification time to `at` (seconds since the epoch). If this fails, only log the error."""
    try:
        path.touch(mode=0o600)
        os.utime(path, (at, at))
    except OSError as err:
        _log.warning("cannot write the alive file %s (%s)", path, err.strerror)
