"""Heartbeats: each process of the service regularly updates its own row, and `r8scan status` shows the rows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from scanner.records.columns import insert_into
from scanner.records.health_models import Heartbeat
from scanner.records.models import db_now

KEPT_SECONDS = 30 * 86400.0
"""The heartbeat of a killed process is deleted after this time."""


@dataclass(frozen=True, slots=True)
class Process:
    """The data about a process of the service that its heartbeat contains."""

    role: str
    host: str
    pid: int
    queues: tuple[str, ...]
    version: str


def write(
    session: Session, process: Process, *, silent_seconds: float, age_seconds: float, clock: float | None = None
) -> None:
    """Write the heartbeat of a process.

    Args:
        silent_seconds: The seconds since the process last made progress.
        age_seconds: The seconds since the process was started.
        clock: The host's time, in seconds since the epoch.
    """
    now = session.execute(select(db_now())).scalar_one()
    statement = insert_into(session, Heartbeat).values(
        role=process.role,
        host=process.host,
        pid=process.pid,
        queues=",".join(process.queues),
        version=process.version,
        started_at=db_now(-age_seconds),
        seen_at=db_now(-silent_seconds),
        clock_ahead_seconds=None if clock is None else clock - now.timestamp(),
    )
    names = ("queues", "version", "started_at", "seen_at", "clock_ahead_seconds")
    changed = {name: statement.excluded[name] for name in names}
    session.execute(statement.on_conflict_do_update(index_elements=["role", "host", "pid"], set_=changed))


def remove(session: Session, process: Process) -> None:
    """Delete the heartbeat of a process that is ending normally."""
    session.execute(
        delete(Heartbeat).where(
            Heartbeat.role == process.role, Heartbeat.host == process.host, Heartbeat.pid == process.pid
        )
    )


def purge_expired(session: Session) -> None:
    """Delete heartbeats that are more than a month in the past or in the future."""
    session.execute(
        delete(Heartbeat).where(
            or_(Heartbeat.seen_at < db_now(-KEPT_SECONDS), Heartbeat.seen_at > db_now(KEPT_SECONDS))
        )
    )
