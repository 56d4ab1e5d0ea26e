"""Celery's worker and scheduler (beat), which print only through the log."""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import cache
from typing import Any

from celery import Celery
from celery.apps import beat, worker


class Worker(worker.Worker):  # type: ignore[misc]  # celery has no types
    """A Celery worker that prints no banner."""

    def emit_banner(self) -> None:
        """Print no banner."""


class Beat(beat.Beat):  # type: ignore[misc]  # celery has no types
    """Celery's scheduler without its banner."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "quiet": True})


@cache
def parse(arguments: tuple[str, ...]) -> argparse.Namespace:
    """Parse the arguments that would follow `celery -A workers`. Only the supervisor's arguments are supported."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("beat").add_argument("--pidfile")
    options = commands.add_parser("worker")
    options.add_argument("-n", dest="name")
    options.add_argument("-Q", dest="queues")
    options.add_argument("-P", dest="pool")
    options.add_argument("-c", dest="concurrency", type=int)
    for feature in ("gossip", "mingle", "heartbeat"):
        options.add_argument(f"--without-{feature}", action="store_true")
    return parser.parse_args(arguments)


def start(app: Celery, wanted: argparse.Namespace) -> None:
    """Run a Celery worker or scheduler in this process until it is told to stop.

    Raises:
        SystemExit: The worker has ended. The exception contains its exit status.
    """
    if wanted.command == "beat":
        app.Beat().run()
        return
    running = app.Worker(
        hostname=wanted.name,
        queues=wanted.queues,
        pool=wanted.pool,
        concurrency=wanted.concurrency,
        optimization="default",
        loglevel="WARNING",
        without_gossip=wanted.without_gossip,
        without_mingle=wanted.without_mingle,
        without_heartbeat=wanted.without_heartbeat,
    )
    running.start()
    raise SystemExit(running.exitcode)


def say(message: str, _: object = None) -> None:
    """Write a message of Celery's signal handlers to standard error, as JSON if the log is JSON."""
    # Do not use the logging module, because the signal may have interrupted it while it wrote a line.
    line = message if _is_console else json.dumps(_event(message))
    try:
        os.write(2, f"{line}\n".encode())
    except OSError:
        return  # nobody reads standard error any more


def _event(message: str) -> dict[str, str]:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"event": message, "level": "warning", "logger": "celery.apps.worker", "timestamp": now}


def say_as(log_format: str) -> None:
    """Make Celery's signal handlers print with `say`, as JSON for the log format "json"."""
    global _is_console
    _is_console = log_format != "json"
    worker.safe_say = say


_is_console = True
