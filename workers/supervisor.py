"""Runs the whole service on one machine: Redis, the workers and beat (the scheduler). Ended processes are started
again.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from scanner.child_processes import start_child
from scanner.records import versions
from scanner.records.database import Database, DatabaseUnavailable, is_unavailable
from scanner.settings import Settings
from workers import embedded_redis, forked
from workers.bulkheads import RESCANNER_THREADS, RESPONDER_THREADS
from workers.context import MAX_CHILD_CONNECTIONS, MAX_CONNECTIONS, Context, use_context
from workers.forked import Child
from workers.health import heartbeats, pulse, systemd
from workers.health.machine import configuration
from workers.queues import BEAT, QUEUES
from workers.short_child import upgrade_in_child

DRAIN_SECONDS = 30.0
"""The time in which workers must finish their work after SIGTERM before they are killed."""
MAX_RESTART_DELAY_SECONDS = 30.0
DEAF_SECONDS = 120.0
"""A process that does not update its heartbeat file for this long is killed. It may be stuck in C code."""
LOOK_SECONDS = 0.5
BEAT_CONNECTIONS = 2
TOUCH_SECONDS = 5.0
STABLE_SECONDS = 60.0
"""A process that has run for this long is restarted without a delay."""

ROLES = (*dict.fromkeys(QUEUES.values()), BEAT)
"""The roles of the processes that `r8scan run` starts."""

_log = logging.getLogger(__name__)


class CannotRun(Exception):
    """Raised if the service cannot start. The message is one line."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process that the supervisor keeps running.

    Attributes:
        name: The name of the process in logs and of its heartbeat file.
        arguments: The command-line arguments that follow `celery -A workers`.
        connections: The maximum number of its database connections.
    """

    name: str
    arguments: tuple[str, ...]
    connections: int = MAX_CONNECTIONS


def services(processes: int, only: Collection[str] = ROLES) -> list[Service]:
    """Return the processes to run on one machine.

    Args:
        processes: The number of processes that scan pushes.
        only: Return only processes with these roles, such as poller.
    """
    # Polling has its own process, so that slow scans, mails or reports do not delay it.
    scanners = [f"scanner-{number}" for number in range(1, processes + 1)]
    by_role = {
        "poller": [Service("poller", _worker("poller", "polling", "threads", 4))],
        "responder": [
            Service("responder", _worker("responder", "responding,notifying", "threads", RESPONDER_THREADS)),
        ],
        "scanner": [Service(name, _worker(name, "scanning", "threads", 1), MAX_CHILD_CONNECTIONS) for name in scanners],
        "rescanner": [Service("rescanner", _worker("rescanner", "rescans", "threads", RESCANNER_THREADS))],
        BEAT: [Service(BEAT, ("beat", "--pidfile="), BEAT_CONNECTIONS)],
    }
    return [service for role, found in by_role.items() if role in only for service in found]


def _worker(name: str, queues: str, pool: str, concurrency: int) -> tuple[str, ...]:
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return ("worker", "-n", f"{name}@r8scan", "-Q", queues, "-P", pool, "-c", str(concurrency), *options)


def create_folder(state_dir: Path) -> None:
    """Create the state folder, if it does not exist.

    Raises:
        CannotRun: The folder cannot be created.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as err:
        raise CannotRun(f"cannot write to the state folder {state_dir} ({err.strerror}): set R8SCAN_STATE_DIR") from err


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Create the state folder, and lock it until the `with` block ends.

    Raises:
        CannotRun: The folder cannot be written, or another r8scan process has locked it.
    """
    path = state_dir / "run.lock"
    create_folder(state_dir)
    try:
        file = path.open("a+")
    except OSError as err:
        raise CannotRun(f"cannot write to the state folder {state_dir} ({err.strerror}): set R8SCAN_STATE_DIR") from err
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            raise CannotRun(f"r8scan already runs on {state_dir} (process {holder})") from err
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _database_setting(settings: Settings) -> str:
    """Return the name of the setting that determines the database: R8SCAN_STATE_DIR or R8SCAN_DATABASE_URL."""
    return "R8SCAN_STATE_DIR" if settings.is_default_database else "R8SCAN_DATABASE_URL"


def prepare(settings: Settings) -> None:
    """Upgrade the database's tables, if necessary.

    Raises:
        CannotRun: The database cannot be opened.
    """
    url = settings.database_url.get_secret_value()
    try:
        with closing(Database(url)) as database, database.read() as session:
            before = after = versions.present(session)
        if before != versions.wanted():
            before, after = upgrade_in_child(url)
    except DatabaseUnavailable as err:
        raise CannotRun(f"{err}: set {_database_setting(settings)}") from err
    except Exception as err:
        if not is_unavailable(err):
            raise
        cause = "".join(str(getattr(err, "orig", err)).strip().splitlines()[:1]) or type(err).__name__
        todo = f"check {_database_setting(settings)}, that the database is up, and that its disk has room"
        raise CannotRun(f"the database cannot be opened ({cause}): {todo}") from err
    if before != after:
        _log.info("database upgraded", extra={"from_revision": before or "empty", "to_revision": after})


class Supervisor:
    """The parent process. It keeps the services running until it is told to stop."""

    def __init__(self, settings: Settings, *, processes: int = 2, only: Collection[str] = ROLES) -> None:
        self._settings = settings
        self._services = services(processes, only)
        self._is_whole = set(only) == set(ROLES)
        self._is_scanner = set(only) == {"scanner"}
        self._is_embedded = settings.redis_url.get_secret_value() == "embedded"
        self._children: dict[str, Child] = {}
        self._fingerprint: int | None = None
        self._restart_at: dict[str, float] = {}
        self._delay: dict[str, float] = {}
        self._started_at: dict[str, float] = {}
        self._touched: dict[str, float] = {}
        self._life: dict[str, float] = {}
        self._own_touch = -TOUCH_SECONDS
        self._stop = threading.Event()

    def run(self) -> None:
        """Start all processes and wait for SIGINT or SIGTERM. Then let the workers finish their current work.

        Raises:
            CannotRun: The service cannot start.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        # Several supervisors may share a folder if each starts only some services and Redis runs elsewhere.
        is_alone = self._is_embedded or self._is_whole
        create_folder(self._settings.state_dir)
        with locked(self._settings.state_dir) if is_alone else nullcontext():
            prepare(self._settings)
            try:
                self._start_all()
                _log.info(
                    "running; Ctrl-C stops",
                    extra={
                        "state": str(self._settings.state_dir),
                        "github": self._settings.github_api_url,
                        **configuration(self._settings)._asdict(),
                    },
                )
                notifier = systemd.current_notifier()
                while not self._stop.wait(LOOK_SECONDS):
                    self._end_deaf()
                    self._revive()
                    self._touch()
                    notifier.alive()
            finally:
                self._drain()

    def stop(self) -> None:
        """Make `run` stop the processes and return."""
        self._stop.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._stop.is_set():
            raise SystemExit(130)  # a second signal: end at once
        self._stop.set()

    def _start_all(self) -> None:
        if self._is_embedded:
            self._start_redis()
        self._fingerprint = forked.import_everything(is_scanner=self._is_scanner)
        from workers import programs

        for service in self._services:
            # Parse the arguments before the fork, so that all child processes share the parser's memory.
            programs.parse(service.arguments)
        database = Database(self._settings.database_url.get_secret_value())
        forked.warm_up(database, self._settings, is_scanner=self._is_scanner)
        self._start_all_services()

    def _start_all_services(self) -> None:
        for service in self._services:
            self._start(service)

    def _start_redis(self) -> None:
        try:
            self._children["redis"] = embedded_redis.start(self._settings.state_dir)
        except embedded_redis.RedisUnavailable as err:
            raise CannotRun(str(err)) from err

    def _start(self, service: Service) -> None:
        folder = self._settings.state_dir.absolute()
        alive = self._alive_file(service.name)
        alive.unlink(missing_ok=True)
        # NOTIFY_SOCKET is the address of systemd. Hide it, because only the supervisor sends messages to systemd.
        own = {"R8SCAN_STATE_DIR": str(folder), "R8SCAN_ALIVE_FILE": str(alive), "NOTIFY_SOCKET": ""}
        if self._fingerprint == forked.fingerprint() and forked.can_fork():
            from workers import programs

            # Parse the arguments and copy the settings before the fork, so that the children share this memory.
            wanted = programs.parse(service.arguments)
            context = Context(
                self._settings.model_copy(update={"state_dir": folder, "alive_file": alive}), service.connections
            )
            self._children[service.name] = forked.fork(lambda: run_forked(context, wanted), own)
        else:
            command = [sys.executable, "-m", "celery", "-A", "workers", "--quiet", *service.arguments]
            self._children[service.name] = start_child(command, env={**os.environ, **own}, own_group=True)
        self._started_at[service.name] = self._life[service.name] = time.monotonic()
        self._touched.pop(service.name, None)

    def _touch(self) -> None:
        """Update the time of the supervisor's own heartbeat file."""
        path, now = self._settings.alive_file, time.monotonic()
        if path is not None and now - self._own_touch > TOUCH_SECONDS:
            self._own_touch = now
            heartbeats.touch(path, time.time())

    def _alive_file(self, name: str) -> Path:
        own = self._settings.alive_file
        return self._settings.state_dir.absolute() / f"alive-{name}" if own is None else own.with_name(f"alive-{name}")

    def _end_deaf(self) -> None:
        """Kill child processes that no longer take messages."""
        now = time.monotonic()
        for service in self._services:
            child = self._children.get(service.name)
            if child is None or child.poll() is not None:
                continue
            try:
                touched = self._alive_file(service.name).stat().st_mtime
            except OSError:
                touched = 0.0
            # Test whether the file's time has changed, not how old it is: the system's clock may have jumped.
            if touched != self._touched.get(service.name):
                self._touched[service.name], self._life[service.name] = touched, now
            if now - self._life[service.name] > DEAF_SECONDS:
                _log.error("a process no longer takes messages: it is killed", extra={"child": service.name})
                child.kill()

    def _revive(self) -> None:
        """Restart processes that have ended, after a delay if they ended soon."""
        now = time.monotonic()
        by_name = {service.name: service for service in self._services}
        for name, child in list(self._children.items()):
            if child.poll() is None:
                continue
            if name not in self._restart_at:
                is_stable = now - self._started_at.get(name, now) > STABLE_SECONDS
                delay = 0.0 if is_stable else self._delay.get(name, 0.0)
                self._delay[name] = min(max(delay * 2, 1.0), MAX_RESTART_DELAY_SECONDS)
                self._restart_at[name] = now + delay
                _log.log(
                    logging.ERROR if child.returncode else logging.INFO,
                    "a process ended and will be restarted",
                    extra={"child": name, "status": child.returncode, "delay_seconds": delay},
                )
            if now >= self._restart_at[name]:
                del self._restart_at[name]
                try:
                    self._start(by_name[name]) if name in by_name else self._start_redis()
                except CannotRun as err:
                    _log.error("%s", err)

    def _drain(self) -> None:
        redis = self._children.pop("redis", None)
        for child in self._children.values():
            _signal_quietly(child, signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS
        for name, child in self._children.items():
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                _log.warning(
                    "a process did not stop in time and is killed; the next start resumes its work",
                    extra={"child": name},
                )
                child.kill()
                child.wait()
        if redis is not None:
            _signal_quietly(redis, signal.SIGTERM)
            redis.wait()


def run_forked(context: Context, wanted: argparse.Namespace) -> None:
    """Run a service in this process, which must be a fork of the supervisor.

    Raises:
        SystemExit: A worker has ended. The exception contains its exit status.
    """
    from workers.celery import app
    from workers.programs import start

    use_context(context)
    # The last attempt to reach Redis was the supervisor's and may be long ago, so record a new one.
    pulse.current().try_to_connect()
    start(app, wanted)


def _signal_quietly(child: Child, number: signal.Signals) -> None:
    if child.poll() is None:
        child.send_signal(number)
