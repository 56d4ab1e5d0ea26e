"""Rows of processes that are alive: written by each process for itself, read by the status."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.records.health_models import Heartbeat
from scanner.records.models import db_now

KEPT_SECONDS = 30 * 86400.0
"""A process that was killed and never came back is forgotten after this time."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the service, as it introduces itself."""

    role: str
    host: str
    pid: int
    queues: tuple[str, ...]
    version: str


def write(session: Session, process: Process, *, silent_seconds: float, age_seconds: float) -> None:
    """Write that the process was seen `silent_seconds` ago and was started `age_seconds` ago."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Heartbeat).values(
        role=process.role,
        host=process.host,
        pid=process.pid,
        queues=",".join(process.queues),
        version=process.version,
        started_at=db_now(-age_seconds),
        seen_at=db_now(-silent_seconds),
    )
    changed = {name: statement.excluded[name] for name in ("queues", "version", "started_at", "seen_at")}
    session.execute(statement.on_conflict_do_update(index_elements=["role", "host", "pid"], set_=changed))


def remove(session: Session, process: Process) -> None:
    """Delete the row of a process that ends by itself."""
    session.execute(
        delete(Heartbeat).where(
            Heartbeat.role == process.role, Heartbeat.host == process.host, Heartbeat.pid == process.pid
        )
    )


def purge_expired(session: Session) -> None:
    """Delete rows of processes that were seen last a month ago, or in a future that a clock invented."""
    session.execute(
        delete(Heartbeat).where(
            or_(Heartbeat.seen_at < db_now(-KEPT_SECONDS), Heartbeat.seen_at > db_now(KEPT_SECONDS))
        )
    )
