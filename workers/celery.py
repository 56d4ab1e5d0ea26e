"""Defines the Celery app for `celery -A workers`. The app's settings are in celeryconfig.py."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from functools import cached_property
from typing import Any

from celery import Celery, Task, bootsteps, signals
from celery.backends.base import DisabledBackend
from celery.exceptions import SecurityWarning
from sqlalchemy.exc import DBAPIError

from scanner import __version__
from scanner.child_processes import die_with_parent
from scanner.private_folders import create_files_privately
from scanner.records.database import is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.spool import SpoolFull
from scanner.records.versions import WrongVersion
from scanner.settings import SettingsError
from workers import broker, observing, outage, watchdog
from workers.context import MAX_CHILD_CONNECTIONS, current_context, forget_context
from workers.health import heartbeats
from workers.logs import configure_logging, last_line
from workers.queues import BEAT, QUEUES, role_of
from workers.recycling import Recycler

# Celery warns when a worker runs as root. Ignore this, because the worker accepts only JSON.
warnings.filterwarnings("ignore", category=SecurityWarning)

VERSION_SECONDS = 60.0

_log = logging.getLogger(__name__)


class _NewerDatabase:
    """Checks, at most once a minute, whether a newer version of r8scan has upgraded the database."""

    def __init__(self) -> None:
        self._checked_at = -VERSION_SECONDS
        self._is_newer = False

    def is_cause(self) -> bool:
        """Return whether the database is newer than this program."""
        now = time.monotonic()
        if now - self._checked_at >= VERSION_SECONDS:
            self._checked_at = now
            try:
                current_context().check_version()
                self._is_newer = False
            except WrongVersion as err:
                self._is_newer = True
                _log.error("no task can run: %s", err)
        return self._is_newer


_newer = _NewerDatabase()


def fails_by_newer_database(err: BaseException) -> bool:
    """Return whether the error occurred because a newer version of r8scan has upgraded the database."""
    return isinstance(err, DBAPIError) and _newer.is_cause()


class OneLineErrors(Task):  # type: ignore[misc]  # celery has no types
    """The base class of all tasks. It logs temporary errors as one line without a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with watchdog.current().watching(self.name):
                return super().__call__(*args, **kwargs)
        except LeaseLost as err:
            _log.warning("%s: %s", self.name, err)
        except SpoolFull as err:
            _log.error("%s: %s", self.name, err)
        except Exception as err:
            if fails_by_newer_database(err):
                return None
            if not is_unavailable(err):
                raise
            outage.database.failed(err)
        return None


class App(Celery):  # type: ignore[misc]  # celery has no types
    """The Celery app. Its worker and its scheduler (beat) print only through r8scan's log."""

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 - Celery's name
        """Return the class that `celery worker` runs."""
        return self.subclass_with_self("workers.programs:Worker")

    @cached_property
    def backend(self) -> DisabledBackend:
        """Return a Celery result backend that stores no results."""
        # Celery's own search for a backend would go through all installed packages in each thread.
        return DisabledBackend(self)

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        """Return the class that `celery beat` runs."""
        return self.subclass_with_self("workers.programs:Beat")


broker.install()
app = App("workers", task_cls=OneLineErrors)
app.config_from_object("celeryconfig")


def _is_prefork(pool: Any) -> bool:
    return bool(pool.__class__.__module__.endswith(".prefork"))


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """A component of the Celery worker that regularly records that the worker is alive."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        queues = tuple(parent.app.amqp.queues.consume_from)
        role = role_of(queues)
        # A prefork pool needs no `Recycler`, because Celery itself replaces children whose memory has grown.
        will_fork = _is_prefork(parent.pool)
        then = None if will_fork else Recycler().look
        settings = current_context().settings
        heartbeats.start(settings, role, queues, end=watchdog.end_process, then=then, will_fork=will_fork)
        _log.info("a worker starts", extra={"role": role, "queues": queues, "version": __version__})
        if role in (QUEUES["responding"], "worker"):
            from workers.health import notifying  # scanners do not need this import

            notifying.start(current_context())

    def stop(self, parent: Any) -> None:
        del parent
        heartbeats.stop()


app.steps["worker"].add(Heartbeat)


@signals.beat_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _beat_starts(**_: Any) -> None:
    heartbeats.start(current_context().settings, BEAT, end=watchdog.end_process)
    scheduler = app.conf.beat_scheduler.partition(":")[2]
    _log.info("beat starts", extra={"role": BEAT, "scheduler": scheduler, "version": __version__})
    from workers.health import notifying

    notifying.start(current_context(), is_standby=True)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]  # celery has no types
def _shutting_down(**_: Any) -> None:
    """End the heartbeat when the worker shuts down."""
    heartbeats.request_stop()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # celery has no types
def _logs(**_: Any) -> None:
    create_files_privately()
    context = current_context()
    configure_logging(context.settings)
    # Import this only here, because a process that only sends messages does not need it.
    from workers import programs

    programs.say_as(context.settings.log_format)
    try:
        context.check()
        context.check_version()
        observing.start(context.settings)
    except (SettingsError, WrongVersion) as err:  # print one line instead of Celery's traceback
        print(last_line(str(err)), file=sys.stderr)  # noqa: T201 - the last output of the process
        raise SystemExit(1) from None


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # celery has no types
def _after_fork(**_: Any) -> None:
    die_with_parent()
    forget_context(MAX_CHILD_CONNECTIONS)
    observing.start(current_context().settings)
    watchdog.current().start()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # celery has no types
def _ready(sender: Any = None, **_: Any) -> None:
    """Start the watchdog, which ends the process if a task hangs."""
    # In a prefork pool, each child process starts its own watchdog.
    if not _is_prefork(sender.pool):
        watchdog.current().start()
