"""Sends Celery messages that tell the workers to run a task now. Such a message is called a wake.

A lost message is replaced within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from scanner.records.states import JobKind
from workers import outage

MAX_WAKES = 8
"""The maximum number of messages that one call of `wake` sends. A task that finds work starts itself again."""
TASKS_OF_JOBS = {
    JobKind.PUSHES: "r8scan.scan",
    JobKind.FILES: "r8scan.fetch",
    **dict.fromkeys((JobKind.REPOSITORY, JobKind.GIST, JobKind.OWNER, JobKind.ARCHIVE_HOUR), "r8scan.rescan"),
}
"""The name of the task that processes each kind of job."""


def wake_outbox() -> None:
    """Start the tasks that send announcements and mails."""
    from workers.context import current_context

    if current_context().gateways:
        wake("r8scan.announce")
    wake("r8scan.deliver")


def wake(task_name: str, times: int = 1, arguments: Sequence[str] = ()) -> bool:
    """Ask the workers to run a task now. Return False if the broker is unavailable.

    Args:
        times: How many messages to send, at most `MAX_WAKES`. Each message makes one worker run the task.
        arguments: The arguments of the task.
    """
    # Import these here, because a web server that has received nothing yet does not need Celery.
    from kombu.exceptions import OperationalError
    from redis import RedisError

    from workers.celery import app

    try:
        for _ in range(min(times, MAX_WAKES)):
            app.send_task(task_name, arguments, ignore_result=True, retry=False)
    except (OperationalError, RedisError, OSError) as err:  # for example, Redis is full
        outage.broker.failed(err)
        return False
    outage.broker.worked()
    return True
