"""Functions that write process heartbeats into the database."""

from __future__ import annotations

from sqlalchemy.orm import Session

from scanner import __version__
from scanner.records import heartbeats
from scanner.records.heartbeats import Process
from workers.queues import BEAT, QUEUES

HOST = "host-1"
ROLES = (*dict.fromkeys(QUEUES.values()), BEAT)


def process(role: str, pid: int = 1, *, host: str = HOST, version: str = __version__) -> Process:
    """Return a process that consumes the queues of this role."""
    return Process(role, host, pid, tuple(queue for queue, consumer in QUEUES.items() if consumer == role), version)


def seen(session: Session, *roles: str, silent_seconds: float = 0, age_seconds: float = 900, pid: int = 1) -> None:
    """Write a heartbeat for each role, as from one process per role.

    Args:
        session: A writing transaction.
        roles: The roles. By default, all roles.
        silent_seconds: The seconds since the processes were last active.
        age_seconds: The seconds since the processes were started.
        pid: The process id in the heartbeats.
    """
    for role in roles or ROLES:
        heartbeats.write(session, process(role, pid), silent_seconds=silent_seconds, age_seconds=age_seconds)
