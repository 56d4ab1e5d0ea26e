"""Starts services as forks of the supervisor process, so that they share the memory of the imported code.

If r8scan's source files have changed since their import, a new interpreter is started instead.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from scanner import tls
from scanner.child_processes import die_with_parent
from scanner.records.database import Database
from scanner.settings import Settings
from workers import memory, tasks

PACKAGES = ("scanner", "workers", "notifications")
SCANNERS = (
    *tasks.SCANNING,
    "notifications.gateways",
    "scanner.detection.detector",
    "scanner.github.client",
    "scanner.isolation",
    "scanner.sources.shared_budget",
    "scanner.tokens.http",
    "workers.programs",
)
"""The modules for services that only scan."""
OTHERS = (
    *tasks.ALL,
    "notifications.email.logo",
    "notifications.email.samples",
    "notifications.email.transports",
    "notifications.operator_channels",
    "workers.beat",
    "workers.health.notifying",
)
"""The modules that the other services need in addition."""
LIBRARIES = (
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.concurrency.prefork",
    "celery.concurrency.thread",
    "celery.events.receiver",
    "celery.fixups",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.control",
    "celery.worker.loops",
    "celery.worker.strategy",
    "encodings.idna",
    "h11",
    "httpcore",
    "kombu.asynchronous.semaphore",
    "kombu.transport.redis",
)
"""Modules that Celery and httpx would import only after the fork. Imported earlier, they use memory only once."""
FAILED = 70
"""The exit status of a fork that an exception has ended."""
WAIT_SECONDS = 0.02
HANDLED = (signal.SIGINT, signal.SIGTERM)
"""The signals that the supervisor handles."""

_log = logging.getLogger(__name__)


class ForkedChild:
    """A forked process. It has the methods of `subprocess.Popen` that the supervisor uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends, and return its exit status.

        Raises:
            subprocess.TimeoutExpired: The process still runs after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            time.sleep(WAIT_SECONDS)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Child = ForkedChild | subprocess.Popen[bytes]


def import_everything(*, is_scanner: bool = False) -> int:
    """Import all code that the services need.

    Args:
        is_scanner: Whether the forks only scan. For them, less is imported.

    Returns:
        The `fingerprint` of the source files before the import.
    """
    before = fingerprint()
    # Garbage collection during the imports would leave gaps in the memory, which forks could not share.
    gc.disable()
    for name in (*SCANNERS, *LIBRARIES) if is_scanner else (*SCANNERS, *OTHERS, *LIBRARIES):
        importlib.import_module(name)
    from sqlalchemy.orm import configure_mappers

    from scanner.detection.encodings.base64_tokens import base64_forms
    from scanner.detection.patterns.matcher import automata

    configure_mappers()
    automata()
    base64_forms()
    _finish_app(tasks.SCANNING if is_scanner else tasks.ALL)
    return before


def _finish_app(modules: tuple[str, ...]) -> None:
    """Make Celery read its settings and register the tasks of these modules before the fork."""
    from workers.celery import app

    app.conf.imports = modules
    app.loader.import_default_modules()
    app.finalize()
    _ = app.conf.broker_url, app.amqp.queues


def warm_up(database: Database, settings: Settings, *, is_scanner: bool = False) -> None:
    """Load certificate authorities, prepare database queries and compile templates before the fork.

    Args:
        database: The database. It is closed at the end, because the forks must not inherit a connection.
        is_scanner: Whether the forks only scan. For them, less is loaded.
    """
    tls.trusted()
    if not is_scanner:
        from notifications.email.render import MailIdentity, render
        from notifications.email.samples import samples
        from workers.health.overview import overview

        overview(database, settings)
        for _, facts in samples():
            render(facts, MailIdentity(sender="r8scan@localhost"))
    database.close()
    keep_memory_shared()


def keep_memory_shared() -> None:
    """Prepare this process's memory so that forks can share as much of it as possible."""
    # A process and its fork share a page of memory until one of them writes to it. Garbage collection would write.
    gc.freeze()
    memory.limit_kept_memory()


def fingerprint() -> int:
    """Return a number that changes when one of r8scan's source files changes."""
    found = []
    for package in PACKAGES:
        root = importlib.import_module(package).__path__[0]
        found += [(str(path), path.stat().st_mtime_ns) for path in sorted(Path(root).rglob("*.py"))]
    return hash(tuple(found))


def can_fork() -> bool:
    """Return whether this process may be forked: it must be on Linux and have only one thread."""
    # If another thread held a lock, the fork would inherit the lock and wait for it forever.
    return threading.active_count() == 1 and sys.platform == "linux"


def fork(main: Callable[[], object], environment: Mapping[str, str]) -> ForkedChild:
    """Run `main` in a forked process, which ends when its parent ends.

    Args:
        main: The function to run. The forked process ends when the function returns or raises SystemExit.
        environment: Environment variables for the forked process, added to those of its parent.
    """
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Block signals until the child has its own handlers: the handlers of the parent would swallow them.
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        return ForkedChild(pid)
    status = FAILED
    try:
        _begin(parent, environment)
        main()
        status = 0
    except SystemExit as err:
        status = err.code if isinstance(err.code, int) else int(err.code is not None)
        if isinstance(err.code, str):
            os.write(2, f"{err.code}\n".encode())
    except BaseException:  # noqa: BLE001 - the supervisor's code must not catch it
        _log.critical("a service ends: an exception was not caught", exc_info=True)
    finally:
        # `sys.exit` would run the supervisor's cleanup code, which stops the other services.
        os._exit(status)


def _begin(parent: int, environment: Mapping[str, str]) -> None:
    gc.enable()
    os.setsid()
    die_with_parent(parent)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    # Close all inherited files. Otherwise the lock file would keep the state folder locked after the supervisor's end.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.update(environment)
