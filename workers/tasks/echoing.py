"""The tasks with which `r8scan doctor` tests whether each queue has a worker."""

from __future__ import annotations

import logging

from redis import RedisError

from workers.celery import app
from workers.context import current_context
from workers.health.checks import round_trip
from workers.queues import QUEUES

_log = logging.getLogger(__name__)


def _echo(queue: str) -> None:
    context = current_context()
    try:
        round_trip.answer(queue, context.database, context.settings)
    except RedisError as err:
        _log.warning(
            "r8scan doctor could not be answered (%s): it will report no worker",
            type(err).__name__,
        )


def _register(queue: str) -> None:
    @app.task(name=round_trip.task_name(queue))  # type: ignore[untyped-decorator]  # celery has no types
    def echo() -> None:
        """Record that a worker consumes this queue."""
        _echo(queue)


for _queue in QUEUES:
    _register(_queue)
