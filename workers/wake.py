"""Rings: messages that say "look now". Losing one costs seconds, since the sweeper rings again for whatever is due."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError
from redis import RedisError

_log = logging.getLogger(__name__)

MAX_WAKES = 8
EXPIRES_SECONDS = 60
TASKS_OF_JOBS = {
    "pushes": "r8scan.scan",
    "files": "r8scan.fetch",
    **dict.fromkeys(("repository", "gist", "owner", "archive_hour"), "r8scan.rescan"),
}
"""The task that works on jobs of each kind."""


def wake_outbox() -> None:
    """Somebody has to be told something: gateways first, then owners and the operator."""
    from workers import context

    if context.current().gateways:
        wake("r8scan.announce")
    wake("r8scan.deliver")


def wake(task_name: str, times: int = 1) -> bool:
    """Ask workers to run the task, `times` of them at once; False (and a log line) when the broker is away."""
    from workers.celery import app

    try:
        for _ in range(min(times, MAX_WAKES)):
            app.send_task(task_name, expires=EXPIRES_SECONDS, ignore_result=True, retry=False)
    except (OperationalError, RedisError, OSError) as err:  # RedisError: a full Redis, or a key that is no list
        _log.warning("the broker is away (%s); what is due waits in its row", type(err).__name__)
        return False
    return True
