"""The Celery queues of the service, and the role of the process that consumes each queue."""

from __future__ import annotations

QUEUES = {
    "polling": "poller",
    "responding": "responder",
    "notifying": "responder",
    "scanning": "scanner",
    "rescans": "rescanner",
}
"""The role of the process that consumes each queue."""
BEAT, WEB = "beat", "web"
"""The roles of processes that consume no queue."""


def role_of(queues: tuple[str, ...]) -> str:
    """Return the role of a process that consumes these queues, or `worker` if they belong to several roles."""
    roles = {QUEUES[queue] for queue in queues if queue in QUEUES}
    return roles.pop() if len(roles) == 1 else "worker"
