"""Helpers that write the heartbeats of a service in which every process is alive."""

from __future__ import annotations

from sqlalchemy.orm import Session

from scanner import __version__
from scanner.records import heartbeats
from scanner.records.heartbeats import Process
from workers.queues import BEAT, QUEUES

HOST = "host-1"
ROLES = (*dict.fromkeys(QUEUES.values()), BEAT)


def process(role: str, pid: int = 1, *, host: str = HOST, version: str = __version__) -> Process:
    """Return a process with the queues of its role."""
    return Process(role, host, pid, tuple(queue for queue, consumer in QUEUES.items() if consumer == role), version)


def seen(session: Session, *roles: str, silent_seconds: float = 0, age_seconds: float = 900, pid: int = 1) -> None:
    """Write the heartbeats of processes of these roles, or of one process of each role, with this age."""
    for role in roles or ROLES:
        heartbeats.write(session, process(role, pid), silent_seconds=silent_seconds, age_seconds=age_seconds)
