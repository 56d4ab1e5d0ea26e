"""Wakes: Celery messages that tell a task to look for work now.

A lost message delays work only by seconds, because the sweeper wakes the task again while its work is due. Messages do
not expire, because the receiver's clock may differ from the sender's. Instead, the number of messages in a queue is
limited (see `workers.broker`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kombu.exceptions import OperationalError
from redis import RedisError

from scanner.records.states import JobKind
from workers import outage

MAX_WAKES = 8
"""Messages per wake. More would not help, because each task wakes the next one itself."""
TASKS_OF_JOBS = {
    JobKind.PUSHES: "r8scan.scan",
    JobKind.FILES: "r8scan.fetch",
    **dict.fromkeys((JobKind.REPOSITORY, JobKind.GIST, JobKind.OWNER, JobKind.ARCHIVE_HOUR), "r8scan.rescan"),
}
"""The task that processes each kind of job."""


def wake_outbox() -> None:
    """Wake the tasks that send the outbox: announcements to gateways first, then mails."""
    from workers.context import current_context

    if current_context().gateways:
        wake("r8scan.announce")
    wake("r8scan.deliver")


def wake(task_name: str, times: int = 1, arguments: Sequence[str] = ()) -> bool:
    """Ask workers to run a task now.

    Args:
        task_name: The name of the Celery task.
        times: How many messages to send, at most `MAX_WAKES`. That many workers may run the task at once.
        arguments: The arguments of the task.

    Returns:
        False if the broker is unavailable. The failure is logged.
    """
    from workers.celery import app

    try:
        for _ in range(min(times, MAX_WAKES)):
            app.send_task(task_name, arguments, ignore_result=True, retry=False)
    except (OperationalError, RedisError, OSError) as err:  # RedisError: Redis is full, or the key is not a list
        outage.broker.failed(err)
        return False
    outage.broker.worked()
    return True
